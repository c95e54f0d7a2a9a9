import Synchronization
import TensorCore

/// Tensors that are computed when first asked for.
final class RememberedTensors: Sendable {
    private let tensors = Mutex<[String: Tensor]>([:])

    /// The tensor of a name.
    func tensor(of name: String, computed: () throws -> Tensor) rethrows -> Tensor {
        if let known = tensors.withLock({ $0[name] }) { return known }
        // Two threads may compute the same one: they get the same bits.
        let tensor = try computed()
        tensors.withLock { $0[name] = tensor }
        return tensor
    }
}
