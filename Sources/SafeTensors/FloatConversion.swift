/// Widening of the stored floating-point types to float32, exact except for `F64`.
public enum FloatConversion {
    /// The elements of `bytes` as float32.
    ///
    /// - Throws: `wrongType` when `entry` is not `F32`, `F16`, `BF16` or `F64`.
    public static func floats(
        _ bytes: SharedBytes, entry: TensorEntry, source: String
    ) throws(SafeTensorsError) -> [Float] {
        switch entry.dtype {
        case .float32: bytes.array(of: UInt32.self).map { Float(bitPattern: UInt32(littleEndian: $0)) }
        case .float16: bytes.array(of: UInt16.self).map { float(halfBits: UInt16(littleEndian: $0)) }
        case .bfloat16: bytes.array(of: UInt16.self).map { float(bfloatBits: UInt16(littleEndian: $0)) }
        case .float64: bytes.array(of: UInt64.self).map { Float(Double(bitPattern: UInt64(littleEndian: $0))) }
        default:
            throw wrongType(entry, source: source)
        }
    }

    /// The error for a tensor of another type.
    static func wrongType(_ entry: TensorEntry, source: String) -> SafeTensorsError {
        SafeTensorsError(
            code: .wrongType, source: source, tensor: entry.name,
            message: entry.dtype.isQuantised
                ? "is quantised (\(entry.dtype.rawValue))"
                : "has type \(entry.dtype.rawValue), expected F32, F16, BF16 or F64",
            remedy: entry.dtype.isQuantised
                ? "use the model's file in F32, F16 or BF16" : "convert the file to one of these types")
    }

    /// The value of a bfloat16: the upper half of a float32.
    @inlinable public static func float(bfloatBits: UInt16) -> Float {
        Float(bitPattern: UInt32(bfloatBits) << 16)
    }

    /// The value of an IEEE half, with integer arithmetic only (`Float16` does not exist on every platform).
    @inlinable public static func float(halfBits: UInt16) -> Float {
        let sign = UInt32(halfBits & 0x8000) << 16
        let exponent = UInt32(halfBits >> 10) & 0x1F
        let fraction = UInt32(halfBits & 0x3FF)
        switch exponent {
        case 0:  // zero and subnormals: fraction x 2^-24
            let magnitude = Float(fraction) * 0x1p-24
            return Float(bitPattern: sign | magnitude.bitPattern)
        case 31: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
        default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
        }
    }

    /// The nearest bfloat16, ties to even; NaN stays NaN.
    @inlinable public static func bfloatBits(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16) | 0x40 }
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    }
}
