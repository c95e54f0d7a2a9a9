public import SafeTensors
public import TensorCore

/// Named tensors in one fixed order: what an optimiser updates, an average follows, a checkpoint stores and a digest covers.
///
/// The order is that of the names' UTF-8 bytes, whatever order they were given in; everything that adds up over parameters
/// goes through them in this order.
public struct Parameters: Sendable {
    /// The names, sorted.
    public let names: [String]
    private let byName: [String: Tensor]

    /// Parameters from a dictionary.
    public init(_ tensors: [String: Tensor]) {
        byName = tensors
        names = tensors.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// No parameters.
    public init() { self.init([:]) }

    /// The tensor of this name.
    public subscript(name: String) -> Tensor? { byName[name] }

    /// Names and tensors, in order.
    public var entries: [(name: String, tensor: Tensor)] {
        names.compactMap { name in byName[name].map { (name, $0) } }
    }

    /// Number of tensors.
    public var count: Int { names.count }

    /// Number of elements of all tensors.
    public var elementCount: Int { byName.values.reduce(0) { $0 + $1.count } }

    /// Bytes of all elements.
    public var byteCount: Int { byName.values.reduce(0) { $0 + $1.count * $1.dtype.byteCount } }

    /// As leaves of the gradient graph.
    public func tracked() -> Parameters { mapped { $1.tracked() } }

    /// Without history.
    public var detached: Parameters { mapped { $1.detached } }

    /// In another precision; `float32` gives master weights.
    public func converted(to dtype: DType) -> Parameters { mapped { $1.converted(to: dtype) } }

    /// Each tensor replaced, names and order kept.
    public func mapped<Failure: Error>(
        _ transform: (String, Tensor) throws(Failure) -> Tensor
    ) throws(Failure) -> Parameters {
        var result: [String: Tensor] = [:]
        for (name, tensor) in entries { result[name] = try transform(name, tensor) }
        return Parameters(result)
    }

    /// Names changed; used for prefixes.
    public func renamed(_ transform: (String) -> String) -> Parameters {
        Parameters(Dictionary(entries.map { (transform($0.name), $0.tensor) }) { first, _ in first })
    }

    /// The tensors whose name passes.
    public func filtered(_ isIncluded: (String) -> Bool) -> Parameters {
        Parameters(byName.filter { isIncluded($0.key) })
    }

    /// These and others; the others win where names meet.
    public func merging(_ others: Parameters) -> Parameters {
        Parameters(byName.merging(others.byName) { _, other in other })
    }

    /// The gradients of these leaves, by the same names.
    ///
    /// - Precondition: the scalar depends on every one of them.
    public func gradients(from gradients: Gradients) -> Parameters {
        mapped { name, leaf in
            guard let gradient = gradients[leaf] else { preconditionFailure("no gradient reaches parameter \(name)") }
            return gradient
        }
    }

    /// Passes the canonical form piece by piece: for each name in order its UTF-8 bytes, one zero byte, and the elements as
    /// little-endian fp32. SHA-256 over these pieces is a version's digest, on every machine and engine.
    public func forEachCanonicalPiece(_ body: (UnsafeRawBufferPointer) -> Void) {
        for (name, tensor) in entries {
            (Array(name.utf8) + [0]).withUnsafeBytes(body)
            tensor.values.withUnsafeBytes(body)
        }
    }
}

extension Parameters {
    /// The tensors of a safetensors file, widened to fp32; all values are finite.
    ///
    /// - Throws: `SafeTensorsError`.
    public init(path: String, engine: any Engine) throws {
        let file = try SafeTensorsFolder(path: path)
        var tensors: [String: Tensor] = [:]
        for entry in file.entries {
            tensors[entry.name] = engine.tensor(try file.floats(of: entry.name), shape: entry.shape)
        }
        self.init(tensors)
    }

    /// As safetensors values, fp32 or bf16 as they are, copied to the host.
    public func safeTensors() -> [SafeTensor] {
        entries.map { name, tensor in
            SafeTensor(
                name: name, dtype: tensor.dtype == .float32 ? .float32 : .bfloat16, shape: tensor.shape,
                bytes: SharedBytes(copying: tensor.engine.bytes(of: tensor)))
        }
    }

    /// Writes a safetensors file, whole or not at all.
    ///
    /// - Throws: `SafeTensorsError`.
    public func write(to path: String, metadata: [String: String] = ["format": "pt"]) throws {
        try SafeTensorsWriter.write(safeTensors(), metadata: metadata, to: path)
    }
}
