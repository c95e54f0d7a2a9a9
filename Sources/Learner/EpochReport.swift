import AdvGRPO
import Protocol

/// What one epoch did, as metrics tell it; docs/metrics.md defines every name.
struct EpochReport {
    /// What the method did.
    let step: StepReport
    let imageCount: Int
    /// Images of the run, this epoch's included.
    let images: Int
    /// The version that scored the epoch.
    let discriminatorVersion: Int
    let discriminator: DiscriminatorTrained?
    /// Seconds of the workers by phase, summed over groups.
    let workerSeconds: [String: Double]
    /// Mean of each reward component.
    let componentMeans: [String: Double]
    /// How the epoch's stages could lie over each other, and did.
    let overlap: Overlap
    /// From the end of the epoch before to the last score; of the policy's updates; of both players' training.
    let rolloutSeconds: Double, policySeconds: Double, trainingSeconds: Double

    init(
        step: StepReport, results: [GroupResult], discriminatorVersion: DiscriminatorVersion,
        discriminator: DiscriminatorTrained?,
        imagesBefore: Int, rolloutSeconds: Double, policySeconds: Double, trainingSeconds: Double
    ) {
        self.step = step
        self.discriminatorVersion = discriminatorVersion.rawValue
        self.discriminator = discriminator
        self.rolloutSeconds = rolloutSeconds
        self.policySeconds = policySeconds
        self.trainingSeconds = trainingSeconds
        imageCount = results.reduce(0) { $0 + $1.rewards.elementCount }
        images = imagesBefore + imageCount
        let workerSeconds = results.reduce(into: [:]) { sums, result in
            sums.merge(result.seconds, uniquingKeysWith: +)
        }
        self.workerSeconds = workerSeconds
        let workers = Double(max(Set(results.map(\.worker)).count, 1))
        overlap = Overlap(
            generation: (workerSeconds["sample", default: 0] + workerSeconds["decode", default: 0]) / workers,
            reward: workerSeconds["score", default: 0] / workers, training: trainingSeconds,
            epoch: rolloutSeconds + trainingSeconds)
        var sums: [String: (sum: Double, count: Int)] = [:]
        for (name, payload) in results.flatMap(\.components) {
            let values = payload.floats
            sums[name, default: (0, 0)].sum += values.reduce(0) { $0 + Double($1) }
            sums[name, default: (0, 0)].count += values.count
        }
        componentMeans = sums.mapValues { $0.sum / Double(max($0.count, 1)) }
    }

    /// The whole epoch.
    var epochSeconds: Double { rolloutSeconds + trainingSeconds }
    var imagesPerSecond: Double { Double(imageCount) / max(epochSeconds, 1e-9) }

    /// Wall seconds by stage.
    var stageSeconds: [String: Double] {
        [
            "rollout": rolloutSeconds, "policy": policySeconds, "training": trainingSeconds,
            "generation": overlap.generation, "reward": overlap.reward,
        ]
    }

    /// Every figure, by its metric's name.
    func metrics(policyVersion: Int) -> [String: Double] {
        var values: [String: Double] = [
            "epoch": Double(step.epoch), "images": Double(images), "imagesPerSecond": imagesPerSecond,
            "policyVersion": Double(policyVersion), "discriminatorVersion": Double(discriminatorVersion),
            "trainsPolicy": step.plan.trainsPolicy ? 1 : 0,
            "trainsDiscriminator": step.plan.trainsDiscriminator ? 1 : 0,
            "seconds.epoch": epochSeconds, "seconds.rollout": rolloutSeconds, "seconds.policy": policySeconds,
            "seconds.training": trainingSeconds, "reward.mean": step.advantages.rewardMean,
            "reward.deviation": step.advantages.rewardDeviation,
            "reward.groupDeviation": step.advantages.meanGroupDeviation,
            "reward.zeroDeviationRatio": step.advantages.zeroDeviationRatio,
            "overlap.ceiling": overlap.ceiling, "overlap.reached": overlap.reached,
        ]
        for (phase, seconds) in workerSeconds { values["seconds.worker.\(phase)"] = seconds }
        for (name, mean) in componentMeans { values["reward.\(name)"] = mean }
        if let first = step.updates.first {
            let policy = step.policy
            values["policy.loss"] = policy.loss
            values["policy.approximateKL"] = policy.approximateKL
            values["policy.clipFraction"] = policy.clipFraction
            values["policy.clipFractionAbove"] = policy.clipFractionAbove
            values["policy.clipFractionBelow"] = policy.clipFractionBelow
            values["policy.ratioMean"] = policy.meanRatio
            values["policy.firstRatioMean"] = first.statistics.meanRatio
            values["policy.gradientNorm"] = step.gradientNorm
            values["policy.referenceDistance"] = policy.referenceDistance
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

/// What overlapping the stages of an epoch can win at most, and what it won: how many times the epoch's wall time the stages take
/// one after the other.
struct Overlap: Equatable {
    /// Wall seconds of a worker in sampling and decoding, in waiting for scores, and of the learner in training.
    let generation: Double, reward: Double, training: Double
    /// Wall seconds of the epoch.
    let epoch: Double

    private var sum: Double { generation + reward + training }

    /// (generation + reward + training) / the longest of them: 1 when one stage is all there is, 3 when all are equal.
    var ceiling: Double { sum / max(generation, reward, training, 1e-9) }

    /// (generation + reward + training) / the epoch's wall time: about 1 without `rollout.overlap`.
    var reached: Double { sum / max(epoch, 1e-9) }
}
