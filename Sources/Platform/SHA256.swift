internal import CSodium

/// SHA-256 (FIPS 180-4), computed by libsodium: of a text at once, or of bytes that come in pieces.
///
/// ```swift
/// var hash = SHA256()
/// hash.update("weights 1\n")
/// values.withUnsafeBytes { hash.update($0) }
/// print(hash.hexadecimal)
/// ```
package struct SHA256: Sendable {
    private var state = crypto_hash_sha256_state()

    /// The hash of no bytes.
    package init() { crypto_hash_sha256_init(&state) }

    /// Adds bytes behind those that came before; how they are divided makes no difference.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        crypto_hash_sha256_update(&state, bytes.bindMemory(to: UInt8.self).baseAddress, UInt64(bytes.count))
    }

    /// Adds a text's UTF-8 bytes.
    package mutating func update(_ text: String) {
        var text = text
        text.withUTF8 { update(UnsafeRawBufferPointer($0)) }
    }

    /// The 32 bytes for what came so far; more may follow.
    package var digest: [UInt8] {
        var last = state
        var bytes = [UInt8](repeating: 0, count: crypto_hash_sha256_bytes())
        crypto_hash_sha256_final(&last, &bytes)
        return bytes
    }

    /// `digest` as 64 lower-case hexadecimal digits, as `sha256sum` prints it.
    package var hexadecimal: String { digest.hexadecimal }

    /// The hexadecimal digest of a text's UTF-8 bytes.
    package static func hexadecimal(of text: String) -> String {
        var hash = SHA256()
        hash.update(text)
        return hash.hexadecimal
    }
}
