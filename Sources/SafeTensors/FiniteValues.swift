/// Looks for infinities and NaN in stored numbers: their exponent's bits are all ones.
///
/// Adding one to such an exponent carries into the place of the sign, which was cleared before, and no further: eight bytes are
/// tested with one addition, whatever they hold.
enum FiniteValues {
    /// The exponent's bits, in each number of a word, and the lowest of them.
    private static func pattern(_ type: SafeTensorsDataType) -> (exponent: UInt64, one: UInt64)? {
        switch type {
        case .float64: (0x7FF0_0000_0000_0000, 0x0010_0000_0000_0000)
        case .float32: (0x7F80_0000_7F80_0000, 0x0080_0000_0080_0000)
        case .float16: (0x7C00_7C00_7C00_7C00, 0x0400_0400_0400_0400)
        case .bfloat16: (0x7F80_7F80_7F80_7F80, 0x0080_0080_0080_0080)
        default: nil
        }
    }

    /// The place where each number's sign is.
    private static func sign(_ type: SafeTensorsDataType) -> UInt64 {
        switch type.bitCount {
        case 16: 0x8000_8000_8000_8000
        case 32: 0x8000_0000_8000_0000
        default: 0x8000_0000_0000_0000
        }
    }

    /// Position of the first number that is not finite; nil where all are, and for types without such numbers.
    ///
    /// - Parameter bytes: little-endian, not necessarily aligned.
    static func firstNotFinite(_ bytes: UnsafeRawBufferPointer, type: SafeTensorsDataType) -> Int? {
        guard let (exponent, one) = pattern(type) else { return nil }
        let sign = sign(type)
        let (size, blockSize) = (type.bitCount / 8, 1 << 15)
        var start = 0
        while start + 8 <= bytes.count {
            let end = min(start + blockSize, bytes.count & ~7)
            var carries: UInt64 = 0
            for offset in stride(from: start, to: end, by: 8) {
                let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                carries |= (UInt64(littleEndian: word) & exponent) &+ one
            }
            if carries & sign != 0 { break }
            start = end
        }
        return (start / size..<bytes.count / size).first { index in
            let mask = exponent & lowest(size)
            return number(bytes, at: index, size: size) & mask == mask
        }
    }

    /// The error for a tensor that holds such a number: its position and what is there; nil where all are finite.
    static func error(
        _ bytes: UnsafeRawBufferPointer, type: SafeTensorsDataType, tensor: String, source: String
    ) -> SafeTensorsError? {
        guard let index = firstNotFinite(bytes, type: type), let (_, one) = pattern(type) else { return nil }
        // Something below the exponent tells NaN from infinity.
        let size = type.bitCount / 8
        let fraction = number(bytes, at: index, size: size) & ((one & lowest(size)) - 1)
        return SafeTensorsError(
            code: .notFinite, source: source, tensor: tensor,
            message: "holds a value that is not finite (\(fraction == 0 ? "infinity" : "NaN") at element \(index))",
            remedy: "use a file from before the training diverged, or download it again")
    }

    private static func number(_ bytes: UnsafeRawBufferPointer, at index: Int, size: Int) -> UInt64 {
        (0..<size).reduce(0) { $0 | UInt64(bytes[index * size + $1]) << (8 * UInt64($1)) }
    }

    /// The bits of the lowest number of a word.
    private static func lowest(_ size: Int) -> UInt64 { UInt64.max >> UInt64(64 - 8 * size) }
}
