/// Element type of a tensor.
public enum DType: String, Sendable, Codable, CaseIterable {
    /// IEEE 754 binary32.
    case float32
    /// The upper half of a binary32, rounded to nearest even.
    case bfloat16

    /// Bytes of one element.
    public var byteCount: Int {
        switch self {
        case .float32: 4
        case .bfloat16: 2
        }
    }
}

/// The 16-bit pattern of a bfloat16 number; arithmetic happens in `Float`.
public struct BFloat16: Sendable, Equatable {
    /// Sign, 8 exponent bits, 7 fraction bits.
    public var bitPattern: UInt16

    /// The number with this bit pattern.
    public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even; NaN stays NaN.
    @inlinable
    public init(_ value: Float) {
        let bits = value.bitPattern
        if value.isNaN {
            bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x40
        } else {
            bitPattern = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
        }
    }

    /// The exact value.
    @inlinable
    public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
}
