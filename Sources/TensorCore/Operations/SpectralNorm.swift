/// W / σ with σ = uᵀ W v: a weight by its largest singular value, as its singular vectors estimate it (Miyato et al. 2018).
///
/// The gradient is that of σ as well, u and v constant: dW = (G - ⟨G, W⟩ / σ · u vᵀ) / σ.
///
/// - Parameters:
///   - weight: [N, ...], a matrix of N rows.
///   - vectors: u [N] and v [K], of unit length; `SingularVectors.iterated` brings them nearer.
/// - Returns: the shape of the weight.
/// - Source: torch.nn.utils.parametrizations.spectral_norm. Differences: none.
public func spectrallyNormalized(_ weight: Tensor, by vectors: SingularVectors) -> Tensor {
    let engine = weight.engine
    let matrix_NK = weight.detached.reshaped(weight.shape[0], -1)
    precondition(
        vectors.left_N.shape == [matrix_NK.shape[0]] && vectors.right_K.shape == [matrix_NK.shape[1]],
        "spectrallyNormalized: \(weight.shape) by \(vectors.left_N.shape) and \(vectors.right_K.shape)")
    let (left, right) = (vectors.left_N, vectors.right_K)
    let image_N = linear(right.reshaped(1, -1), weight: matrix_NK).reshaped(-1)
    let sigma = (left * image_N).sum().scalar
    return engine.affine(weight, scale: 1 / sigma, offset: 0).recording([weight]) { upstream in
        let share = (upstream.reshaped(-1) * weight.detached.reshaped(-1)).sum().scalar / sigma
        let outer_NK = engine.matmul(
            left.reshaped(-1, 1), right.reshaped(1, -1), transposeA: false, transposeB: false, dtype: .float32)
        let difference = upstream + engine.affine(outer_NK, scale: -share, offset: 0).reshaped(upstream.shape)
        return [engine.affine(difference, scale: 1 / sigma, offset: 0)]
    }
}

/// Estimates of a matrix' first left and right singular vectors, fp32 and of unit length.
public struct SingularVectors: Sendable {
    /// u, [N].
    public let left_N: Tensor
    /// v, [K].
    public let right_K: Tensor

    /// Both vectors.
    public init(left_N: Tensor, right_K: Tensor) {
        self.left_N = left_N
        self.right_K = right_K
    }

    /// After some power iterations u = W v / ‖W v‖, v = Wᵀ u / ‖Wᵀ u‖.
    ///
    /// - Parameter weight: [N, ...], a matrix of N rows.
    public func iterated(_ count: Int, on weight: Tensor) -> SingularVectors {
        let matrix_NK = weight.detached.reshaped(weight.shape[0], -1)
        let transposed_KN = matrix_NK.transposed(1, 0)
        var (left, right) = (left_N.reshaped(1, -1), right_K.reshaped(1, -1))
        for _ in 0..<count {
            left = linear(right, weight: matrix_NK).unitNormalized(epsilon: 1e-12)
            right = linear(left, weight: transposed_KN).unitNormalized(epsilon: 1e-12)
        }
        return SingularVectors(left_N: left.reshaped(-1), right_K: right.reshaped(-1))
    }
}
