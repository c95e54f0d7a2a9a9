public import TensorCore

/// The clipped policy loss of one window step.
///
/// ρ = exp(ℓ_θ - ℓ_old), L_i = max(-A ρ, -A clip(ρ, 1 - ε, 1 + ε)) + β M[(μ_θ - μ_ref)²].
///
/// μ_ref is the mean of the adapter-free policy. Flow-SDE divides the distance by 2s² (the divergence of two Gaussians); CPS
/// does not, as its log-probability drops the same factor.
///
/// - Source: paper eq. 2 and 3; Adv-GRPO@8287f90 `train_sd3_fast_dino_patch.py`.
public struct PolicyLoss: Sendable {
    /// ε.
    public let clipRange: Float
    /// β; 0 computes no distance.
    public let klWeight: Float

    /// - Parameter settings: validated.
    public init(settings: PolicySettings) {
        clipRange = Float(settings.clipRange)
        klWeight = Float(settings.klWeight)
    }

    /// Loss of each sample, and what is logged of it.
    ///
    /// - Parameters:
    ///   - step: the window step.
    ///   - mean: μ_θ [B, C, H, W], tracked.
    ///   - next: x' as stored.
    ///   - old: ℓ_old [B].
    ///   - advantages: A, clamped, one a sample.
    ///   - referenceMean: μ_ref, needed when β > 0.
    /// - Returns: L_i, fp32 [B], and sums over the samples.
    public func callAsFunction(
        step: FlowStep, mean: Tensor, next: Tensor, old: Tensor, advantages: [Float], referenceMean: Tensor? = nil
    ) -> (perSample: Tensor, statistics: PolicyStatistics) {
        var (loss, statistics) = clipped(
            logProbability: step.logProbability(of: next, mean: mean), old: old, advantages: advantages)
        if klWeight > 0 {
            guard let referenceMean else {
                preconditionFailure("policy loss: klWeight \(klWeight) without a reference")
            }
            var distance = (mean - referenceMean.detached).activated(.square).meanPerSample()
            if step.kind == .flowSDE { distance = distance * (1 / (2 * step.noiseScale * step.noiseScale)) }
            statistics.klSum = distance.detached.values.reduce(0) { $0 + Double($1) }
            loss = loss + distance * klWeight
        }
        statistics.lossSum = loss.detached.values.reduce(0) { $0 + Double($1) }
        return (loss, statistics)
    }

    /// The surrogate alone, from log-probabilities [B].
    func clipped(
        logProbability: Tensor, old: Tensor, advantages: [Float]
    ) -> (perSample: Tensor, statistics: PolicyStatistics) {
        let change = logProbability - old
        let ratio = change.activated(.exp)
        let A = old.engine.tensor(advantages, shape: [advantages.count])
        let surrogate = minimum(A * ratio, A * ratio.clamped(to: 1 - clipRange...1 + clipRange))
        let statistics = PolicyStatistics(
            change: change.detached.values, ratio: ratio.detached.values, clipRange: clipRange)
        return (-surrogate, statistics)
    }
}

/// Sums over samples and window steps; the means are what is logged.
public struct PolicyStatistics: Sendable, Equatable {
    /// Samples times window steps.
    public var count = 0
    var lossSum = 0.0
    var klSum = 0.0
    private var squaredChangeSum = 0.0
    private var ratioSum = 0.0
    private var aboveCount = 0
    private var belowCount = 0
    /// Smallest and largest ρ.
    public private(set) var smallestRatio = Double.infinity, largestRatio = -Double.infinity

    /// Nothing yet.
    public init() {}

    init(change: [Float], ratio: [Float], clipRange: Float) {
        count = change.count
        for (delta, rho) in zip(change, ratio) {
            squaredChangeSum += Double(delta) * Double(delta)
            ratioSum += Double(rho)
            if rho - 1 > clipRange { aboveCount += 1 }
            if 1 - rho > clipRange { belowCount += 1 }
            smallestRatio = min(smallestRatio, Double(rho))
            largestRatio = max(largestRatio, Double(rho))
        }
    }

    private func share(_ sum: Double) -> Double { count == 0 ? 0 : sum / Double(count) }

    /// Mean loss, distance included.
    public var loss: Double { share(lossSum) }
    /// Mean squared distance of the step means to the reference policy's, before β.
    public var referenceDistance: Double { share(klSum) }
    /// ½ mean((ℓ_θ - ℓ_old)²), an estimate of the divergence from the policy that sampled.
    public var approximateKL: Double { share(squaredChangeSum) / 2 }
    /// Mean ρ.
    public var meanRatio: Double { share(ratioSum) }
    /// Share of ρ outside 1 ± ε.
    public var clipFraction: Double { clipFractionAbove + clipFractionBelow }
    /// Share of ρ above 1 + ε.
    public var clipFractionAbove: Double { share(Double(aboveCount)) }
    /// Share of ρ below 1 - ε.
    public var clipFractionBelow: Double { share(Double(belowCount)) }

    /// Both together.
    public static func + (a: PolicyStatistics, b: PolicyStatistics) -> PolicyStatistics {
        var sum = a
        sum.count += b.count
        sum.lossSum += b.lossSum
        sum.klSum += b.klSum
        sum.squaredChangeSum += b.squaredChangeSum
        sum.ratioSum += b.ratioSum
        sum.aboveCount += b.aboveCount
        sum.belowCount += b.belowCount
        sum.smallestRatio = min(a.smallestRatio, b.smallestRatio)
        sum.largestRatio = max(a.largestRatio, b.largestRatio)
        return sum
    }
}
