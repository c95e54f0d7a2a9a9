import Synchronization

/// One recorded operation: what it was computed from, and how an upstream gradient becomes theirs.
///
/// Nodes are numbered as they are made, so a node's number is larger than those of its inputs: walking numbers downwards
/// visits the graph in reverse order of computation, always the same one.
final class GradientNode: Sendable {
    /// What the backward pass does at a node.
    enum Kind: Sendable {
        /// A tensor that was tracked by name: its gradient is a result.
        case leaf
        /// Gradient of this node's tensor -> gradients of the inputs (nil where none is needed).
        case operation(@Sendable (Tensor) -> [Tensor?])
        /// A checkpointed computation: its outputs, computed again with their history.
        case segment(@Sendable () -> [Tensor])
        /// Output of this number of the segment that is the node's only input.
        case output(Int)
    }

    private static let counter = Atomic<Int>(0)

    let number: Int
    let inputs: [GradientNode?]
    let kind: Kind
    /// Of a weight that was made by `updated`: what products with it pass their gradients to, instead of to the weight.
    let update: LowRankUpdate?

    init(inputs: [GradientNode?], kind: Kind, update: LowRankUpdate? = nil) {
        number = GradientNode.counter.wrappingAdd(1, ordering: .relaxed).newValue
        self.inputs = inputs
        self.kind = kind
        self.update = update
    }

    /// Every node that exists now has this number or a smaller one.
    static var latestNumber: Int { counter.load(ordering: .relaxed) }
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
            node: GradientNode(inputs: [], kind: .leaf))
    }

    /// Attaches history to a result when any input is tracked. `backward` maps the gradient of the result to the gradients
    /// of `inputs`, in order.
    func recording(_ inputs: [Tensor], backward: @escaping @Sendable (Tensor) -> [Tensor?]) -> Tensor {
        guard inputs.contains(where: \.isTracked) else { return self }
        return attached(to: GradientNode(inputs: inputs.map(\.node), kind: .operation(backward)))
    }

    /// The same elements with this history.
    func attached(to node: GradientNode) -> Tensor {
        Tensor(engine: engine, buffer: buffer, offset: offset, shape: shape, dtype: dtype, node: node)
    }

    /// Gradients of this scalar with respect to every tracked leaf.
    ///
    /// - Parameter upstream: gradient of this tensor, same shape; one for a scalar.
    /// - Returns: one gradient a leaf, added up in a fixed order.
    public func gradients(upstream: Tensor? = nil) -> Gradients {
        guard let root = node else { return Gradients() }
        precondition(upstream != nil || count == 1, "gradients: shape \(shape) needs an upstream gradient")
        var walk = BackwardWalk()
        walk.add(upstream ?? engine.tensor([1], shape: shape, dtype: dtype), to: root)
        walk.run(from: [root], above: 0)
        return walk.result
    }
}

/// Gradient checkpointing: computes `body` and keeps, of all that its backward pass needs, only what `body` captures; the
/// backward pass computes it a second time.
///
/// The gradients are those of `body()` itself, bit for bit: the second computation has the same operations on the same values, its
/// history takes the place of the first one's, and gradients that meet in one tensor are added in the same order.
///
/// - Parameter body: gives the same tensors each time, and tracks no leaf of its own.
/// - Returns: what `body` returns; tensors that do not depend on tracked ones, and those that `body` only passes on, as they are.
/// - Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
public func checkpointed(_ body: @escaping @Sendable () -> [Tensor]) -> [Tensor] {
    let floor = GradientNode.latestNumber
    let outputs = body()
    let computed = outputs.compactMap(\.node).filter { $0.number > floor }
    guard !computed.isEmpty else { return outputs }
    let history = history(of: computed, above: floor)
    var inputs: [ObjectIdentifier: GradientNode] = [:]
    for input in history.flatMap({ $0.inputs.compactMap { $0 } }) where input.number <= floor {
        inputs[ObjectIdentifier(input)] = input
    }
    let segment = GradientNode(inputs: inputs.values.sorted { $0.number < $1.number }, kind: .segment(body))
    return outputs.enumerated().map { index, output in
        guard let node = output.node, node.number > floor else { return output }
        return output.attached(to: GradientNode(inputs: [segment], kind: .output(index)))
    }
}

/// The nodes with a number above `floor` that `roots` were computed from, themselves included, in no particular order.
private func history(of roots: [GradientNode], above floor: Int) -> [GradientNode] {
    var found: [ObjectIdentifier: GradientNode] = [:]
    var stack = roots
    while let node = stack.popLast() {
        guard node.number > floor, found.updateValue(node, forKey: ObjectIdentifier(node)) == nil else { continue }
        stack.append(contentsOf: node.inputs.compactMap { $0 })
    }
    return Array(found.values)
}

/// The backward pass: gradients on their way down the graph.
private struct BackwardWalk {
    /// A node's tensor; of a segment, its output of this number.
    private struct Place: Hashable {
        let node: ObjectIdentifier
        var output = 0
    }
    private var pending: [Place: Tensor] = [:]
    private(set) var result = Gradients()

    /// Adds a part of the gradient of a node's tensor.
    mutating func add(_ part: Tensor, to node: GradientNode) {
        let place = Place(node: ObjectIdentifier(node))
        pending[place] = pending[place].map { $0.engine.add($0, part, scale: 1) } ?? part
    }

    private mutating func take(_ node: GradientNode, output: Int = 0) -> Tensor? {
        pending.removeValue(forKey: Place(node: ObjectIdentifier(node), output: output))
    }

    /// Visits what `roots` were computed from, down to the nodes numbered `floor`, whose gradients are left pending.
    mutating func run(from roots: [GradientNode], above floor: Int) {
        for node in history(of: roots, above: floor).sorted(by: { $0.number > $1.number }) {
            if case .segment(let body) = node.kind {
                repeatSegment(node, body)
                continue
            }
            guard let gradient = take(node) else { continue }
            switch node.kind {
            case .leaf: result.byNode[ObjectIdentifier(node)] = gradient
            case .operation(let backward):
                for (input, part) in zip(node.inputs, backward(gradient)) {
                    if let input, let part { add(part, to: input) }
                }
            case .output(let index):
                if let segment = node.inputs[0] {
                    pending[Place(node: ObjectIdentifier(segment), output: index)] = gradient
                }
            case .segment: break
            }
        }
    }

    /// Puts a segment's history, computed again, in its place: its nodes are younger than all others, so they come next.
    private mutating func repeatSegment(_ segment: GradientNode, _ body: () -> [Tensor]) {
        let floor = GradientNode.latestNumber
        var roots: [GradientNode] = []
        for (index, output) in body().enumerated() {
            guard let gradient = take(segment, output: index), let node = output.node else { continue }
            add(gradient, to: node)
            roots.append(node)
        }
        run(from: roots, above: floor)
    }
}
