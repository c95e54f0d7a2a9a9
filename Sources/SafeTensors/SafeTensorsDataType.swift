/// The element type of a tensor, named as in the safetensors format.
///
/// - Source: `huggingface/safetensors:safetensors/src/tensor.rs`, enum `Dtype`. Differences: none.
public enum SafeTensorsDataType: String, Sendable, Hashable, CaseIterable, Codable {
    case bool = "BOOL"
    case float4 = "F4"
    case float6E2M3 = "F6_E2M3"
    case float6E3M2 = "F6_E3M2"
    case uint8 = "U8"
    case int8 = "I8"
    case float8E5M2 = "F8_E5M2"
    case float8E4M3 = "F8_E4M3"
    case float8E8M0 = "F8_E8M0"
    case float8E4M3FNUZ = "F8_E4M3FNUZ"
    case float8E5M2FNUZ = "F8_E5M2FNUZ"
    case int16 = "I16"
    case uint16 = "U16"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case int32 = "I32"
    case uint32 = "U32"
    case float32 = "F32"
    case complex64 = "C64"
    case float64 = "F64"
    case int64 = "I64"
    case uint64 = "U64"

    /// Bits of one element; only `F4` and `F6_*` are not whole bytes.
    public var bitCount: Int {
        switch self {
        case .float4: 4
        case .float6E2M3, .float6E3M2: 6
        case .bool, .uint8, .int8, .float8E5M2, .float8E4M3, .float8E8M0, .float8E4M3FNUZ, .float8E5M2FNUZ: 8
        case .int16, .uint16, .float16, .bfloat16: 16
        case .int32, .uint32, .float32: 32
        case .complex64, .float64, .int64, .uint64: 64
        }
    }

    /// Whether numbers of this type stand for others by a scale kept elsewhere, as in weights of 4 or 8 bits.
    public var isQuantised: Bool { bitCount <= 8 && self != .bool || self == .int16 || self == .int32 }

    /// Whether numbers of this type are read as they are.
    public var isFloat: Bool { [.float64, .float32, .float16, .bfloat16].contains(self) }

    /// Bytes a tensor of this type and shape occupies, or nil when the product overflows, a dimension is negative or
    /// the bits do not fill whole bytes. An empty shape is a scalar; a zero dimension gives 0.
    public func byteCount(shape: [Int]) -> Int? {
        var bits = bitCount
        var isEmpty = false
        for dimension in shape {
            guard dimension >= 0 else { return nil }
            if dimension == 0 {
                isEmpty = true
                continue
            }
            // The non-zero dimensions are multiplied even when another one is 0: a product that overflows is refused
            // whatever the order, so that [0, 2^62, 2^62] cannot pass here and overflow in a reader that starts elsewhere.
            let (product, overflow) = bits.multipliedReportingOverflow(by: dimension)
            guard !overflow else { return nil }
            bits = product
        }
        if isEmpty { return 0 }
        return bits % 8 == 0 ? bits / 8 : nil
    }
}
