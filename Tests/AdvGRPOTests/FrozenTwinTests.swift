import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("frozen twin")
struct FrozenTwinTests {
    private static let networks = FrozenNetworks(backbone: { images, _, _ in
        let B = images.shape[0]
        return BackboneFeatures(
            classToken_BD: images.reshaped(B, -1).sliced(axis: 1, 0..<6), patches_BND: images.reshaped(B, -1, 6))
    })

    private static func image(_ stream: Int, strength: Float, count: Int) -> Tensor {
        engine.tensor(
            normals(count * 16 * 16 * 3, stream).map { min(max(0.5 + strength * $0, 0), 1) },
            shape: [count, 16, 16, 3])
    }

    /// A discriminator of texture, the references of its prompts, and what it was trained on.
    private struct Run {
        var settings = MethodSettings(fidelity: .fixed)
        var trainer: DiscriminatorTrainer
        let references: ReferenceImages

        init(_ warmUp: WarmUpSettings, firstFollowed: Int = 1) throws {
            settings.reward.weights = [.texture: 2]
            settings.discriminator.hiddenWidth = 8
            settings.discriminator.learningRate = 1e-2
            settings.discriminator.warmUp = warmUp
            let discriminator = try Discriminator(
                reward: settings.reward, discriminator: settings.discriminator,
                backbone: BackboneShape(width: 6, depth: 2), seed: 3, engine: engine)
            trainer = DiscriminatorTrainer(
                discriminator, settings: settings.discriminator, seed: 3, firstFollowed: firstFollowed)
            let table = discriminator.features(
                of: image(40, strength: 0.1, count: 8), prompt: "", purpose: .training, networks: networks)
            references = ReferenceImages(prompts: [.init(text: "p", imageCount: 8)]) { rows, _ in table.rows(rows) }
        }

        func features(_ epoch: Int) -> FeatureTable {
            trainer.discriminator.features(
                of: image(60 + epoch, strength: 0.13, count: 4), prompt: "", purpose: .training, networks: networks)
        }

        @discardableResult
        mutating func train(_ epoch: Int) throws -> DiscriminatorReport {
            let group = GroupID(epoch: epoch, index: 0)
            trainer.remember(group, prompt: "p", features: features(epoch))
            return try trainer.train(groups: [group], references: references)
        }
    }

    @Test("it is the version that the warm-up of the schedule ends with", arguments: [0, 0.75, 0.98])
    func warmUp(minimum: Double) throws {
        let warmUp = WarmUpSettings(minimumAUC: minimum, maximumEpochs: 6)
        var run = try Run(warmUp)
        var schedule = Schedule(schedule: ScheduleSettings(fidelity: .fixed), discriminator: run.settings.discriminator)
        var taken: [Int: Parameters] = [:]
        for epoch in 0..<8 {
            let report = try run.train(epoch)
            schedule.record(
                EpochPlan(trainsDiscriminator: true, trainsPolicy: !schedule.isWarmingUp),
                areaUnderCurve: report.heldOut.areaUnderCurve)
            #expect((run.trainer.twin != nil) == !schedule.isWarmingUp, "epoch \(epoch)")
            if let twin = run.trainer.twin { taken[twin.version] = twin.parameters }
        }
        // One twin, which stays what it was while the live version moves on.
        #expect(taken.count == 1 && run.trainer.discriminator.version == 8)
        let (twin, live) = (try #require(run.trainer.twin), run.trainer.discriminator)
        #expect(twin.parameters.entries.contains { $0.tensor.values != live.parameters[$0.name]?.values })
    }

    @Test("where discriminator epochs come first, it waits for them")
    func discriminatorEpochs() throws {
        #expect(ScheduleSettings(fidelity: .released).firstFollowedVersion == 9)
        #expect(ScheduleSettings(fidelity: .fixed).firstFollowedVersion == 1)
        var run = try Run(WarmUpSettings(), firstFollowed: 3)
        for epoch in 0..<5 {
            try run.train(epoch)
            #expect(run.trainer.twin?.version == (epoch < 2 ? nil : 3))
        }
        run.trainer.keepTwin()
        #expect(run.trainer.twin?.version == 5)
    }

    @Test("at its own version it says what the live one says, and later what that version said")
    func scores() throws {
        var run = try Run(WarmUpSettings())
        let reward = AdversarialReward(settings: run.settings.reward, references: run.references, seed: 3)
        let group = GroupID(epoch: 9, index: 1)
        func twin() throws -> [Float]? {
            reward.twinScores(group, features: run.features(9), twin: try #require(run.trainer.twin))
        }
        func live() throws -> [Float] {
            try reward.score(group, prompt: "p", features: run.features(9), discriminator: run.trainer.discriminator)
                .rewards
        }
        try run.train(0)
        let first = try live()
        #expect(try twin() == first)
        try run.train(1)
        #expect(try twin() == first && live() != first)
    }

    @Test("it is part of the state, and one that cannot be is refused")
    func state() throws {
        var run = try Run(WarmUpSettings())
        #expect(!run.trainer.state.document.contains("twinVersion"))
        try run.train(0)
        try run.train(1)
        let stored = run.trainer.state
        var other = try Run(WarmUpSettings())
        try other.trainer.restore(DiscriminatorState(tensors: stored.tensors, document: stored.document))
        #expect(other.trainer.twin?.version == 1)
        for (name, tensor) in try #require(run.trainer.twin).parameters.entries {
            #expect(other.trainer.twin?.parameters[name]?.values == tensor.values)
        }
        let again = other.trainer.state
        #expect(again.document == stored.document)
        for (name, tensor) in stored.tensors.entries { #expect(again.tensors[name]?.values == tensor.values) }
        for version in [-1, 3, Int.max] {
            let document = stored.document.replacing(#""twinVersion":1"#, with: #""twinVersion":\#(version)"#)
            #expect(throws: DiscriminatorStateError.self) {
                try other.trainer.restore(DiscriminatorState(tensors: stored.tensors, document: document))
            }
        }
        let without = stored.tensors.filtered { !$0.hasPrefix("twin/") }
        #expect(throws: DiscriminatorStateError.self) {
            try other.trainer.restore(DiscriminatorState(tensors: without, document: stored.document))
        }
    }

    @Test("the hinge is that of the mean head: 1 for a number that stays at 0, more where it is sure and wrong")
    func hinge() {
        #expect(Separation(real: [0], fake: [0]).hinge == 1)
        // ½ ((0 + 0.5) / 2 + (3 + 0) / 2), and the same of heads that weigh 2 together.
        #expect(Separation(real: [1, 0.5], fake: [2, -1]).hinge == 0.875)
        #expect(Separation(real: [2, 1], fake: [4, -2], unit: 2).hinge == 0.875)
        #expect(Separation(real: [1], fake: [0], prompts: ["a"]).hinge == nil)
    }

    @Test("what images of a group differ by is the distance of their thumbnails")
    func diversity() {
        let flat = { (level: Float) in [Float](repeating: level, count: 16 * 16 * 3) }
        func distances(_ levels: Float...) -> [Float] {
            distancesToSiblings(engine.tensor(levels.flatMap(flat), shape: [levels.count, 16, 16, 3]))
        }
        #expect(distances(0.5) == [0] && distances(0.25, 0.25) == [0, 0])
        #expect(distances(0, 1) == [1, 1])
        #expect(distances(0, 0.5, 1) == [0.75, 0.5, 0.75])
        // Noise of single pixels is far below another colour.
        let noise = engine.tensor(normals(2 * 16 * 16 * 3, 7).map { 0.5 + 0.1 * $0 }, shape: [2, 16, 16, 3])
        #expect(distancesToSiblings(noise)[0] < 0.1)
    }
}
