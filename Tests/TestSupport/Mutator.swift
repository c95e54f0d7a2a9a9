/// A small seeded generator for schedules and mutations (Steele, Lea, Flood 2014).
public struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    /// Makes a generator; equal seeds give equal numbers.
    public init(state: UInt64) { self.state = state }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number below `count`, at least 1.
    public mutating func below(_ count: Int) -> Int { Int(next() % UInt64(count)) }
}

/// Damages bytes the way hostile or broken senders do: flips, cuts, repetitions, splices, and, where it finds them, other
/// numbers and other JSON values.
public struct Mutator {
    /// What it draws from.
    public var random: SplitMix

    /// Makes a mutator; equal seeds damage equally.
    public init(seed: UInt64) { random = SplitMix(state: seed) }

    private static let numbers = [
        "0", "-1", "1", "2", "3", "7", "255", "4294967296", "2147483647", "9223372036854775807", "-9223372036854775808",
        "9223372036854775808", "18446744073709551616", "1e308", "1e999", "-0", "0.5", "1e-400", "1048577", "NaN",
    ]
    private static let values = [
        "null", "true", "[]", "{}", "\"\"", "[[[[[[[[", "{\"a\":", "\"\\ud800\"", "\"\\u0000\"", "[0,0,0,0]", "[-1]",
        "1", "\"x\"",
    ]
    private static let integers: [UInt64] = [
        0, 1, 8, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 32, 1 << 40, UInt64(Int64.max), 1 << 63, .max,
    ]

    /// One to four damages, one after the other.
    ///
    /// - Parameter others: what pieces are spliced in from.
    public mutating func damaged(_ bytes: [UInt8], others: [[UInt8]]) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<1 + random.below(4) { damage(&bytes, others: others) }
        return bytes
    }

    private mutating func damage(_ bytes: inout [UInt8], others: [[UInt8]]) {
        guard !bytes.isEmpty else {
            bytes = (0..<random.below(64)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            return
        }
        let position = random.below(bytes.count)
        switch random.below(12) {
        case 0: bytes[position] ^= 1 << UInt8(random.below(8))
        case 1: bytes[position] = UInt8(truncatingIfNeeded: random.next())
        case 2: bytes.removeLast(bytes.count - position)
        case 3: bytes.removeSubrange(position..<min(bytes.count, position + 1 + random.below(16)))
        case 4:
            let piece = bytes[position..<min(bytes.count, position + 1 + random.below(64))]
            for _ in 0..<1 + random.below(8) { bytes.insert(contentsOf: piece, at: position) }
        case 5:
            let other = others[random.below(others.count)]
            guard !other.isEmpty else { return }
            let begin = random.below(other.count)
            bytes.replaceSubrange(
                position..<min(bytes.count, position + random.below(32)),
                with: other[begin..<min(other.count, begin + 1 + random.below(64))])
        case 6:
            let value = Self.integers[random.below(Self.integers.count)]
            for offset in 0..<min(8, bytes.count - position) {
                bytes[position + offset] = UInt8(truncatingIfNeeded: value >> UInt64(8 * offset))
            }
        case 7...9: replaceNumber(in: &bytes, from: position, with: Self.numbers[random.below(Self.numbers.count)])
        case 10: replaceNumber(in: &bytes, from: position, with: Self.values[random.below(Self.values.count)])
        default: bytes.swapAt(position, random.below(bytes.count))
        }
    }

    /// Replaces the first decimal number at or after a position.
    private func replaceNumber(in bytes: inout [UInt8], from position: Int, with text: String) {
        let digits: ClosedRange<UInt8> = 0x30...0x39
        guard let begin = bytes[position...].firstIndex(where: digits.contains) else { return }
        let end = bytes[begin...].firstIndex { !digits.contains($0) } ?? bytes.count
        bytes.replaceSubrange(begin..<end, with: text.utf8)
    }
}
