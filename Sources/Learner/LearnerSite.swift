import AdvGRPO
import Configuration
import MethodModels
import Processes
import Protocol
import TensorCore

/// A scored group as the learner keeps it: what advantages are made of, and the message that brought it.
struct DeliveredGroup: RewardedGroup {
    let result: GroupResult
    let rewards: [Float]
    let components: [String: [Float]]
    let maps: RewardMaps?
    let tokens: PatchGrid?

    init(_ result: GroupResult) {
        self.result = result
        rewards = result.rewards.floats
        components = result.components.mapValues(\.floats)
        maps = result.maps.map {
            RewardMaps(grid: PatchGrid(rows: $0.shape[1], columns: $0.shape[2]), floats: $0.floats)
        }
        let shape = result.logProbabilities.shape
        tokens = shape.count == 4 ? PatchGrid(rows: shape[2], columns: shape[3]) : nil
    }

    var group: GroupID { result.group }
}

/// An epoch on a cluster: workers sample and make gradients, the reward server scores and trains the discriminator, the learner adds
/// gradients up and steps.
struct LearnerSite: EpochSite {
    /// The shutdown signal came before the epoch's groups were there.
    struct Interruption: Error {}

    private let run: TrainingRun
    /// Between the epochs: as this one found it, then as it left it.
    private(set) var checkpoint: Checkpoint
    /// What the epoch did; nil before its end.
    private(set) var report: EpochReport?
    /// The epoch's groups, in order.
    private(set) var results: [GroupResult] = []
    private var ledger = Ledger.Counters()
    private var discriminator: Background<DiscriminatorTrained>?
    private var collected = ContinuousClock.now
    private var policyDone = ContinuousClock.now

    init(_ run: TrainingRun, checkpoint: Checkpoint) {
        self.run = run
        self.checkpoint = checkpoint
    }

    mutating func collect(_ epoch: Int) throws -> [DeliveredGroup] {
        guard let results = try run.collect(checkpoint) else { throw Interruption() }
        self.results = results
        run.enter(.training)
        (collected, policyDone) = (.now, .now)
        ledger = run.shared.withLock { state in
            state.ledger.train(now: monotonicMilliseconds())
            return state.ledger.counters
        }
        return results.map(DeliveredGroup.init)
    }

    mutating func compare(_ groups: [DeliveredGroup]) throws -> Schedule.Evidence {
        run.enter(.discriminator)
        defer { run.enter(.training) }
        let measured = try TrainingRun.train(order(steps: 0), on: run.rewardServer)
        return Schedule.Evidence(realMean: measured.realMean, fakeMean: measured.fakeMean)
    }

    mutating func trainDiscriminator(_ groups: [DeliveredGroup]) throws -> () throws -> Double {
        let order = order(
            steps: run.settings.method.discriminator.stepsPerTraining * checkpoint.gauge.takeRefresh())
        let training = Background("the discriminator's training") { [rewardServer = run.rewardServer] in
            try TrainingRun.train(order, on: rewardServer)
        }
        discriminator = training
        return { [run] in
            run.enter(.discriminator)
            return try training.value().auc
        }
    }

    /// The policy as it is now samples the next epoch while it is trained; the discriminator's next version scores it.
    mutating func overlapNext(_ plan: EpochPlan) throws {
        guard run.settings.method.rollout.overlap else { return }
        checkpoint.trainer.sampleWithCurrent()
        let next = checkpoint.discriminatorVersion.rawValue + (plan.trainsDiscriminator ? 1 : 0)
        if checkpoint.record.epoch + 1 < run.settings.run.epochs {
            try run.open(checkpoint.record.epoch + 1, checkpoint, scoredBy: DiscriminatorVersion(rawValue: next))
        }
    }

    mutating func updatePolicy(
        _ groups: [DeliveredGroup], _ advantages: Advantages
    ) throws -> [PolicyUpdateReport] {
        defer { policyDone = .now }
        guard checkpoint.trainer.gradientsTravel else {
            return try checkpoint.trainer.update(
                checkpoint.update, groups.map { try checkpoint.trainer.scored($0.result) }, advantages,
                lanes: run.lanes)
        }
        let clip = checkpoint.update.settings.advantageClip
        let credited = groups.enumerated().map { index, group in
            (result: group.result, advantages: advantages.clamped(index, to: clip))
        }
        let version = checkpoint.trainer.version
        return try checkpoint.trainer.update(checkpoint.update, groups.map(\.group)) {
            [run] number, range, parameters, add in
            try run.gradients(number, of: Array(credited[range]), at: parameters, version, add)
        }
    }

    mutating func learnReferences(_ steps: Range<Int>) throws -> [SupervisedReport] {
        run.enter(.training)
        (collected, policyDone) = (.now, .now)
        defer { policyDone = .now }
        let next = run.settings.method.supervisedSteps(ofEpoch: checkpoint.record.epoch + 1)
        return try checkpoint.trainer.learn(
            run.flowMatching(), steps: steps, of: run.references(), endsStart: next == nil, lanes: run.lanes
        ) { [run] in
            // An epoch may have thousands of steps: it is done again.
            if run.shutdown.isRequested { throw Interruption() }
        }
    }

    mutating func publish(_ step: StepReport) throws {
        run.enter(.publishing)
        let scoredBy = checkpoint.discriminatorVersion
        let trained = try discriminator?.value()
        if let trained { checkpoint.discriminatorVersion = trained.version }
        let report = EpochReport(
            step: step, results: results, scoredBy: scoredBy, policyVersion: checkpoint.trainer.version,
            discriminator: trained, imagesBefore: checkpoint.record.images,
            seconds: .init(
                rollout: (collected - checkpoint.epochBegan).seconds, policy: (policyDone - collected).seconds,
                training: (ContinuousClock.now - collected).seconds))
        checkpoint.record.advance(by: report, ledger: ledger)
        self.report = report
        // With overlap the next epoch was opened while this one learned; supervised epochs have nothing to open early.
        guard !run.settings.method.rollout.overlap || !step.supervised.isEmpty else { return }
        checkpoint.trainer.sampleWithCurrent()
        if !run.isOver(checkpoint) {
            try run.open(checkpoint.record.epoch, checkpoint, scoredBy: checkpoint.discriminatorVersion)
        }
    }

    /// What the reward server is told to train on, or with no steps to measure.
    private func order(steps: Int) -> DiscriminatorTraining {
        DiscriminatorTraining(
            epoch: checkpoint.record.epoch, fromVersion: checkpoint.discriminatorVersion, groups: results.map(\.group),
            steps: steps)
    }
}
