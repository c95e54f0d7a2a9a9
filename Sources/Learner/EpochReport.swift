import AdvGRPO
import Protocol
import Runtime

/// What one epoch did, as metrics tell it; docs/metrics.md defines every name.
struct EpochReport {
    let epoch: Int
    let imageCount: Int
    let startedAt: ContinuousClock.Instant
    let discriminatorVersion: Int
    /// Seconds of the workers by phase, summed over groups.
    let workerSeconds: [String: Double]
    /// Mean of each reward component.
    let componentMeans: [String: Double]
    var plan = EpochPlan(trainsDiscriminator: false, trainsPolicy: false)
    var policy: PolicyTrainer.Report?
    var advantages: Advantages?
    var discriminator: DiscriminatorTrained?
    var policySeconds = 0.0
    var trainingSeconds = 0.0
    var images = 0

    init(epoch: Int, results: [GroupResult], moment: RunMoment) {
        self.epoch = epoch
        imageCount = results.reduce(0) { $0 + $1.rewards.elementCount }
        startedAt = moment.epochBegan
        discriminatorVersion = moment.discriminatorVersion.rawValue
        rolloutSeconds = (ContinuousClock.now - moment.epochBegan).seconds
        workerSeconds = results.reduce(into: [:]) { sums, result in sums.merge(result.seconds, uniquingKeysWith: +) }
        var sums: [String: (sum: Double, count: Int)] = [:]
        for (name, payload) in results.flatMap(\.components) {
            let values = payload.floats
            sums[name, default: (0, 0)].sum += values.reduce(0) { $0 + Double($1) }
            sums[name, default: (0, 0)].count += values.count
        }
        componentMeans = sums.mapValues { $0.sum / Double(max($0.count, 1)) }
    }

    /// From the opening of the groups to the last score.
    let rolloutSeconds: Double
    /// The whole epoch.
    var epochSeconds: Double { rolloutSeconds + trainingSeconds }
    var imagesPerSecond: Double { Double(imageCount) / max(epochSeconds, 1e-9) }
    private var anyAdvantages: Advantages? { policy?.advantages ?? advantages }
    var rewardMean: Double? { anyAdvantages?.rewardMean }

    /// Wall seconds by stage.
    var stageSeconds: [String: Double] { ["rollout": rolloutSeconds, "policy": policySeconds, "training": trainingSeconds] }

    /// Every figure, by its metric's name.
    func metrics(policyVersion: Int) -> [String: Double] {
        var values: [String: Double] = [
            "epoch": Double(epoch), "images": Double(images), "imagesPerSecond": imagesPerSecond,
            "policyVersion": Double(policyVersion), "discriminatorVersion": Double(discriminatorVersion),
            "trainsPolicy": plan.trainsPolicy ? 1 : 0, "trainsDiscriminator": plan.trainsDiscriminator ? 1 : 0,
            "seconds.epoch": epochSeconds, "seconds.rollout": rolloutSeconds, "seconds.policy": policySeconds,
            "seconds.training": trainingSeconds,
        ]
        for (phase, seconds) in workerSeconds { values["seconds.worker.\(phase)"] = seconds }
        for (name, mean) in componentMeans { values["reward.\(name)"] = mean }
        if let anyAdvantages {
            values["reward.mean"] = anyAdvantages.rewardMean
            values["reward.deviation"] = anyAdvantages.rewardDeviation
            values["reward.groupDeviation"] = anyAdvantages.meanGroupDeviation
            values["reward.zeroDeviationRatio"] = anyAdvantages.zeroDeviationRatio
        }
        if let policy, let last = policy.updates.last {
            let all = policy.updates.dropFirst().reduce(policy.updates[0].statistics) { $0 + $1.statistics }
            values["policy.loss"] = all.loss
            values["policy.approximateKL"] = all.approximateKL
            values["policy.clipFraction"] = all.clipFraction
            values["policy.clipFractionAbove"] = all.clipFractionAbove
            values["policy.clipFractionBelow"] = all.clipFractionBelow
            values["policy.ratioMean"] = all.meanRatio
            values["policy.firstRatioMean"] = policy.updates[0].statistics.meanRatio
            values["policy.gradientNorm"] = last.gradientNorm
            values["policy.referenceDistance"] = all.referenceDistance
        }
        if let discriminator {
            values["discriminator.loss"] = discriminator.loss
            values["discriminator.accuracy"] = discriminator.accuracy
            values["discriminator.realMean"] = discriminator.realMean
            values["discriminator.fakeMean"] = discriminator.fakeMean
            values["discriminator.margin"] = discriminator.margin
            values["discriminator.auc"] = discriminator.auc
        }
        return values
    }
}
