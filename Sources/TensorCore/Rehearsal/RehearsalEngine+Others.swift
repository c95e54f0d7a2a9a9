extension RehearsalEngine {
    // MARK: Normalisation

    public func layerNorm(_ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float) -> Tensor {
        let result = make(like: x)
        used(floats(weight), floats(bias))
        return result
    }

    public func layerNormBackward(
        _ upstream: Tensor, input: Tensor, weight: Tensor?, epsilon: Float
    ) -> (input: Tensor, weight: Tensor?, bias: Tensor?) {
        let D = input.shape[1]
        let result = (
            input: make(like: input), weight: weight.map { _ in make([D], .float32) },
            bias: weight.map { _ in make([D], .float32) }
        )
        used(elements(upstream, input.dtype), floats(weight))
        return result
    }

    public func modulatedLayerNorm(_ x: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float) -> Tensor {
        let result = make(like: x)
        used(floats(modulation), scratch(4 * x.shape[2]))
        return result
    }

    public func modulatedLayerNormBackward(
        _ upstream: Tensor, input: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float
    ) -> (input: Tensor, modulation: Tensor) {
        let (dx, dModulation) = (make(like: input), make(modulation.shape, .float32))
        used(elements(upstream, input.dtype), floats(modulation), scratch(4 * input.shape[2]))
        return (dx, convert(dModulation, to: modulation.dtype))
    }

    public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor {
        let result = make(like: x)
        used(floats(weight))
        return result
    }

    public func rmsNormBackward(
        _ upstream: Tensor, input: Tensor, weight: Tensor, epsilon: Float
    ) -> (input: Tensor, weight: Tensor) {
        let result = (input: make(like: input), weight: make([input.shape[1]], .float32))
        used(elements(upstream, input.dtype), floats(weight))
        return result
    }

    public func groupNorm(
        _ x: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> Tensor {
        let result = make(like: x)
        used(floats(weight), floats(bias), scratch(4 * 3 * x.size(-1)))
        return result
    }

    public func groupNormBackward(
        _ upstream: Tensor, input: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> (input: Tensor, weight: Tensor, bias: Tensor) {
        let C = input.size(-1)
        let result = (input: make(like: input), weight: make([C], .float32), bias: make([C], .float32))
        used(elements(upstream, input.dtype), floats(weight), floats(bias), scratch(4 * 6 * C))
        return result
    }

    public func softmax(_ x: Tensor) -> Tensor { unary(x) }

    public func softmaxBackward(_ upstream: Tensor, output: Tensor) -> Tensor { unary(output, upstream) }

    public func unitNorm(_ x: Tensor, epsilon: Float) -> Tensor { unary(x) }

    public func unitNormBackward(_ upstream: Tensor, input: Tensor, epsilon: Float) -> Tensor { unary(input, upstream) }

    // MARK: Element-wise

    /// A result of a's shape and dtype from a and, in that dtype, from b.
    private func unary(_ a: Tensor, _ b: Tensor? = nil) -> Tensor {
        let result = make(like: a)
        read(a)
        used(b.map { elements($0, a.dtype) })
        return result
    }

    /// A result of a's shape and dtype, computed in fp32 where b has another dtype.
    private func binary(_ a: Tensor, _ b: Tensor) -> Tensor {
        let dtype: DType = a.dtype == b.dtype ? a.dtype : .float32
        let result = make(a.shape, dtype)
        used(elements(a, dtype), elements(b, dtype))
        return convert(result, to: a.dtype)
    }

    public func activate(_ x: Tensor, _ activation: Activation) -> Tensor { unary(x) }

    public func activateBackward(_ upstream: Tensor, input: Tensor, _ activation: Activation) -> Tensor {
        binary(upstream, input)
    }

    public func add(_ a: Tensor, _ b: Tensor, scale: Float) -> Tensor { binary(a, b) }

    public func multiply(_ a: Tensor, _ b: Tensor) -> Tensor { binary(a, b) }

    public func affine(_ a: Tensor, scale: Float, offset: Float) -> Tensor { unary(a) }

    public func minimum(_ a: Tensor, _ b: Tensor) -> Tensor { binary(a, b) }

    public func minimumBackward(_ upstream: Tensor, _ a: Tensor, _ b: Tensor, first: Bool) -> Tensor {
        convert(unary(a, upstream), to: upstream.dtype)
    }

    public func clamp(_ x: Tensor, low: Float, high: Float) -> Tensor { unary(x) }

    public func clampBackward(_ upstream: Tensor, input: Tensor, low: Float, high: Float) -> Tensor {
        binary(upstream, input)
    }

    public func multiplyBroadcast(_ a: Tensor, _ b: Tensor, onRows: Bool) -> Tensor {
        let result = make(like: a)
        used(floats(b))
        return result
    }

    public func addBroadcast(_ a: Tensor, _ b: Tensor) -> Tensor { multiplyBroadcast(a, b, onRows: false) }

    public func gatedAdd(_ base: Tensor, _ y: Tensor, modulation: Tensor, gate: Int) -> Tensor {
        let result = make(like: base)
        used(floats(modulation), elements(y, base.dtype))
        return result
    }

    public func gatedAddBackward(_ upstream: Tensor, y: Tensor, modulation: Tensor, gate: Int) -> (
        y: Tensor, modulation: Tensor
    ) {
        let (dy, dModulation) = (make(like: y), make(modulation.shape, .float32))
        used(floats(modulation), elements(upstream, y.dtype))
        return (dy, convert(dModulation, to: modulation.dtype))
    }

    // MARK: Optimiser

    public func sumOfSquares(_ x: Tensor) -> Double { 0 }

    public func adam(
        parameter: Tensor, gradient: Tensor, moment1: Tensor, moment2: Tensor, _ step: AdamStep
    ) -> (parameter: Tensor, moment1: Tensor, moment2: Tensor) {
        let shape = parameter.shape
        let result = (
            parameter: make(shape, .float32), moment1: make(shape, .float32), moment2: make(shape, .float32)
        )
        used(floats(parameter), floats(gradient), floats(moment1), floats(moment2))
        return result
    }

    // MARK: Reduction

    public func sumRows(_ x: Tensor, trailing: Int) -> Tensor { make([trailing], .float32) }

    public func meanBlocks(_ x: Tensor, rows: Int) -> Tensor { make([rows], .float32) }

    public func spread(_ x: Tensor, to shape: [Int], dtype: DType) -> Tensor { make(shape, dtype) }

    public func topMean(_ x: Tensor, count: Int) -> Tensor {
        let result = make([x.shape[0]], .float32)
        used(scratch(4 * x.shape[1]))
        return result
    }

    public func topMeanBackward(_ upstream: Tensor, input: Tensor, count: Int) -> Tensor {
        let result = make(like: input)
        used(scratch(4 * input.shape[1]), floats(upstream))
        return result
    }

    public func tokenStatistics(_ x: Tensor) -> Tensor { make([x.shape[0], 4 * x.shape[2]], .float32) }

    // MARK: Layout

    public func concatenate(_ parts: [Tensor], axis: Int) -> Tensor {
        var shape = parts[0].shape
        shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
        let result = make(shape, parts[0].dtype)
        for part in parts { used(elements(part, parts[0].dtype)) }
        return result
    }

    public func slice(_ x: Tensor, axis: Int, range: Range<Int>) -> Tensor {
        var shape = x.shape
        shape[axis] = range.count
        return make(shape, x.dtype)
    }

    public func padded(_ x: Tensor, axis: Int, before: Int, after: Int) -> Tensor {
        var shape = x.shape
        shape[axis] += before + after
        return make(shape, x.dtype)
    }

    public func transpose(_ x: Tensor, axes: [Int]) -> Tensor { make(axes.map { x.shape[$0] }, x.dtype) }

    public func upsampleNearest(_ x: Tensor) -> Tensor {
        make([x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3]], x.dtype)
    }

    public func upsampleNearestBackward(_ upstream: Tensor) -> Tensor {
        make([upstream.shape[0], upstream.shape[1] / 2, upstream.shape[2] / 2, upstream.shape[3]], upstream.dtype)
    }

    public func gatherRows(_ table: Tensor, indices: [Int32]) -> Tensor {
        let result = make([indices.count, table.shape[1]], table.dtype)
        (table.buffer as? RehearsalBuffer)?.read(result.count * table.dtype.byteCount)
        return result
    }

    public func scatterRows(_ rows: Tensor, indices: [Int32], rowCount: Int) -> Tensor {
        make([rowCount, rows.shape[1]], .float32)
    }

    public func resizeBicubic(_ x: Tensor, height: Int, width: Int) -> Tensor {
        let result = make([x.shape[0], height, width, x.shape[3]], x.dtype)
        used(scratch(4 * x.shape[1] * width * x.shape[3]))
        return result
    }
}
