public import NeuralNetworks
import Platform
public import Protocol
import SafeTensors
public import TensorCore

extension TensorPayload {
    /// A tensor's elements as they are, fp32 or bf16, copied to the host.
    public init(_ tensor: Tensor) {
        self.init(
            dtype: tensor.dtype == .float32 ? .float32 : .bfloat16, shape: tensor.shape,
            bytes: SharedBytes(copying: tensor.engine.bytes(of: tensor)))
    }

    /// The payload on an engine.
    ///
    /// - Throws: `invalidValue` unless it is F32 or BF16.
    public func tensor(on engine: any Engine) throws(WireError) -> Tensor {
        let dtype: DType
        switch self.dtype {
        case .float32: dtype = .float32
        case .bfloat16: dtype = .bfloat16
        default: throw WireError(.invalidValue, "a tensor of type \(self.dtype.rawValue), expected F32 or BF16")
        }
        return bytes.withUnsafeBytes { engine.tensor(bytes: $0, shape: shape, dtype: dtype) }
    }
}

extension TensorSet {
    /// Parameters by their names.
    public init(_ parameters: Parameters) {
        self.init(
            Dictionary(uniqueKeysWithValues: parameters.entries.map { ($0.name, TensorPayload($0.tensor)) }))
    }

    /// The tensors as parameters on an engine.
    ///
    /// - Throws: `invalidValue` unless all are F32 or BF16.
    public func parameters(on engine: any Engine) throws(WireError) -> Parameters {
        var tensors: [String: Tensor] = [:]
        for name in names { tensors[name] = try self[name]?.tensor(on: engine) }
        return Parameters(tensors)
    }
}
