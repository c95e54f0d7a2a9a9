public import TensorCore

/// The clipped policy loss of one window step.
///
/// ρ = exp(ℓ_θ - ℓ_old), L_i = max(-A ρ, -A clip(ρ, 1 - ε, 1 + ε)) + β M[(μ_θ - μ_ref)²].
///
/// μ_ref is the mean of the adapter-free policy. Flow-SDE divides the distance by 2s² (the divergence of two Gaussians); CPS
/// does not, as its log-probability drops the same factor.
///
/// Where tokens have advantages, ℓ, A and ρ are a token's and the maximum is averaged over an image's tokens.
///
/// - Source: paper eq. 2 and 3; Adv-GRPO@8287f90 `train_sd3_fast_dino_patch.py`. Tokens: ours.
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
    ///   - old: ℓ_old [B], or [B, rows, columns] of tokens.
    ///   - advantages: A, clamped, one an element of `old`.
    ///   - referenceMean: μ_ref, needed when β > 0.
    /// - Returns: L_i, fp32 [B], and sums over the samples.
    public func callAsFunction(
        step: FlowStep, mean: Tensor, next: Tensor, old: Tensor, advantages: [Float], referenceMean: Tensor? = nil
    ) -> (perSample: Tensor, statistics: PolicyStatistics) {
        var (loss, statistics) = clipped(
            logProbability: step.logProbability(of: next, mean: mean, tokens: PatchGrid(of: old)), old: old,
            advantages: advantages)
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

    /// The surrogate alone, from log-probabilities [B] or [B, rows, columns].
    func clipped(
        logProbability: Tensor, old: Tensor, advantages: [Float]
    ) -> (perSample: Tensor, statistics: PolicyStatistics) {
        let change = logProbability - old
        let ratio = change.activated(.exp)
        let A = old.engine.tensor(advantages, shape: old.shape)
        let surrogate = minimum(A * ratio, A * ratio.clamped(to: 1 - clipRange...1 + clipRange))
        let statistics = PolicyStatistics(
            change: change.detached.values, ratio: ratio.detached.values, clipRange: clipRange, samples: old.shape[0])
        return (-(old.rank == 1 ? surrogate : surrogate.meanPerSample()), statistics)
    }
}

extension PatchGrid {
    /// The places of tokens' log-probabilities [B, rows, columns]; nil of images' [B].
    fileprivate init?(of logProbability: Tensor) {
        guard logProbability.rank == 3 else { return nil }
        self.init(rows: logProbability.shape[1], columns: logProbability.shape[2])
    }
}

/// Sums over samples and window steps; the means are what is logged.
public struct PolicyStatistics: Sendable, Equatable {
    /// Samples times window steps.
    public var count = 0
    /// Ratios: as many, or one a token.
    public var ratioCount = 0
    /// Sum of the losses, distance included, and of the distances.
    public var lossSum = 0.0, klSum = 0.0
    /// Sums of (ℓ_θ - ℓ_old)² and of ρ.
    public var squaredChangeSum = 0.0, ratioSum = 0.0
    /// Ratios above 1 + ε and below 1 - ε.
    public var aboveCount = 0, belowCount = 0
    private var halvesSum = 0.0
    private var halvesCount = 0
    private var absoluteChangeSum = 0.0
    /// Of every trained step, by its number in the schedule.
    public var drifts: [Int: Drift] = [:]

    /// How far the ratios of one step are from 1.
    public struct Drift: Sendable, Equatable {
        /// Sum of |ℓ_θ - ℓ_old|.
        public var sum: Double
        /// Of how many.
        public var count: Int

        /// Both.
        public init(sum: Double, count: Int) {
            self.sum = sum
            self.count = count
        }
    }

    /// Smallest and largest ρ.
    public var smallestRatio = Double.infinity, largestRatio = -Double.infinity

    /// Nothing yet.
    public init() {}

    init(change: [Float], ratio: [Float], clipRange: Float, samples: Int) {
        count = samples
        ratioCount = change.count
        for (delta, rho) in zip(change, ratio) {
            squaredChangeSum += Double(delta) * Double(delta)
            absoluteChangeSum += abs(Double(delta))
            ratioSum += Double(rho)
            if rho - 1 > clipRange { aboveCount += 1 }
            if 1 - rho > clipRange { belowCount += 1 }
            smallestRatio = min(smallestRatio, Double(rho))
            largestRatio = max(largestRatio, Double(rho))
        }
    }

    /// Notes the cosine of the gradients of an update's two halves.
    mutating func note(halves cosine: Double) {
        halvesSum += cosine
        halvesCount += 1
    }

    /// Notes that all of it is of one step of the schedule.
    mutating func note(step: Int) { drifts[step] = Drift(sum: absoluteChangeSum, count: ratioCount) }

    private func share(_ sum: Double) -> Double { count == 0 ? 0 : sum / Double(count) }
    private func ratioShare(_ sum: Double) -> Double { ratioCount == 0 ? 0 : sum / Double(ratioCount) }

    /// Mean loss, distance included.
    public var loss: Double { share(lossSum) }
    /// Mean squared distance of the step means to the reference policy's, before β.
    public var referenceDistance: Double { share(klSum) }
    /// ½ mean((ℓ_θ - ℓ_old)²), an estimate of the divergence from the policy that sampled.
    public var approximateKL: Double { ratioShare(squaredChangeSum) / 2 }
    /// Mean |ℓ_θ - ℓ_old| of every trained step of the schedule, by its number.
    public var drift: [Int: Double] { drifts.mapValues { $0.sum / Double(max(1, $0.count)) } }
    /// Mean ρ.
    public var meanRatio: Double { ratioShare(ratioSum) }
    /// Share of ρ outside 1 ± ε.
    public var clipFraction: Double { clipFractionAbove + clipFractionBelow }
    /// Share of ρ above 1 + ε.
    public var clipFractionAbove: Double { ratioShare(Double(aboveCount)) }
    /// Share of ρ below 1 - ε.
    public var clipFractionBelow: Double { ratioShare(Double(belowCount)) }
    /// Mean over the updates of the cosine between the gradients of their two halves, how much of a step is signal
    /// (`GradientHalves`); nil where nothing measured it.
    public var halvesCosine: Double? { halvesCount == 0 ? nil : halvesSum / Double(halvesCount) }

    /// Both together.
    public static func + (a: PolicyStatistics, b: PolicyStatistics) -> PolicyStatistics {
        var sum = a
        sum.count += b.count
        sum.ratioCount += b.ratioCount
        sum.halvesSum += b.halvesSum
        sum.halvesCount += b.halvesCount
        sum.absoluteChangeSum += b.absoluteChangeSum
        sum.drifts.merge(b.drifts) { Drift(sum: $0.sum + $1.sum, count: $0.count + $1.count) }
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
