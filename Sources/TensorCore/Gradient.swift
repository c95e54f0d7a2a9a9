import Synchronization

/// One recorded operation: what it was computed from, and how an upstream gradient becomes theirs.
///
/// Nodes are numbered as they are made, so a node's number is larger than those of its inputs: walking numbers downwards
/// visits the graph in reverse order of computation, always the same one.
final class GradientNode: Sendable {
    private static let counter = Atomic<Int>(0)

    let number: Int
    let inputs: [GradientNode?]
    /// Gradient of this node's tensor -> gradients of the inputs (nil where none is needed).
    let backward: (@Sendable (Tensor) -> [Tensor?])?

    init(inputs: [GradientNode?], backward: (@Sendable (Tensor) -> [Tensor?])?) {
        number = GradientNode.counter.wrappingAdd(1, ordering: .relaxed).newValue
        self.inputs = inputs
        self.backward = backward
    }
}

/// Gradients of one scalar with respect to the tracked leaves it was computed from.
public struct Gradients: Sendable {
    fileprivate var byNode: [ObjectIdentifier: Tensor] = [:]

    /// The gradient of a leaf made by `tracked()`, fp32; nil when the scalar does not depend on it.
    public subscript(leaf: Tensor) -> Tensor? {
        guard let node = leaf.node else { return nil }
        return byNode[ObjectIdentifier(node)]
    }
}

extension Tensor {
    /// The same elements as a leaf of the gradient graph.
    public func tracked() -> Tensor {
        Tensor(
            engine: engine, buffer: buffer, offset: offset, shape: shape, dtype: dtype,
            node: GradientNode(inputs: [], backward: nil))
    }

    /// Attaches history to a result when any input is tracked. `backward` maps the gradient of the result to the gradients
    /// of `inputs`, in order.
    func recording(_ inputs: [Tensor], backward: @escaping @Sendable (Tensor) -> [Tensor?]) -> Tensor {
        guard inputs.contains(where: \.isTracked) else { return self }
        let node = GradientNode(inputs: inputs.map(\.node), backward: backward)
        return Tensor(engine: engine, buffer: buffer, offset: offset, shape: shape, dtype: dtype, node: node)
    }

    /// Gradients of this scalar with respect to every tracked leaf.
    ///
    /// - Parameter upstream: gradient of this tensor, same shape; one for a scalar.
    /// - Returns: one gradient a leaf, added up in a fixed order.
    public func gradients(upstream: Tensor? = nil) -> Gradients {
        guard let root = node else { return Gradients() }
        precondition(upstream != nil || count == 1, "gradients: shape \(shape) needs an upstream gradient")
        var reachable: [ObjectIdentifier: GradientNode] = [:]
        var stack = [root]
        while let node = stack.popLast() {
            guard reachable.updateValue(node, forKey: ObjectIdentifier(node)) == nil else { continue }
            stack.append(contentsOf: node.inputs.compactMap { $0 })
        }
        var pending = [
            ObjectIdentifier(root): upstream ?? engine.tensor([1], shape: shape, dtype: dtype)
        ]
        var result = Gradients()
        for node in reachable.values.sorted(by: { $0.number > $1.number }) {
            guard let gradient = pending.removeValue(forKey: ObjectIdentifier(node)) else { continue }
            guard let backward = node.backward else {
                result.byNode[ObjectIdentifier(node)] = gradient
                continue
            }
            for (input, part) in zip(node.inputs, backward(gradient)) {
                guard let input, let part else { continue }
                let key = ObjectIdentifier(input)
                pending[key] = pending[key].map { $0.engine.add($0, part, scale: 1) } ?? part
            }
        }
        return result
    }
}
