public import TensorCore

/// Fréchet distance between two sets of features, each taken for a Gaussian:
/// d² = ‖μ1 - μ2‖² + tr(Σ1 + Σ2 - 2 (Σ1^½ Σ2 Σ1^½)^½).
///
/// Double precision, covariances with n - 1. The root's trace is the sum of the roots of the eigenvalues of the symmetric
/// Σ1^½ Σ2 Σ1^½; rounding may leave some slightly below zero, they count as zero.
///
/// - Parameters:
///   - first_ND: fp32 features, at least two rows.
///   - second_MD: fp32 features, at least two rows.
/// - Source: Heusel et al. 2017, eq. 6 in the symmetric form.
public func frechetDistance(_ first_ND: Tensor, _ second_MD: Tensor) -> Double {
    let (first, second) = (Gaussian(first_ND), Gaussian(second_MD))
    let gap = zip(first.mean, second.mean).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    // Σ1 = Vᵀ Λ V with eigenvectors as rows of V; Σ1^½ Σ2 Σ1^½ has the eigenvalues of Λ^½ V Σ2 Vᵀ Λ^½.
    let (values, vectors) = first.covariance.symmetricEigen()
    let D = values.count
    let projected = vectors.product(second.covariance).product(vectors, transposeOther: true)
    let roots = values.map { max($0, 0).squareRoot() }
    let scaled = (0..<D * D).map { projected.elements[$0] * roots[$0 / D] * roots[$0 % D] }
    let traceOfRoot = DoubleMatrix(rows: D, columns: D, elements: scaled).symmetricEigen().values
        .reduce(0) { $0 + max($1, 0).squareRoot() }
    return gap + first.trace + second.trace - 2 * traceOfRoot
}

/// Mean and covariance of rows.
private struct Gaussian {
    let mean: [Double]
    let covariance: DoubleMatrix

    init(_ features_ND: Tensor) {
        precondition(
            features_ND.rank == 2 && features_ND.shape[0] >= 2, "Fréchet distance: features \(features_ND.shape)")
        let (N, D) = (features_ND.shape[0], features_ND.shape[1])
        let values = features_ND.values
        var mean = [Double](repeating: 0, count: D)
        for index in values.indices { mean[index % D] += Double(values[index]) / Double(N) }
        let scale = 1 / Double(N - 1).squareRoot()
        let centred = DoubleMatrix(
            rows: N, columns: D, elements: values.indices.map { (Double(values[$0]) - mean[$0 % D]) * scale })
        self.mean = mean
        covariance = centred.product(centred, transposeSelf: true)
    }

    var trace: Double { (0..<mean.count).reduce(0) { $0 + covariance.elements[$1 * mean.count + $1] } }
}

/// Mean over all pairs of images of 1 - cosine of their features; nil for a group of one, which has no pair.
///
/// - Parameter features_BD: one row an image of the same prompt.
public func pairwiseDiversity(_ features_BD: Tensor) -> Double? {
    let B = features_BD.shape[0]
    guard B > 1 else { return nil }
    let unit = features_BD.unitNormalized()
    let cosines = linear(unit, weight: unit).values
    var sum = 0.0
    for row in 0..<B {
        for column in row + 1..<B { sum += 1 - Double(cosines[row * B + column]) }
    }
    return sum / Double(B * (B - 1) / 2)
}

/// What an evaluation says about a model: numbers over held-out prompts and fixed seeds.
public struct EvaluationReport: Sendable, Equatable, Codable {
    /// Mean over images of the largest cosine to the prompt's own references.
    public let dinoSimilarity: Double
    /// Fréchet distance of all generated images to all references, on CLS features; nil where either are fewer than two, which
    /// have no covariance.
    public let frechetDistance: Double?
    /// Mean over prompts of `pairwiseDiversity`; nil for one image a prompt.
    public let diversity: Double?

    /// - Parameters:
    ///   - generated: CLS features [B, D] of each prompt's images.
    ///   - references: CLS features [R, D] of each prompt's references, prompts in the same order.
    public init(generated: [Tensor], references: [Tensor]) {
        precondition(
            !generated.isEmpty && generated.count == references.count, "evaluation: \(generated.count) prompts")
        let similarities = zip(generated, references).flatMap { nearestSimilarity($0, $1) }
        dinoSimilarity = Moments(similarities.map(Double.init)).mean
        let (images, real) = (concatenated(generated, axis: 0), concatenated(references, axis: 0))
        frechetDistance = min(images.shape[0], real.shape[0]) < 2 ? nil : AdvGRPO.frechetDistance(images, real)
        let diversities = generated.compactMap { pairwiseDiversity($0) }
        diversity = diversities.isEmpty ? nil : Moments(diversities).mean
    }
}
