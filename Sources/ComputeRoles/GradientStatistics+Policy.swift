public import AdvGRPO
public import Protocol

extension GradientStatistics {
    /// A group's statistics as they travel.
    public init(_ statistics: PolicyStatistics) {
        self.init(
            sampleCount: statistics.count, ratioCount: statistics.ratioCount, loss: statistics.lossSum,
            distance: statistics.klSum, squaredChange: statistics.squaredChangeSum, ratio: statistics.ratioSum,
            above: statistics.aboveCount, below: statistics.belowCount, smallestRatio: statistics.smallestRatio,
            largestRatio: statistics.largestRatio,
            drifts: statistics.drifts.sorted { $0.key < $1.key }.map { step, drift in
                Drift(step: step, sum: drift.sum, count: drift.count)
            })
    }

    /// The same as the update adds them up.
    ///
    /// - Precondition: no step has two drifts (`RunContract`).
    public var policy: PolicyStatistics {
        var statistics = PolicyStatistics()
        (statistics.count, statistics.ratioCount) = (sampleCount, ratioCount)
        (statistics.lossSum, statistics.klSum) = (loss, distance)
        (statistics.squaredChangeSum, statistics.ratioSum) = (squaredChange, ratio)
        (statistics.aboveCount, statistics.belowCount) = (above, below)
        (statistics.smallestRatio, statistics.largestRatio) = (smallestRatio, largestRatio)
        statistics.drifts = Dictionary(
            uniqueKeysWithValues: drifts.map { ($0.step, PolicyStatistics.Drift(sum: $0.sum, count: $0.count)) })
        return statistics
    }
}
