import ImageModels
import NeuralNetworks
import TestSupport
import Testing

@testable import AdvGRPO
@testable import MethodModels
@testable import TensorCore

/// The whole method in miniature on real architectures: the site of `Epoch` that `make_adversarial.py` is in PyTorch.
private struct MiniatureSite: EpochSite {
    let engine: any Engine
    let settings: MethodSettings
    let model: MMDiT
    let adapter: LoRAAdapter
    let autoencoder: AutoencoderKL
    let networks: FrozenNetworks
    let rollout: Rollout
    let references: ReferenceImages
    let reward: AdversarialReward
    let prompts: [PromptConditioning]
    var policy: PolicyState
    var trainer: DiscriminatorTrainer
    /// Of the last epoch.
    var groups: [ScoredGroup] = []
    var separation: Separation?
    var discriminatorLoss = 0.0
    let lanes = Lanes(count: 2)

    static let seed: UInt64 = 20_261_124
    static let names = ["0", "1"]

    init(_ golden: Golden, engine: any Engine) throws {
        self.engine = engine
        var settings = MethodSettings(fidelity: .fixed)
        settings.rollout.steps = 4
        settings.rollout.window = WindowSettings(size: 2, start: .fixed(0))
        settings.rollout.groupSize = 3
        settings.rollout.groupsPerEpoch = 2
        settings.reward.weights = RewardWeights()
        settings.reward.weights[.patch] = 1
        settings.reward.patchCount = 6
        settings.reward.featureNormalization = .trainRawScoreUnit
        settings.reward.resize = .tensor
        settings.discriminator.hiddenWidth = 10
        settings.discriminator.learningRate = 3e-2
        settings.discriminator.stepsPerTraining = 1
        settings.discriminator.realBatch = 0
        settings.discriminator.fakeBatch = 0
        settings.discriminator.replayCapacity = 0
        settings.discriminator.warmUp.minimumAUC = 0
        settings.schedule.kind = .released
        settings.schedule.discriminatorEpochs = 1
        settings.policy.learningRate = 2e-3
        settings.policy.clipRange = 1e-5
        settings.policy.maximumGradientNorm = 0.02
        settings.policy.updatesPerEpoch = 2
        settings.policy.ema.every = 1
        self.settings = settings

        let model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine)
        adapter = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
        self.model = model
        autoencoder = try AutoencoderKL(folder: Repository.fixtures + "/vae-b", engine: engine, withEncoder: false)
        let backbone = try VisionBackbone(
            folder: Repository.fixtures + "/dino-a", engine: engine, dtype: .float32, resize: .tensor,
            chunks: Chunks(size: 3))
        networks = FrozenNetworks(backbone: backbone.function(lanes: lanes))
        rollout = Rollout(
            settings: settings.rollout, sigmas: try FlowMatchSchedule().sigmas(stepCount: 4), latentShape: [4, 8, 8],
            seed: Self.seed)

        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: backbone.shape, seed: Self.seed,
            engine: engine)
        var initial = discriminator
        initial.parameters = try initial.parameters.mapped { name, _ in
            try golden.tensor("head/" + name.split(separator: ".", maxSplits: 1)[1], on: engine)
        }
        trainer = DiscriminatorTrainer(initial, settings: settings.discriminator, seed: Self.seed)
        let images = try golden.tensor("input/references", on: engine).transposed(0, 2, 3, 1)
        let networks = networks
        references = ReferenceImages(prompts: Self.names.map { .init(text: $0, imageCount: 3) }) { rows, purpose in
            discriminator.referenceFeatures(of: images, prompt: "", purpose: purpose, networks: networks).rows(rows)
        }
        reward = AdversarialReward(settings: settings.reward, references: references, seed: Self.seed)
        func conditioning(_ prefix: String, _ row: Int) throws -> Conditioning {
            Conditioning(
                text_BSD: try golden.tensor("input/\(prefix)text", on: engine).rows(row..<row + 1),
                pooled_BP: try golden.tensor("input/\(prefix)pooled", on: engine).rows(row..<row + 1))
        }
        let negative = try conditioning("negative_", 0)
        prompts = try Self.names.indices.map {
            PromptConditioning(positive: try conditioning("", $0), negative: negative)
        }
        policy = PolicyState(parameters: adapter.parameters, settings: settings.policy)
    }

    private func velocity(_ parameters: Parameters) -> VelocityFunction {
        guard let merged = try? model.merged(adapter.replacing(parameters)) else {
            preconditionFailure("the adapter fits its model")
        }
        return merged.velocityFunction
    }

    mutating func collect(_ epoch: Int) throws -> [ScoredGroup] {
        groups = try Self.names.indices.map { index in
            let (group, name) = (GroupID(epoch: epoch, index: index), Self.names[index])
            let sample = try rollout.sample(
                group, prompt: prompts[index], engine: engine, chunks: Chunks(size: 3), lanes: lanes,
                velocity: velocity(policy.parameters), windowVelocity: velocity(policy.parameters.tracked()))
            let features = try reward.features(
                of: autoencoder.decode(sample.finalLatents_BCHW), group: group, prompt: name,
                discriminator: trainer.discriminator, networks: networks)
            let scores = try reward.score(
                group, prompt: name, features: features.score, discriminator: trainer.discriminator)
            trainer.remember(group, prompt: name, features: features.training)
            return ScoredGroup(
                group: group, prompt: prompts[index], trajectory: sample.trajectory, rewards: scores.rewards)
        }
        return groups
    }

    func compare(_ groups: [ScoredGroup]) -> Schedule.Evidence { Schedule.Evidence(realMean: 0, fakeMean: 0) }

    mutating func trainDiscriminator(_ groups: [ScoredGroup]) throws -> () throws -> Double {
        let report = try trainer.train(groups: groups.map(\.group), references: references, lanes: lanes)
        (separation, discriminatorLoss) = (report.training, report.loss)
        return { report.heldOut.areaUnderCurve }
    }

    mutating func updatePolicy(_ groups: [ScoredGroup], _ advantages: Advantages) throws -> [PolicyUpdateReport] {
        let update = PolicyUpdate(settings: settings.policy, rollout: rollout, chunks: Chunks(size: 3))
        return try update(
            &policy, groups: groups, advantages: advantages,
            policy: TrainablePolicy { [self] in velocity($0) }, lanes: lanes)
    }

    func learnReferences(_ steps: Range<Int>) -> [SupervisedReport] { [] }

    mutating func publish(_ report: StepReport) {}
}

@Suite struct GoldenRunTests {
    @Test("eight epochs are PyTorch's: rewards, advantages, losses, and both players' weights after every epoch")
    func whole() throws {
        let golden = try Golden("adversarial.safetensors")
        for engine in testEngines {
            var site = try MiniatureSite(golden, engine: engine)
            var schedule = Schedule(schedule: site.settings.schedule, discriminator: site.settings.discriminator)
            func rows(_ name: String, _ count: Int, of index: Int) throws -> [Float] {
                let all = try golden.floats(name)
                return Array(all[index * count..<(index + 1) * count])
            }
            func expectEqual(_ values: [Float], _ expected: [Float], _ what: String, within tolerance: Float = 1e-4) {
                #expect(values.count == expected.count)
                let largest = zip(values, expected).map { abs($0 - $1) }.max() ?? .infinity
                let scale = max(1e-3, expected.map(abs).max() ?? 0)
                #expect(largest <= tolerance * scale, "\(what) on \(engine.name): off by \(largest) of \(scale)")
            }
            for number in 0..<8 {
                let report = try Epoch(number, deviation: site.settings.policy.advantageStandardDeviation).run(
                    at: &site, schedule: &schedule)
                let player = number % 2 == 0 ? "head" : "adapter"
                #expect(report.plan.trainsDiscriminator == (player == "head"))
                expectEqual(site.groups.flatMap(\.rewards), try rows("rewards", 6, of: number), "rewards \(number)")
                expectEqual(
                    try #require(report.advantages).values.flatMap { $0.map(Float.init) },
                    try rows("advantages", 6, of: number),
                    "advantages \(number)", within: 1e-3)
                expectEqual(
                    site.groups.flatMap { $0.trajectory.logProbabilities.values },
                    try rows("log_probability", 12, of: number), "log-probabilities \(number)")
                if player == "head" {
                    expectEqual(
                        [Float(site.discriminatorLoss)], try rows("discriminator/loss", 1, of: number / 2),
                        "loss \(number)")
                    expectEqual(
                        [Float(site.separation?.accuracy ?? .nan)],
                        try rows("discriminator/accuracy", 1, of: number / 2),
                        "accuracy \(number)")
                } else {
                    let norms = report.updates.map { Float($0.gradientNorm) }
                    expectEqual(norms, try rows("policy/grad_norm", 2, of: number / 2), "norms \(number)", within: 1e-3)
                    #expect(report.updates[0].statistics.largestRatio == 1)
                }
                let weights =
                    player == "head"
                    ? site.trainer.discriminator.parameters.renamed {
                        String($0.split(separator: ".", maxSplits: 1)[1])
                    }
                    : site.policy.parameters
                for (name, tensor) in weights.entries {
                    let stored = player == "head" ? name : "base_model.model." + name
                    expectEqual(
                        tensor.values, try golden.floats("after/\(number)/\(player)/\(stored)"),
                        "\(name) after \(number)",
                        within: 5e-4)
                }
            }
            for (name, tensor) in site.policy.average.parameters.entries {
                expectEqual(
                    tensor.values, try golden.floats("final/ema/base_model.model." + name), "average of \(name)",
                    within: 5e-4)
            }
        }
    }
}
