import AdvGRPO

/// The figures of an epoch, each declared once. The discriminator's are `DiscriminatorReport.metrics`.
///
/// Notation of the meanings: see `RunMetrics.documentation`.
extension EpochReport {
    /// What is read from an epoch's record.
    static let metrics = [runMetrics, rewardMetrics, policyMetrics, gaugeMetrics, timeMetrics]

    static let runMetrics = MetricTable<EpochReport>(
        "Run",
        [
            Metric("step", unit: "epochs", "number of the epoch, from 1") { Double($0.step.epoch + 1) },
            Metric("epoch", unit: "epochs", "the same, from 0: the number in group identifiers such as `12/3`") {
                Double($0.step.epoch)
            },
            Metric("images", unit: "images", "sampled and trained on since the run began") { Double($0.images) },
            Metric(
                "imagesPerSecond", unit: "images/s", "this epoch's images / `seconds.epoch`", healthy: "steady",
                live: "%.1f images/s"
            ) { $0.imageCount == 0 ? nil : Double($0.imageCount) / max($0.epochSeconds, 1e-9) },
            Metric("policyVersion", "version after this epoch; counts published policies") { Double($0.policyVersion) },
            Metric("discriminatorVersion", "version that scored this epoch; all groups of an epoch have one") {
                Double($0.discriminatorVersion)
            },
            Metric("trainsPolicy", unit: "0, 1", "whether the policy learned; see `schedule` in settings.md") {
                $0.step.plan.trainsPolicy ? 1 : 0
            },
            Metric("trainsDiscriminator", unit: "0, 1", "whether the discriminator learned") {
                $0.step.plan.trainsDiscriminator ? 1 : 0
            },
        ])

    static let rewardMetrics = MetricTable<EpochReport>(
        "Reward",
        preface: """
            A = (r - mean of the prompt) / (deviation + 1e-4), the deviation being the epoch's or the group's
            (`policy.advantageStandardDeviation`).
            """,
        [
            Metric(
                "reward.mean", unit: "reward", "mean r over the epoch's images, by the discriminator that scored them",
                healthy: "rises while D is fixed; with a learning D it may fall while images improve",
                chart: "Reward", live: "reward %.3f"
            ) { $0.step.advantages?.rewardMean },
            Metric(
                "reward.deviation", unit: "reward", "population standard deviation of r over the epoch",
                healthy: "well above 1e-4, the constant beside it in A"
            ) { $0.step.advantages?.rewardDeviation },
            Metric(
                "reward.groupDeviation", unit: "reward",
                "mean of the groups' own deviations: what images of one prompt differ by",
                healthy: "same order as `reward.deviation`"
            ) { $0.step.advantages?.meanGroupDeviation },
            Metric(
                "reward.zeroDeviationRatio", unit: "share",
                "groups whose rewards are all equal; they teach nothing", healthy: "0"
            ) { $0.step.advantages?.zeroDeviationRatio },
            Metric(
                family: "reward.NAME", unit: "score",
                "mean of a component, one of the names below `reward.weights` or `rewardProcesses`, before its weight; only "
                    + "components with a weight"
            ) { $0.componentMeans },
        ])

    static let policyMetrics = MetricTable<EpochReport>(
        "Policy", preface: "Absent from an epoch in which the policy does not learn.",
        [
            policy(
                "policy.loss",
                "mean over samples and window steps of max(-A rho, -A clip(rho, 1 - e, 1 + e)), with klWeight x "
                    + "`policy.referenceDistance`", healthy: "near 0; its sign means nothing"
            ) { $0.loss },
            Metric(
                "policy.supervisedLoss",
                "mean over the epoch's supervised steps of (v - (noise - latents))^2; absent from epochs of rollouts",
                healthy: "falls, noisily: levels are drawn anew in every step", chart: "Supervised loss",
                live: "loss %.3f"
            ) { $0.step.supervisedLoss },
            policy(
                "policy.approximateKL",
                "1/2 mean((l_now - l_rollout)^2): the estimator of the divergence from the sampling policy",
                healthy: "small, not growing"
            ) { $0.approximateKL },
            policy(
                "policy.clipFraction", unit: "share", "rho outside 1 +- `policy.clipRange`",
                healthy: "with one update an epoch 0, with more between 0.1 and 0.9"
            ) { $0.clipFraction },
            policy("policy.clipFractionAbove", unit: "share", "rho above it", healthy: "about as large as below") {
                $0.clipFractionAbove
            },
            policy("policy.clipFractionBelow", unit: "share", "rho below it", healthy: "about as large as above") {
                $0.clipFractionBelow
            },
            policy("policy.ratioMean", "mean rho over all updates of the epoch", healthy: "1 +- 1e-3") { $0.meanRatio },
            policy(
                "policy.ratioSmallest", "the smallest rho of the epoch",
                healthy: "near 1; the band is what lies between it and the largest"
            ) { $0.smallestRatio },
            policy("policy.ratioLargest", "the largest rho of the epoch", healthy: "near 1") { $0.largestRatio },
            Metric(
                family: "policy.drift.STEP",
                "mean absolute l_now - l_rollout of a trained step of the schedule, by its number from 0",
                healthy: "small, not growing"
            ) { report in
                Dictionary(uniqueKeysWithValues: report.step.policy.drift.map { (String($0), $1) })
            },
            Metric(
                "policy.learningRate",
                "of the epoch's updates: `policy.learningRate`, halved as often as the gauge did",
                healthy: "constant"
            ) { $0.step.updates.isEmpty ? nil : $0.learningRate },
            Metric(
                "policy.firstRatioMean",
                "mean rho in the epoch's first update, where the policy has not moved yet",
                healthy: "exactly 1; anything else says that rollout and learner compute differently"
            ) { $0.step.updates.first?.statistics.meanRatio },
            Metric(
                "policy.gradientNorm",
                "mean over the epoch's optimiser steps of the global norm of the averaged gradient before clipping",
                healthy: "steady; far above `policy.maximumGradientNorm` means that every update is clipped",
                chart: "Policy's gradient"
            ) { $0.step.gradientNorm },
            Metric(
                "policy.halvesCosine", unit: "cosine",
                "cosine of the gradients of an update's even and of its odd groups, mean over the updates; absent with one "
                    + "group an update or `policy.adapter` full",
                healthy: "noisy, and above 0 in the mean of many epochs: the part of the gradient that is signal"
            ) { $0.step.policy.halvesCosine },
            policy(
                "policy.referenceDistance",
                "mean squared distance of the step's mean to that of the policy without adapter; 0 if "
                    + "`policy.klWeight` is 0", healthy: "grows slowly"
            ) { $0.referenceDistance },
        ])

    /// A figure over all updates of the epoch.
    private static func policy(
        _ name: String, unit: String = "", _ meaning: String, healthy: String,
        _ value: @escaping @Sendable (PolicyStatistics) -> Double
    ) -> Metric<EpochReport> {
        Metric(name, unit: unit, meaning, healthy: healthy) { $0.step.updates.isEmpty ? nil : value($0.step.policy) }
    }

    static let timeMetrics = MetricTable<EpochReport>(
        "Time",
        [
            Metric("seconds.epoch", unit: "s", "wall time of the epoch: rollout and training") { $0.epochSeconds },
            Metric(
                "seconds.rollout", unit: "s", "from the end of the epoch before to the last delivered score",
                healthy: "most of the epoch", chart: "Seconds"
            ) { $0.seconds.rollout },
            Metric("seconds.policy", unit: "s", "the policy's optimiser steps") { $0.seconds.policy },
            Metric(
                "seconds.training", unit: "s",
                "policy and discriminator together; they learn at the same time", healthy: "near `seconds.policy`",
                chart: "Seconds"
            ) { $0.seconds.training },
            Metric(
                family: "seconds.worker.PHASE", unit: "s",
                "workers' time in `sample`, `decode` and `score`, which is waiting for scores; summed over groups",
                healthy: "score well below sample"
            ) { $0.workerSeconds },
            Metric(
                "overlap.ceiling",
                "(g + w + t) / max(g, w, t): g sampling and decoding, w waiting for scores (both a worker's mean), t "
                    + "`seconds.training`; what overlapping the stages can win at most", chart: "Overlap"
            ) { $0.overlap.ceiling },
            Metric(
                "overlap.reached",
                "(g + w + t) / `seconds.epoch`: what it won; about 1 without `rollout.overlap`",
                healthy: "towards the ceiling with `rollout.overlap` and cores to spare", chart: "Overlap"
            ) { $0.overlap.reached },
        ])
}
