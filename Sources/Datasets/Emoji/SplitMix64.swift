/// SplitMix64: the n-th number is a hash of a counter, so a key fixes the whole sequence.
///
/// - Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014); constants of Vigna's public C version.
struct SplitMix64 {
    private var state: UInt64

    init(key: UInt64) { state = key }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }

    /// Uniform in a range, from 53 bits.
    mutating func uniform(in range: ClosedRange<Double>) -> Double {
        range.lowerBound + (range.upperBound - range.lowerBound) * Double(next() >> 11) * 0x1p-53
    }

    /// Uniform among 0...last.
    mutating func integer(through last: Int) -> Int {
        Int(next().multipliedFullWidth(by: UInt64(last) + 1).high)
    }
}
