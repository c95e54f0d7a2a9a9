import Testing

@testable import Platform

@Suite("XXH3")
struct XXH3Tests {
    /// Bytes 0, 1, ..., 250, 0, 1, ...: a thousand of them.
    private let bytes = (0..<1000).map { UInt8($0 % 251) }

    @Test("digests are what Python's xxhash says")
    func peer() {
        #expect(XXH3.digest(of: bytes).hexadecimal == "18bf41bc8229e27733ef703fb2b20ed1")
        #expect(XXH3.digest(of: []).hexadecimal == "99aa06d3014798d86001c324468d497f")
    }

    @Test("bytes have one digest however they are divided", arguments: [1, 55, 240, 241, 999, 1000])
    func divided(length: Int) {
        var hash = XXH3()
        for start in stride(from: 0, to: bytes.count, by: length) {
            hash.update(Array(bytes[start..<min(start + length, bytes.count)]))
        }
        #expect(hash.hexadecimal == "18bf41bc8229e27733ef703fb2b20ed1")
    }
}
