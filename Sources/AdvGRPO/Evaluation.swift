public import TensorCore

/// Fréchet distance between two sets of features, each taken for a Gaussian:
/// d² = ‖μ1 - μ2‖² + tr(Σ1 + Σ2 - 2 (Σ1^½ Σ2 Σ1^½)^½).
///
/// Double precision, covariances with n - 1.
///
/// - Parameters:
///   - first_ND: fp32 features, at least two rows.
///   - second_MD: fp32 features, at least two rows.
/// - Source: Heusel et al. 2017, eq. 6 in the symmetric form.
public func frechetDistance(_ first_ND: Tensor, _ second_MD: Tensor) -> Double {
    func gaussian(_ features_ND: Tensor) -> Gaussian {
        Gaussian(features_ND.matrix, counts: [Int](repeating: 1, count: features_ND.shape[0]))
    }
    return gaussian(first_ND).distance(to: gaussian(second_MD))
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
    /// Standard error of each of these, by its name, from `PromptBootstrap`; none for a single prompt.
    public let standardErrors: [String: Double]

    /// - Parameters:
    ///   - generated: CLS features [B, D] of each prompt's images.
    ///   - references: CLS features [R, D] of each prompt's references, prompts in the same order.
    ///   - lanes: threads; the result does not depend on how many there are.
    public init(generated: [Tensor], references: [Tensor], lanes: Lanes = Lanes(count: 1)) {
        precondition(
            !generated.isEmpty && generated.count == references.count, "evaluation: \(generated.count) prompts")
        let similarities = zip(generated, references).map { nearestSimilarity($0, $1).map(Double.init) }
        let diversities = generated.map { pairwiseDiversity($0) }
        let (images, real) = (PromptFeatures(generated), PromptFeatures(references))
        let figures: [String: PromptBootstrap.Figure] = [
            "dinoSimilarity": { mean(similarities, counts: $0) },
            "frechetDistance": { images.distance(to: real, counts: $0) },
            "diversity": { mean(diversities.map { $0.map { [$0] } ?? [] }, counts: $0) },
        ]
        let measured = PromptBootstrap(promptCount: generated.count).measured(figures, lanes: lanes)
        dinoSimilarity = measured.values["dinoSimilarity"] ?? .nan
        frechetDistance = measured.values["frechetDistance"]
        diversity = measured.values["diversity"]
        standardErrors = measured.standardErrors
    }
}
