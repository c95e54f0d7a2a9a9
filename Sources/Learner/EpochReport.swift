import AdvGRPO
import Protocol

/// What one epoch did: the record that `EpochReport.metrics` reads.
struct EpochReport {
    /// Wall seconds of an epoch's stages.
    struct Seconds: Equatable {
        /// From the end of the epoch before to the last score.
        var rollout: Double
        /// Of the policy's updates.
        var policy: Double
        /// Of both players' training.
        var training: Double
    }

    /// What the method did.
    let step: StepReport
    let imageCount: Int
    /// Images of the run, this epoch's included.
    let images: Int
    /// After the epoch.
    let policyVersion: Int
    /// The version that scored the epoch.
    let discriminatorVersion: Int
    /// The reward server's figures, by name; empty where the discriminator did not learn, nil for what is not finite.
    let discriminator: [String: Double?]
    /// Seconds of the workers by phase, summed over groups.
    let workerSeconds: [String: Double]
    /// Mean of each reward component.
    let componentMeans: [String: Double]
    /// Mean of each witness.
    let witnessMeans: [String: Double]
    /// Alarms of the run, this epoch's included.
    var alarmCount = 0
    /// Of the policy's updates, the gauge's halvings included.
    var learningRate = 0.0
    /// What the judge says of the contact sheet after the epoch; nil without either.
    var judgement: PreviewJudge.Judgement?
    /// How the epoch's stages could lie over each other, and did.
    let overlap: Overlap
    let seconds: Seconds

    init(
        step: StepReport, results: [GroupResult], scoredBy version: DiscriminatorVersion, policyVersion: PolicyVersion,
        discriminator: DiscriminatorTrained?, imagesBefore: Int, seconds: Seconds
    ) {
        self.step = step
        self.policyVersion = policyVersion.rawValue
        discriminatorVersion = version.rawValue
        self.discriminator = discriminator?.metrics ?? [:]
        self.seconds = seconds
        imageCount = results.reduce(0) { $0 + $1.rewards.elementCount }
        images = imagesBefore + imageCount
        let workerSeconds = results.reduce(into: [:]) { sums, result in
            sums.merge(result.seconds, uniquingKeysWith: +)
        }
        self.workerSeconds = workerSeconds
        let workers = Double(max(Set(results.map(\.worker)).count, 1))
        overlap = Overlap(
            generation: (workerSeconds["sample", default: 0] + workerSeconds["decode", default: 0]) / workers,
            reward: workerSeconds["score", default: 0] / workers, training: seconds.training,
            epoch: seconds.rollout + seconds.training)
        componentMeans = Self.means(results.flatMap(\.components))
        witnessMeans = Self.means(results.flatMap(\.witnesses))
    }

    /// The mean of all values of each name.
    private static func means(_ payloads: [(key: String, value: TensorPayload)]) -> [String: Double] {
        var sums: [String: (sum: Double, count: Int)] = [:]
        for (name, payload) in payloads {
            let values = payload.floats
            sums[name, default: (0, 0)].sum += values.reduce(0) { $0 + Double($1) }
            sums[name, default: (0, 0)].count += values.count
        }
        return sums.mapValues { $0.sum / Double(max($0.count, 1)) }
    }

    /// The whole epoch.
    var epochSeconds: Double { seconds.rollout + seconds.training }

    /// Every figure, by its metric's name.
    var values: [String: Double] {
        let own = EpochReport.metrics.map { $0.values(of: self) } + [discriminator.mapValues { $0 ?? .nan }]
        return own.reduce(into: [:]) { values, more in
            values.merge(more) { _, _ in preconditionFailure("metric \(Set(more.keys)) twice") }
        }
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
