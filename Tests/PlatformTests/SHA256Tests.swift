import Testing

@testable import Platform

@Suite("SHA-256")
struct SHA256Tests {
    /// A text, and what Python's `hashlib.sha256` says of its UTF-8 bytes; the first three are FIPS 180-4's own examples.
    static let known = [
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            String(repeating: "a", count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("Grüße 🍎", "529908d4fa6dcb205cf7f6c51d34308bc8204dfd3b8593839eed23e14a7cba2c"),
    ]

    @Test("texts have the digests of FIPS 180-4 and of Python's hashlib", arguments: known)
    func texts(text: String, digest: String) { #expect(SHA256.hexadecimal(of: text) == digest) }

    /// Bytes 0, 1, ..., 250, 0, 1, ...: a thousand of them; the digest is that of `bytes(i % 251 for i in range(1000))`.
    @Test("bytes have one digest however they are divided", arguments: [1, 55, 56, 63, 64, 65, 999, 1000])
    func pieces(length: Int) {
        let bytes = (0..<1000).map { UInt8($0 % 251) }
        var hash = SHA256()
        for start in stride(from: 0, to: bytes.count, by: length) {
            bytes[start..<min(start + length, bytes.count)].withUnsafeBytes { hash.update($0) }
        }
        #expect(hash.hexadecimal == "4e4c294b331f7a2099a379bec34b9f9fc03dc46ab465d998f4d683da53487e6d")
    }

    @Test("a digest may be asked for before more bytes follow")
    func between() {
        var hash = SHA256()
        hash.update(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(hash.digest.count == 32 && hash.digest.prefix(4) == [0xe3, 0xb0, 0xc4, 0x42])
        hash.update("abc")
        #expect(hash.digest == hash.digest)
        #expect(hash.hexadecimal == Self.known[0].1)
    }
}
