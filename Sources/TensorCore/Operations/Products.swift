/// act(x Wᵀ + b), the affine map of a layer.
///
/// - Parameters:
///   - x: [..., K].
///   - weight: [N, K], row-major as PyTorch's `Linear.weight`.
///   - bias: [N] or nil.
///   - activation: applied to the result; fused where nothing is tracked.
/// - Returns: [..., N].
public func linear(_ x: Tensor, weight: Tensor, bias: Tensor? = nil, activation: Activation? = nil) -> Tensor {
    precondition(weight.rank == 2 && x.size(-1) == weight.shape[1], "linear: \(x.shape) x \(weight.shape)")
    precondition(
        bias == nil || bias?.shape == [weight.shape[0]], "linear: bias \(bias?.shape ?? []) of \(weight.shape)")
    let rows_MK = x.reshaped(-1, weight.shape[1])
    let outputShape = x.shape.dropLast() + [weight.shape[0]]
    guard [rows_MK, weight, bias].contains(where: { $0?.isTracked == true }) else {
        return x.engine.linear(rows_MK, weight: weight, bias: bias, activation: activation).reshaped(Array(outputShape))
    }
    let update = weight.node?.update
    let inputs = [rows_MK] + (update.map { [$0.up, $0.down] } ?? [weight]) + (bias.map { [$0] } ?? [])
    let product = x.engine.linear(rows_MK, weight: weight, bias: bias, activation: nil).recording(inputs) { upstream in
        let engine = upstream.engine
        let input =
            rows_MK.isTracked
            ? engine.matmul(upstream, weight, transposeA: false, transposeB: false, dtype: rows_MK.dtype) : nil
        let ofWeight: [Tensor?] =
            if let update {
                update.gradients(rows_MK, upstream: upstream)
            } else if weight.isTracked {
                [engine.matmul(upstream, rows_MK, transposeA: true, transposeB: false, dtype: .float32)]
            } else {
                [nil]
            }
        let ofBias: [Tensor?] =
            bias.map { [$0.isTracked ? engine.sumRows(upstream, trailing: upstream.shape[1]) : nil] } ?? []
        return [input] + ofWeight + ofBias
    }
    let activated = activation.map { product.activated($0) } ?? product
    return activated.reshaped(Array(outputShape))
}

/// base + x Wᵀ + b, a residual branch's last layer; one pass where nothing is tracked.
///
/// In bfloat16 that pass rounds once, the sum; with gradients the product is rounded too.
///
/// - Parameters:
///   - x: [..., K].
///   - weight: [N, K], row-major as PyTorch's `Linear.weight`.
///   - bias: [N] or nil.
///   - base: [..., N], of x's dtype.
/// - Returns: [..., N].
public func linear(_ x: Tensor, weight: Tensor, bias: Tensor? = nil, addedTo base: Tensor) -> Tensor {
    precondition(
        weight.rank == 2 && x.size(-1) == weight.shape[1] && base.shape == x.shape.dropLast() + [weight.shape[0]]
            && base.dtype == x.dtype,
        "linear: \(base.shape) \(base.dtype) + \(x.shape) \(x.dtype) x \(weight.shape)")
    precondition(
        bias == nil || bias?.shape == [weight.shape[0]], "linear: bias \(bias?.shape ?? []) of \(weight.shape)")
    guard ![x, weight, bias, base].contains(where: { $0?.isTracked == true }) else {
        return base + linear(x, weight: weight, bias: bias)
    }
    let (rows_MK, base_MN) = (x.reshaped(-1, weight.shape[1]), base.reshaped(-1, weight.shape[0]))
    return x.engine.linear(rows_MK, weight: weight, bias: bias, addedTo: base_MN).reshaped(base.shape)
}

/// softmax(scale q kᵀ + bias) v for each head, in one pass.
///
/// - Parameters:
///   - query: [B, Sq, H·d].
///   - key: [B, Sk, H·d].
///   - value: [B, Sk, H·d].
///   - headCount: H.
///   - scale: 1/sqrt(d) unless given.
///   - mask: which keys a query sees.
///   - bias: fp32 [H, Sq, Sk] added to the scores, not differentiated (T5's relative positions).
/// - Returns: [B, Sq, H·d].
public func attention(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, headCount: Int, scale: Float? = nil, mask: AttentionMask = .none,
    bias: Tensor? = nil
) -> Tensor {
    precondition(
        query.rank == 3 && key.shape == value.shape && query.size(2) == key.size(2) && query.size(2) % headCount == 0,
        "attention: \(query.shape), \(key.shape), \(value.shape), \(headCount) heads")
    let scale = scale ?? 1 / Float(query.size(2) / headCount).squareRoot()
    let (output, logSum) = query.engine.attention(
        query, key, value, headCount: headCount, scale: scale, mask: mask, bias: bias)
    return output.recording([query, key, value]) { upstream in
        let gradients = upstream.engine.attentionBackward(
            upstream, q: query.detached, k: key.detached, v: value.detached, output: output, logSum: logSum,
            headCount: headCount, scale: scale, mask: mask, bias: bias)
        return [gradients.q, gradients.k, gradients.v]
    }
}

/// Two-dimensional convolution over channels-last images.
///
/// - Parameters:
///   - x: [B, H, W, Cin].
///   - weight: [Cout, Cin, kh, kw], PyTorch's layout.
///   - bias: [Cout] or nil.
///   - geometry: stride and padding.
/// - Returns: [B, H', W', Cout].
public func convolution(_ x: Tensor, weight: Tensor, bias: Tensor?, geometry: ConvolutionGeometry) -> Tensor {
    precondition(
        x.rank == 4 && weight.rank == 4 && x.shape[3] == weight.shape[1], "convolution: \(x.shape), \(weight.shape)")
    let inputs = [x, weight] + (bias.map { [$0] } ?? [])
    return x.engine.convolution(x, weight: weight, bias: bias, geometry: geometry).recording(inputs) { upstream in
        let engine = upstream.engine
        return [
            x.isTracked
                ? engine.convolutionInputGradient(upstream, weight: weight, inputShape: x.shape, geometry: geometry)
                : nil,
            weight.isTracked
                ? engine.convolutionWeightGradient(upstream, input: x, weightShape: weight.shape, geometry: geometry)
                : nil,
            bias?.isTracked == true ? engine.sumRows(upstream, trailing: upstream.shape[3]) : nil,
        ]
    }
}
