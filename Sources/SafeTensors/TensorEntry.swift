/// One line of a safetensors header: where a tensor lies and what its bytes mean.
public struct TensorEntry: Sendable, Hashable {
    /// The tensor's name, as written in the file.
    public let name: String
    /// Type of the elements.
    public let dtype: SafeTensorsDataType
    /// Dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// Position in the data section, in bytes from its beginning.
    public let byteRange: Range<Int>

    /// The product of the dimensions.
    public var elementCount: Int { shape.reduce(1, *) }
}

/// One tensor to be written: a name, a type, a shape and its bytes in little-endian row-major order.
public struct SafeTensor: Sendable {
    /// The tensor's name.
    public let name: String
    /// Type of the elements.
    public let dtype: SafeTensorsDataType
    /// Dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// The elements, shared and never copied by the writer.
    public let bytes: SharedBytes

    /// - Precondition: `bytes.count` is what `dtype` and `shape` ask for.
    public init(name: String, dtype: SafeTensorsDataType, shape: [Int], bytes: SharedBytes) {
        precondition(
            dtype.byteCount(shape: shape) == bytes.count,
            "SafeTensor \(name): \(bytes.count) bytes for \(dtype.rawValue) \(shape)")
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.bytes = bytes
    }

    /// A float32 tensor, copied from an array.
    ///
    /// - Precondition: `floats.count` is the product of `shape`.
    public init(name: String, shape: [Int], floats: [Float]) {
        self.init(name: name, dtype: .float32, shape: shape, bytes: SharedBytes(copying: floats))
    }
}
