#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// SentencePiece's compiled normalisation rules: a double-array trie from byte strings to their replacements.
///
/// Layout: trie size in bytes (u32), trie units (u32 each), replacement strings separated by zero bytes; little-endian.
///
/// - Source: huggingface/spm_precompiled src/lib.rs, and tokenizers' `Precompiled` normaliser, whose rules are kept: a
///   grapheme shorter than six bytes is looked up whole and takes the replacement of its shortest matching prefix;
///   otherwise its characters are looked up one by one.
struct PrecompiledCharacterMap: Sendable {
    private let units: [UInt32]
    private let replacements: [UInt8]

    /// nil when the text is not base64 or its bytes are not such a map.
    init?(base64: String) {
        guard let data = Data(base64Encoded: base64) else { return nil }
        self.init(bytes: [UInt8](data))
    }

    /// nil when the bytes are not such a map.
    init?(bytes: [UInt8]) {
        guard bytes.count >= 4 else { return nil }
        func word(_ offset: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) }
        }
        let size = Int(word(0))
        guard size % 4 == 0, size > 0, 4 + size <= bytes.count else { return nil }
        units = stride(from: 4, to: 4 + size, by: 4).map(word)
        replacements = Array(bytes[(4 + size)...])
    }

    func callAsFunction(_ text: String) -> String {
        var result = ""
        for grapheme in text {
            let utf8 = Array(String(grapheme).utf8)
            if utf8.count < 6, let replacement = replacement(of: utf8) {
                result += replacement
                continue
            }
            for scalar in grapheme.unicodeScalars {
                if let replacement = replacement(of: Array(String(scalar).utf8)) {
                    result += replacement
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result
    }

    /// The replacement of the shortest prefix the trie knows.
    private func replacement(of key: [UInt8]) -> String? {
        guard let start = shortestMatch(key), start < replacements.count else { return nil }
        return String(decoding: replacements[start...].prefix { $0 != 0 }, as: UTF8.self)
    }

    private func shortestMatch(_ key: [UInt8]) -> Int? {
        var position = 0
        func unit() -> UInt32? { units.indices.contains(position) ? units[position] : nil }
        func offset(_ unit: UInt32) -> Int { Int((unit >> 10) << ((unit & (1 << 9)) >> 6)) }
        guard let root = unit() else { return nil }
        position ^= offset(root)
        for byte in key {
            if byte == 0 { return nil }
            position ^= Int(byte)
            guard let next = unit(), next & (1 << 31 | 0xFF) == UInt32(byte) else { return nil }
            position ^= offset(next)
            if next >> 8 & 1 == 1 { return unit().map { Int($0 & 0x7FFF_FFFF) } }
        }
        return nil
    }
}
