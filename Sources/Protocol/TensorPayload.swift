public import SafeTensors

/// A tensor in a message: type, shape and shared bytes. It is sent without being copied.
public struct TensorPayload: Sendable, Equatable {
    /// Type of the elements.
    public let dtype: SafeTensorsDataType
    /// Dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// The elements, little-endian, row-major.
    public let bytes: SharedBytes

    /// - Precondition: `bytes.count` is what `dtype` and `shape` ask for.
    public init(dtype: SafeTensorsDataType, shape: [Int], bytes: SharedBytes) {
        precondition(
            dtype.byteCount(shape: shape) == bytes.count,
            "TensorPayload: \(bytes.count) bytes for \(dtype.rawValue) \(shape)")
        self.dtype = dtype
        self.shape = shape
        self.bytes = bytes
    }

    /// A copy of float32 elements; `shape` defaults to one dimension.
    ///
    /// - Precondition: the product of `shape` is `floats.count`.
    public init(floats: [Float], shape: [Int]? = nil) {
        self.init(dtype: .float32, shape: shape ?? [floats.count], bytes: SharedBytes(copying: floats))
    }

    /// A copy of int32 elements, one dimension.
    public init(int32s: [Int32]) {
        self.init(dtype: .int32, shape: [int32s.count], bytes: SharedBytes(copying: int32s))
    }

    /// A copy of uint8 elements.
    ///
    /// - Precondition: the product of `shape` is `bytes.count`.
    public init(uint8s: [UInt8], shape: [Int]) {
        self.init(dtype: .uint8, shape: shape, bytes: SharedBytes(copying: uint8s))
    }

    /// The product of the dimensions.
    public var elementCount: Int { shape.reduce(1, *) }

    /// The elements of an `F32` tensor.
    ///
    /// - Precondition: `dtype` is `.float32`; messages check their tensors' types when they are decoded.
    public var floats: [Float] {
        precondition(dtype == .float32, "TensorPayload: \(dtype.rawValue) is not F32")
        return bytes.array(of: Float.self)
    }

    /// The elements of an `I32` tensor.
    ///
    /// - Precondition: `dtype` is `.int32`.
    public var int32s: [Int32] {
        precondition(dtype == .int32, "TensorPayload: \(dtype.rawValue) is not I32")
        return bytes.array(of: Int32.self)
    }
}

/// The tensors of a message by name. They travel beside its JSON, never in it.
public struct TensorSet: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    private var payloads: [String: TensorPayload]

    /// No tensors.
    public init() { payloads = [:] }
    /// These tensors.
    public init(_ payloads: [String: TensorPayload]) { self.payloads = payloads }
    /// These tensors.
    ///
    /// - Precondition: no name appears twice.
    public init(dictionaryLiteral elements: (String, TensorPayload)...) {
        payloads = Dictionary(uniqueKeysWithValues: elements)
    }

    /// The tensor of this name, if there is one.
    public subscript(name: String) -> TensorPayload? {
        get { payloads[name] }
        set { payloads[name] = newValue }
    }
    /// The names, sorted.
    public var names: [String] { payloads.keys.sorted() }
    /// Number of tensors.
    public var count: Int { payloads.count }
    /// Bytes of all tensors together.
    public var byteCount: Int { payloads.values.reduce(0) { $0 + $1.bytes.count } }

    /// A tensor the message cannot be without.
    ///
    /// - Precondition: it is there; a decoded message has checked that.
    func required(_ name: String) -> TensorPayload {
        guard let payload = payloads[name] else { preconditionFailure("message without its tensor \(name)") }
        return payload
    }

    /// The tensors whose names start with `prefix`, under the rest of their names.
    func named(after prefix: String) -> [String: TensorPayload] {
        payloads.reduce(into: [:]) { result, item in
            if item.key.hasPrefix(prefix) { result[String(item.key.dropFirst(prefix.count))] = item.value }
        }
    }
}

// `Codable` as synthesised for a message finds these before the general ones: tensors are left out of the JSON, and the
// codec puts them in after decoding.
extension TensorSet: Codable {
    /// No tensors; see above.
    public init(from decoder: any Decoder) throws { self.init() }
    /// Writes nothing; see above.
    public func encode(to encoder: any Encoder) throws {}
}

extension KeyedDecodingContainer {
    func decode(_ type: TensorSet.Type, forKey key: Key) throws -> TensorSet { TensorSet() }
}

extension KeyedEncodingContainer {
    func encode(_ tensors: TensorSet, forKey key: Key) throws {}
}
