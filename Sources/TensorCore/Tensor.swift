/// An immutable, contiguous, row-major array on an engine.
///
/// A value: copying shares the bytes. A tensor whose history is tracked (`tracked()`, or computed from a tracked one)
/// carries a node of the gradient graph; all others record nothing.
public struct Tensor: Sendable {
    /// The engine that owns the bytes and runs every operation on them.
    public let engine: any Engine
    /// The bytes; an engine knows the concrete type.
    public let buffer: any TensorBuffer
    /// First element in `buffer`, in elements.
    public let offset: Int
    /// Length of each axis; empty for a scalar.
    public let shape: [Int]
    /// Element type.
    public let dtype: DType
    let node: GradientNode?

    /// A tensor over a buffer's elements from `offset` on. For engines.
    public init(engine: any Engine, buffer: any TensorBuffer, offset: Int = 0, shape: [Int], dtype: DType) {
        self.init(engine: engine, buffer: buffer, offset: offset, shape: shape, dtype: dtype, node: nil)
    }

    init(engine: any Engine, buffer: any TensorBuffer, offset: Int, shape: [Int], dtype: DType, node: GradientNode?) {
        self.engine = engine
        self.buffer = buffer
        self.offset = offset
        self.shape = shape
        self.dtype = dtype
        self.node = node
    }

    /// Number of elements.
    public var count: Int { shape.reduce(1, *) }
    /// Number of axes.
    public var rank: Int { shape.count }
    /// Whether gradients flow through this tensor.
    public var isTracked: Bool { node != nil }

    /// Length of an axis; negative axes count from the end.
    public func size(_ axis: Int) -> Int { shape[axis < 0 ? rank + axis : axis] }

    /// Elements as fp32, row-major, copied to the host.
    public var values: [Float] { engine.values(of: self) }

    /// The only element of a one-element tensor.
    public var scalar: Float {
        precondition(count == 1, "scalar: shape \(shape) has \(count) elements")
        return values[0]
    }

    /// The same elements under another shape; one axis may be -1.
    public func reshaped(_ newShape: Int...) -> Tensor { reshaped(newShape) }

    /// The same elements under another shape; one axis may be -1.
    public func reshaped(_ newShape: [Int]) -> Tensor {
        var shape = newShape
        if let open = shape.firstIndex(of: -1) {
            let rest = shape.enumerated().reduce(1) { $1.offset == open ? $0 : $0 * $1.element }
            precondition(rest > 0 && count % rest == 0, "reshape: \(self.shape) to \(newShape)")
            shape[open] = count / rest
        }
        precondition(shape.reduce(1, *) == count, "reshape: \(self.shape) to \(newShape)")
        let result = Tensor(engine: engine, buffer: buffer, offset: offset, shape: shape, dtype: dtype)
        let oldShape = self.shape
        return result.recording([self]) { [$0.reshaped(oldShape)] }
    }

    /// Rows `range` of the first axis, without copying.
    public func rows(_ range: Range<Int>) -> Tensor {
        precondition(rank > 0 && range.lowerBound >= 0 && range.upperBound <= shape[0], "rows \(range) of \(shape)")
        let row = shape[0] == 0 ? 0 : count / shape[0]
        let view = Tensor(
            engine: engine, buffer: buffer, offset: offset + range.lowerBound * row,
            shape: [range.count] + shape.dropFirst(), dtype: dtype)
        let total = shape[0]
        return view.recording([self]) { upstream in
            [upstream.engine.padded(upstream, axis: 0, before: range.lowerBound, after: total - range.upperBound)]
        }
    }

    /// The same elements in another precision; gradients are converted back.
    public func converted(to dtype: DType) -> Tensor {
        if dtype == self.dtype { return self }
        let source = self.dtype
        return engine.convert(self, to: dtype).recording([self]) { [$0.converted(to: source)] }
    }

    /// The same elements without history.
    public var detached: Tensor { Tensor(engine: engine, buffer: buffer, offset: offset, shape: shape, dtype: dtype) }
}

extension Engine {
    /// A tensor of zeros.
    public func zeros(_ shape: [Int], dtype: DType = .float32) -> Tensor {
        tensor([Float](repeating: 0, count: shape.reduce(1, *)), shape: shape, dtype: dtype)
    }

    /// An fp32 tensor of these values.
    public func tensor(_ values: [Float], shape: [Int]) -> Tensor { tensor(values, shape: shape, dtype: .float32) }
}
