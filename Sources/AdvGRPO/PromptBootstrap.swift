import TensorCore

/// Figures over prompts, and how far they would move with other prompts: their deviation over resamples of the prompts with
/// replacement.
///
/// A prompt is drawn with all its images and references, because images of one prompt are no independent draws. Resamples are
/// the same in every evaluation of as many prompts, so that two policies differ by their images alone.
///
/// - Source: Efron 1979; clusters as units.
struct PromptBootstrap: Sendable {
    /// A figure from how often each prompt counts; nil where it has none.
    typealias Figure = @Sendable (_ counts: [Int]) -> Double?

    /// Resamples: enough for a standard error within about 7% of itself.
    static let resampleCount = 100
    /// Prompts evaluated, at least one.
    let promptCount: Int

    /// How often each prompt is in a resample; adds up to the prompts.
    func counts(_ resample: Int) -> [Int] {
        let stream = Philox(seed: 0, purpose: .bootstrap, promptCount, resample)
        var counts = [Int](repeating: 0, count: promptCount)
        for draw in 0..<promptCount { counts[stream.integer(draw, below: promptCount)] += 1 }
        return counts
    }

    /// Every figure that the prompts have, by its name, and the standard errors of these; none for a single prompt.
    ///
    /// - Parameters:
    ///   - figures: by name.
    ///   - lanes: threads; the result does not depend on how many there are.
    func measured(_ figures: [String: Figure], lanes: Lanes) -> (
        values: [String: Double], standardErrors: [String: Double]
    ) {
        let values = figures.compactMapValues { $0([Int](repeating: 1, count: promptCount)) }
        guard promptCount > 1 else { return (values, [:]) }
        let resamples = lanes.map(Self.resampleCount) { index in
            let counts = counts(index)
            return figures.compactMapValues { $0(counts) }
        }
        let n = Double(Self.resampleCount)
        let errors = values.keys.map { name in
            (name, Moments(resamples.compactMap { $0[name] }).deviation * (n / (n - 1)).squareRoot())
        }
        return (values, Dictionary(uniqueKeysWithValues: errors))
    }
}

/// Mean of values that come in a group a prompt, each counted as often as its prompt; nil where none is.
func mean(_ values: [[Double]], counts: [Int]) -> Double? {
    var (sum, total) = (0.0, 0)
    for (group, count) in zip(values, counts) where count > 0 {
        sum += Double(count) * group.reduce(0, +)
        total += count * group.count
    }
    return total > 0 ? sum / Double(total) : nil
}

/// Features of images that come in a group a prompt.
struct PromptFeatures: Sendable {
    private let features_ND: DoubleMatrix
    /// Of each row.
    private let prompts: [Int]

    /// - Parameter groups: [B, D] of each prompt.
    init(_ groups: [Tensor]) {
        features_ND = concatenated(groups, axis: 0).matrix
        prompts = groups.enumerated().flatMap { [Int](repeating: $0, count: $1.shape[0]) }
    }

    /// Fréchet distance to others of the same prompts, each prompt counted so often; nil where either has fewer than two rows.
    func distance(to others: PromptFeatures, counts: [Int]) -> Double? {
        let (mine, theirs) = (prompts.map { counts[$0] }, others.prompts.map { counts[$0] })
        guard min(mine.reduce(0, +), theirs.reduce(0, +)) >= 2 else { return nil }
        return Gaussian(features_ND, counts: mine).distance(to: Gaussian(others.features_ND, counts: theirs))
    }
}
