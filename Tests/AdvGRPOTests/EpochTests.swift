import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// The whole method on a toy: latents are the images, the backbone's CLS token is their values and squares, and the references
/// come from the same kind of policy with other weights.
private struct ToyRun {
    let settings: MethodSettings
    let rollout: Rollout
    let references: ReferenceImages
    let reward: AdversarialReward
    var policy: PolicyState
    var trainer: DiscriminatorTrainer
    let update: PolicyUpdate
    var schedule: Schedule
    /// Threads of the policy's part.
    var lanes = Lanes(count: 2)
    /// Whether the discriminator's training fails.
    var isInterrupted = false

    static let backbone: BackboneFunction = { images, _, _ in
        let values = images.reshaped(images.shape[0], -1)
        return BackboneFeatures(
            classToken_BD: concatenated([values, values.activated(.square)], axis: 1),
            patches_BND: images.reshaped(images.shape[0], 1, -1))
    }
    static let trainable = TrainablePolicy(
        velocity: { parameters in
            guard let weight = parameters["weight"] else { preconditionFailure("no weight") }
            return toyVelocity(weight)
        })

    static let idealWeight = toyWeight + 0.5

    init(change: (inout MethodSettings) -> Void = { _ in }) throws {
        var settings = MethodSettings(fidelity: .fixed)
        settings.rollout.groupSize = 8
        settings.rollout.groupsPerEpoch = 4
        settings.rollout.window = WindowSettings(size: 2, start: .fixed(1))
        settings.reward.weights = [.cls: 1]
        settings.discriminator.learningRate = 1e-2
        settings.discriminator.hiddenWidth = 16
        settings.discriminator.warmUp.minimumAUC = 0.8
        settings.policy.learningRate = 0.02
        change(&settings)
        self.settings = settings
        rollout = Rollout(settings: settings.rollout, sigmas: try tenSteps(), latentShape: [2, 3, 3], seed: 5)
        let ideal = try rollout.sample(
            GroupID(epoch: 1000, index: 0), members: 0..<64, prompt: toyPrompt, engine: engine,
            velocity: toyVelocity(Self.idealWeight)
        ).finalLatents_BCHW
        let table = FeatureTable(["class": Self.backbone(ideal, [], .score).classToken_BD])
        references = ReferenceImages(
            prompts: (0..<16).map { .init(text: "\($0)", imageCount: 4, isHeldOut: $0 >= 12) }
        ) { images, _ in table.rows(images) }
        reward = AdversarialReward(settings: settings.reward, references: references, seed: 5)
        policy = PolicyState(parameters: Parameters(["weight": toyWeight]), settings: settings.policy)
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator,
            backbone: BackboneShape(width: 36, depth: 1), seed: 5,
            engine: engine)
        trainer = DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 5)
        update = PolicyUpdate(settings: settings.policy, rollout: rollout, chunks: Chunks(size: 4))
        schedule = Schedule(schedule: settings.schedule, discriminator: settings.discriminator)
    }

    /// Runs an epoch; the distance is that of the weights which sampled, mean square, to the ideal ones.
    mutating func epoch(_ number: Int, lanes: Lanes = Lanes(count: 2)) throws -> (StepReport, distance: Double) {
        let distance = Double(
            ((policy.parameters["weight"] ?? toyWeight) - Self.idealWeight).activated(.square).mean().scalar)
        self.lanes = lanes
        var schedule = schedule
        let report = try Epoch(number, deviation: settings.policy.advantageStandardDeviation).run(
            at: &self, schedule: &schedule)
        self.schedule = schedule
        return (report, distance)
    }
}

extension ToyRun: EpochSite {
    mutating func collect(_ epoch: Int) throws -> [ScoredGroup] {
        let prompts = PromptOrder(promptCount: 12, groupsPerEpoch: settings.rollout.groupsPerEpoch, seed: 5).prompts(
            epoch: epoch)
        let velocity = Self.trainable.velocity(policy.parameters)
        return try prompts.enumerated().map { index, prompt in
            let group = GroupID(epoch: epoch, index: index)
            let sample = try rollout.sample(
                group, prompt: toyPrompt, engine: engine, chunks: Chunks(size: 4), lanes: lanes, velocity: velocity)
            let features = try reward.features(
                of: sample.finalLatents_BCHW, group: group, prompt: "\(prompt)", discriminator: trainer.discriminator,
                networks: FrozenNetworks(backbone: Self.backbone))
            let scores = try reward.score(
                group, prompt: "\(prompt)", features: features.score, discriminator: trainer.discriminator)
            trainer.remember(group, prompt: "\(prompt)", features: features.training)
            return ScoredGroup(group: group, prompt: toyPrompt, trajectory: sample.trajectory, rewards: scores.rewards)
        }
    }

    func compare(_ groups: [ScoredGroup]) throws -> Schedule.Evidence {
        let means = try trainer.compared(on: groups.map(\.group), references: references)
        return Schedule.Evidence(realMean: means.realMean, fakeMean: means.fakeMean)
    }

    mutating func trainDiscriminator(_ groups: [ScoredGroup]) throws -> () throws -> Double {
        if isInterrupted { return { throw Interrupted() } }
        let report = try trainer.train(groups: groups.map(\.group), references: references)
        return { report.heldOut.areaUnderCurve }
    }

    mutating func updatePolicy(_ groups: [ScoredGroup], _ advantages: Advantages) throws -> [PolicyUpdateReport] {
        try update(&policy, groups: groups, advantages: advantages, policy: Self.trainable, lanes: lanes)
    }

    mutating func learnReferences(_ steps: Range<Int>) -> [SupervisedReport] {
        steps.map { SupervisedReport(loss: Double($0), gradientNorm: 2 * Double($0)) }
    }

    func publish(_ report: StepReport) {}
}

private struct Interrupted: Error {}

@Suite("epoch")
struct EpochTests {
    @Test("the policy waits for the discriminator, then approaches the one that made the references")
    func learns() throws {
        var run = try ToyRun()
        var distances: [Double] = []
        var moved: [Bool] = []
        for epoch in 0..<30 {
            let (report, distance) = try run.epoch(epoch)
            distances.append(distance)
            moved.append(report.plan.trainsPolicy)
            if report.plan.trainsPolicy { #expect(report.updates[0].statistics.smallestRatio == 1) }
            #expect(report.plan.trainsDiscriminator && report.discriminatorAreaUnderCurve != nil)
        }
        #expect(!moved[0] && moved[29])
        #expect(distances[29] < 0.8 * distances[0], "\(distances)")
    }

    @Test("threads change nothing, and an epoch interrupted by an error leaves everything as it was")
    func transaction() throws {
        func start() throws -> ToyRun { try ToyRun { $0.discriminator.warmUp.minimumAUC = 0 } }
        var (one, many) = (try start(), try start())
        for epoch in 0..<3 {
            let first = try one.epoch(epoch, lanes: Lanes(count: 1)).0
            let second = try many.epoch(epoch, lanes: Lanes(count: 3)).0
            #expect(first == second)
        }
        #expect(one.policy.parameters["weight"]?.values == many.policy.parameters["weight"]?.values)
        let (before, schedule, version) = (
            one.policy.parameters["weight"]?.values, one.schedule, one.trainer.discriminator.version
        )
        one.isInterrupted = true
        #expect(throws: Interrupted.self) { try one.epoch(3) }
        #expect(one.policy.parameters["weight"]?.values == before)
        #expect(one.schedule == schedule && one.trainer.discriminator.version == version)
    }

    @Test("the released schedule discards the advantages of a discriminator epoch")
    func released() throws {
        var run = try ToyRun {
            $0.schedule = ScheduleSettings(fidelity: .released)
            $0.schedule.discriminatorEpochs = 2
            $0.discriminator.warmUp.minimumAUC = 0
        }
        let counts = try (0..<6).map {
            _ = try run.epoch($0); return run.policy.optimizer.updateCount
        }
        #expect(counts == [0, 0, 2, 2, 2, 4])
        #expect(run.trainer.discriminator.version == 4)
    }

    @Test("goes on bit for bit from policy, discriminator and schedule as stored")
    func resume() throws {
        var whole = try ToyRun()
        for epoch in 0..<3 { _ = try whole.epoch(epoch) }
        var resumed = try ToyRun()
        resumed.policy = PolicyState(
            parameters: whole.policy.parameters,
            optimizer: AdamW(
                whole.settings.policy.optimizer, updateCount: whole.policy.optimizer.updateCount,
                firstMoment: whole.policy.optimizer.firstMoment, secondMoment: whole.policy.optimizer.secondMoment),
            average: ExponentialMovingAverage(
                decay: 0.9, interval: 8, parameters: whole.policy.average.parameters,
                updateCount: whole.policy.average.updateCount))
        try resumed.trainer.restore(whole.trainer.state)
        resumed.schedule = Schedule(
            schedule: whole.settings.schedule, discriminator: whole.settings.discriminator,
            state: whole.schedule.state)
        for epoch in 3..<6 {
            let first = try whole.epoch(epoch)
            let second = try resumed.epoch(epoch)
            #expect(first.0 == second.0 && first.distance == second.distance)
        }
        #expect(whole.policy.parameters["weight"]?.values == resumed.policy.parameters["weight"]?.values)
        #expect(
            whole.policy.average.parameters["weight"]?.values == resumed.policy.average.parameters["weight"]?.values)
    }
}
