import AdvGRPO
import Foundation
import Protocol

/// What the gauge reads that no other section has.
extension EpochReport {
    static let gaugeMetrics = MetricTable<EpochReport>(
        "Gauge",
        preface: """
            Whether the policy improves or only pleases the reward; `gauge` in settings.md says what is an alarm and what it
            does, troubleshooting.md what to do about one. The gauge also reads `reward.mean`, `policy.approximateKL`,
            `discriminator.auc` and `discriminator.heldOutHinge`.
            """,
        [
            Metric(
                "gauge.twin", unit: "score",
                "mean score of the epoch's images by the frozen twin: the discriminator's heads as they were when the policy "
                    + "began to follow them, or at the last refresh, weighted as in the reward; it enters no reward. Absent before, "
                    + "and where no discriminator learns",
                healthy: "does not fall while `reward.mean` rises", chart: "Reward"
            ) { $0.witness(.twin) },
            Metric(
                "gauge.diversity",
                "mean over pairs of a group's images of the root mean squared difference of their 8 x 8 thumbnails, 0 to 1; "
                    + "0 is one picture over and over",
                healthy: "not below half of its value at the start", chart: "Diversity"
            ) { $0.witness(.diversity) },
            Metric(
                "gauge.judgeTop1", unit: "share",
                "of the images of the epoch's contact sheet whose caption is the first choice of `judge`, which no reward reads; "
                    + "every `run.previewEvery` epochs, absent without a judge",
                healthy: "does not fall while `reward.mean` rises", chart: "Judge"
            ) { $0.judgement?.top1 },
            Metric(
                "gauge.judgeSimilarity", unit: "cosine",
                "mean over the same images of the largest cosine to the prompt's references by the features of `judge`",
                healthy: "rises", chart: "Judge"
            ) { $0.judgement?.similarity },
            Metric("gauge.alarms", unit: "alarms", "of the run so far", healthy: "0") { Double($0.alarmCount) },
        ])

    private func witness(_ witness: Witness) -> Double? { witnessMeans[witness.rawValue] }

    /// What the gauge reads of the epoch.
    var gaugeReading: Gauge.Reading {
        var reading = Gauge.Reading()
        reading.reward = step.advantages?.rewardMean
        reading.twin = witness(.twin)
        reading.diversity = witness(.diversity)
        reading.logRatio = step.updates.isEmpty ? nil : (2 * step.policy.approximateKL).squareRoot()
        reading.areaUnderCurve = discriminator["discriminator.auc"] ?? nil
        reading.hinge = discriminator["discriminator.heldOutHinge"] ?? nil
        return reading
    }
}

extension RunMetrics {
    /// Figures that show whether a run cheats, by the names of their metrics.
    private static let gauges =
        EpochReport.gaugeMetrics.section.metrics.map(\.name) + [
            "reward.zeroDeviationRatio", "policy.ratioSmallest", "policy.ratioLargest", "policy.halvesCosine",
            "discriminator.auc", "discriminator.heldOutMargin",
        ]

    /// Those of an epoch's figures, for `advgrpo health`.
    static func gauge(_ values: [String: Double]) -> JSONValue {
        .object(values.filter { gauges.contains($0.key) && $0.value.isFinite }.mapValues { .number($0) })
    }

    /// The same in the order of the gauge, for `advgrpo status`.
    public static func gaugeFigures(_ values: [String: Double]) -> [String] {
        gauges.compactMap { name in values[name].map { String(format: "%@ %.4g", name, $0) } }
    }
}
