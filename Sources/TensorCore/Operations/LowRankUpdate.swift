/// W + scale · B · A in W's dtype, computed in fp32: a weight and a low-rank change of it (Hu et al. 2021).
///
/// Differentiable in all three. `linear` with this weight, where W is constant, never forms the gradient of the weight where the factors' own take
/// fewer operations: dB = scale · dYᵀ (X Aᵀ) and dA = scale · (dY B)ᵀ X.
///
/// - Parameters:
///   - weight: W, [N, K].
///   - up: B, fp32 [N, r].
///   - down: A, fp32 [r, K].
///   - scale: what the product is multiplied by.
/// - Returns: [N, K].
public func updated(_ weight: Tensor, up: Tensor, down: Tensor, scale: Float) -> Tensor {
    precondition(
        up.rank == 2 && down.rank == 2 && up.shape[1] == down.shape[0] && weight.shape == [up.shape[0], down.shape[1]],
        "updated: \(weight.shape) + \(up.shape) x \(down.shape)")
    let change = linear(up, weight: down.transposed(1, 0)) * scale
    let sum = (weight.converted(to: .float32) + change).converted(to: weight.dtype)
    let (N, K, r) = (weight.shape[0], weight.shape[1], down.shape[0])
    guard !weight.isTracked, up.isTracked, down.isTracked, 2 * r * (N + K) < N * K else { return sum }
    let update = LowRankUpdate(
        up: up, down: down, scale: scale, narrowUp: up.detached.converted(to: weight.dtype),
        narrowDown: down.detached.converted(to: weight.dtype))
    return sum.attached(to: GradientNode(inputs: [sum.node], kind: .operation { [$0] }, update: update))
}

/// The factors of a weight's update, and how products with the weight pass gradients to them.
struct LowRankUpdate: Sendable {
    let up: Tensor, down: Tensor
    let scale: Float
    /// The factors in the precision of the products.
    let narrowUp: Tensor, narrowDown: Tensor

    /// Gradients of B and A, fp32. x [M, K], upstream [M, N].
    func gradients(_ x: Tensor, upstream: Tensor) -> [Tensor] {
        let engine = x.engine
        let low_Mr = engine.matmul(x, narrowDown, transposeA: false, transposeB: true, dtype: x.dtype)
        let upstream_Mr = engine.matmul(upstream, narrowUp, transposeA: false, transposeB: false, dtype: x.dtype)
        // Of two operands the narrow one is read across its rows.
        let up_rN = engine.matmul(low_Mr, upstream, transposeA: true, transposeB: false, dtype: .float32)
        let down_rK = engine.matmul(upstream_Mr, x, transposeA: true, transposeB: false, dtype: .float32)
        return [
            engine.affine(engine.transpose(up_rN, axes: [1, 0]), scale: scale, offset: 0),
            engine.affine(down_rK, scale: scale, offset: 0),
        ]
    }
}
