internal import CXXHash

/// XXH3 of 128 bits, computed by libxxhash: as fast as memory, tells damage and mistakes, and is no proof against forgery.
///
/// ```swift
/// var hash = XXH3()
/// values.withUnsafeBytes { hash.update($0) }
/// print(hash.hexadecimal)
/// ```
package struct XXH3: ~Copyable {
    private let state = XXH3_createState()

    /// The hash of no bytes.
    package init() { XXH3_128bits_reset(state) }

    deinit { XXH3_freeState(state) }

    /// Adds bytes behind those that came before; how they are divided makes no difference.
    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
    }

    /// Adds an array's bytes.
    package mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

    /// The 16 bytes for what came so far, the high half first, as `xxhsum -H2` prints them; more may follow.
    package var digest: [UInt8] { Self.bytes(of: XXH3_128bits_digest(state)) }

    /// `digest` as 32 lower-case hexadecimal digits.
    package var hexadecimal: String { digest.hexadecimal }

    /// The digest of bytes that are all there: faster than in pieces.
    package static func digest(of bytes: UnsafeRawBufferPointer) -> [UInt8] {
        self.bytes(of: XXH3_128bits(bytes.baseAddress, bytes.count))
    }

    /// The digest of an array's bytes.
    package static func digest(of bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { digest(of: $0) } }

    private static func bytes(of hash: XXH128_hash_t) -> [UInt8] {
        [hash.high64, hash.low64].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * $0)) } }
    }
}

extension [UInt8] {
    /// Two lower-case hexadecimal digits a byte.
    package var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
