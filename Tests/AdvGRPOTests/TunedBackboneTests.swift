import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("a backbone whose end is trained")
struct TunedBackboneTests {
    /// Two blocks, x + tanh(W x) each, of which the second is trained; the class token is the first of five, features are tokens.
    private let tuned = TunedBackbone(
        parameters: Parameters(["block.1": normalTensor(90, 6, 6) * 0.3]), firstBlock: 1, chunks: Chunks(size: 3)
    ) { states, blocks, parameters, _ in
        guard let weight = parameters["block.1"] else { preconditionFailure("no weight") }
        let tokens = states + linear(states, weight: weight).activated(.tanh)
        return BackboneFeatures(
            classToken_BD: tokens.sliced(axis: 1, 0..<1).reshaped(-1, 6), patches_BND: tokens.sliced(axis: 1, 1..<5),
            blocks: Dictionary(blocks.map { ($0, tokens) }) { first, _ in first })
    }

    /// Statistics of four patches of a 16 x 16 image behind their first, the same from both blocks before training.
    private static let states: StatesFunction = { images, _ in
        let B = images.shape[0]
        let patches = images.reshaped(B, 2, 8, 2, 8, 3).transposed(0, 1, 3, 2, 4, 5).reshaped(B * 4, 64, 3)
        let tokens = patches.tokenStatistics().sliced(axis: 1, 0..<6).reshaped(B, 4, 6) * 4
        return concatenated([tokens.sliced(axis: 1, 0..<1), tokens], axis: 1)
    }

    private var networks: FrozenNetworks {
        FrozenNetworks(
            backbone: { images, blocks, purpose in
                let tokens = Self.states(images, purpose)
                #expect(blocks.allSatisfy { $0 == 0 }, "trained blocks are not asked of the frozen network")
                return BackboneFeatures(
                    classToken_BD: tokens.sliced(axis: 1, 0..<1).reshaped(-1, 6),
                    patches_BND: tokens.sliced(axis: 1, 1..<5),
                    blocks: Dictionary(blocks.map { ($0, tokens) }) { first, _ in first })
            }, prompt: { _ in engine.tensor([0.5, -1, 2], shape: [3]) }, states: Self.states)
    }

    private func settings(_ component: RewardComponent, views: Int = 0) -> MethodSettings {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [component: 1]
        settings.reward.layers = [0, 1]
        settings.reward.projectedLayers = [0, 1]
        settings.reward.statisticsLayer = 1
        settings.reward.patchCount = 4
        settings.discriminator.backbone = .last
        settings.discriminator.backboneLearningRate = 1e-3
        settings.discriminator.augmentedViews = views
        settings.discriminator.hiddenWidth = 8
        settings.discriminator.learningRate = 2e-3
        settings.discriminator.replayCapacity = 3
        return settings
    }

    private func trainer(_ settings: MethodSettings) throws -> DiscriminatorTrainer {
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 6, depth: 2),
            promptWidth: 3, tuned: tuned, seed: 3, engine: engine)
        return DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 3)
    }

    private func images(_ stream: Int, strength: Float, count: Int) -> Tensor {
        engine.tensor(
            normals(count * 16 * 16 * 3, stream).map { min(max(0.5 + strength * $0, 0), 1) }, shape: [count, 16, 16, 3])
    }

    private func references(_ discriminator: Discriminator) -> ReferenceImages {
        let table = discriminator.referenceFeatures(
            of: images(40, strength: 0.1, count: 8), prompt: "prompt", purpose: .training, networks: networks)
        return ReferenceImages(prompts: [.init(text: "prompt", imageCount: 8)]) { images, _ in table.rows(images) }
    }

    private func remember(
        _ trainer: inout DiscriminatorTrainer, _ settings: MethodSettings, _ references: ReferenceImages, epoch: Int
    ) throws {
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 3)
        let features = try reward.features(
            of: images(50 + epoch, strength: 0.16, count: 8), group: GroupID(epoch: epoch, index: 0), prompt: "prompt",
            discriminator: trainer.discriminator,
            networks: networks)
        trainer.remember(GroupID(epoch: epoch, index: 0), prompt: "prompt", features: features.training)
    }

    @Test(
        "a step has the gradient of the whole graph, however many lanes compute it",
        arguments: [RewardComponent.cls, .patch, .multilayer, .projected], [1, 3])
    func gradient(component: RewardComponent, laneCount: Int) throws {
        let settings = settings(component)
        var trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        try remember(&trainer, settings, references, epoch: 0)
        let fake = try #require(trainer.replay.anyFeatures)
        let real = try references.features(Array(0..<8), .training)
        // All in one graph: weights of the head and of the backbone as leaves.
        var whole = trainer.discriminator
        whole.followWeights()
        let leaves = whole.parameters.tracked()
        let head = whole.heads[0]
        func draws(_ side: Int) -> PatchDraws {
            PatchDraws((0..<8).map { Philox(seed: 3, purpose: .patches, 0, $0, 1 + side) })
        }
        let loss = head.loss(
            real: whole.withBackbone(real, leaves), fake: whole.withBackbone(fake, leaves),
            weights: whole.weights(head, leaves), realDraws: draws(0), fakeDraws: draws(1))
        let gradients = leaves.gradients(from: loss.loss.gradients())
        let report = try trainer.train(
            groups: [GroupID(epoch: 0, index: 0)], references: references, steps: 1,
            lanes: Lanes(count: laneCount, engine: engine))
        #expect(abs(report.loss - Double(loss.loss.scalar)) < 1e-6)
        #expect(abs(report.gradientNorm / gradients.norm - 1) < 1e-5)
        // Adam's first moments are half the gradients, whatever their size.
        for (name, moment) in trainer.optimizer.firstMoment.entries {
            expectClose(
                moment.values.map { $0 * 2 }, try #require(gradients[name]).values, relative: 2e-4, name)
        }
        // Its first steps are the learning rates.
        let weight = try #require(trainer.discriminator.parameters["backbone.block.1"]).values
        let before = try #require(leaves["backbone.block.1"]).values
        let step = try #require(zip(weight, before).map { abs($0 - $1) }.max())
        #expect(abs(step - 1e-3) < 1e-5)
    }

    @Test("it goes on from its state with the same bits, views and the backbone's weights included", arguments: [0, 2])
    func resumes(views: Int) throws {
        let settings = settings(.projected, views: views)
        var trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        func step(_ trainer: inout DiscriminatorTrainer, _ epoch: Int, lanes: Int) throws -> DiscriminatorReport {
            try remember(&trainer, settings, references, epoch: epoch)
            return try trainer.train(
                groups: [GroupID(epoch: epoch, index: 0)], references: references, steps: 3,
                lanes: Lanes(count: lanes, engine: engine))
        }
        for epoch in 0..<2 { _ = try step(&trainer, epoch, lanes: 1) }
        var resumed = try self.trainer(settings)
        try resumed.restore(trainer.state)
        try resumed.checkReplay(against: references)
        #expect(try step(&trainer, 2, lanes: 1) == step(&resumed, 2, lanes: 3))
        for (name, tensor) in trainer.state.tensors.entries {
            #expect(resumed.state.tensors[name]?.values == tensor.values, "\(name)")
        }
        #expect(trainer.state.tensors.names.contains("head/backbone.block.1"))
        #expect(
            trainer.discriminator.parameters["backbone.block.1"]?.values != tuned.parameters["block.1"]?.values)
        // What is kept is what no training changes.
        let kept = Set(["backbone.states", "backbone.block.0"])
        let expected = Set(kept.flatMap { views > 0 ? [$0, $0 + ".views"] : [$0] } + ["prompt"])
        #expect(Set(try #require(trainer.replay.anyFeatures).tensors.keys) == expected)
    }

    @Test(
        "maps are those of the trained features, by places and by attribution",
        arguments: [RewardComponent.patch, .cls])
    func maps(component: RewardComponent) throws {
        var settings = settings(component)
        settings.reward.weights = [component: 1, .imageSimilarity: 0.5]
        var trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        try remember(&trainer, settings, references, epoch: 0)
        _ = try trainer.train(groups: [GroupID(epoch: 0, index: 0)], references: references, steps: 5)
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 3)
        // Shades of one image: their mean has the deviations they have, so that the way to it is smooth.
        let (shade, discriminator) = (images(60, strength: 0.1, count: 1), trainer.discriminator)
        let own = concatenated([0, 0.03, -0.02].map { shade + ($0 as Float) }, axis: 0)
        let features = try reward.features(
            of: own, group: GroupID(epoch: 0, index: 0), prompt: "prompt", discriminator: discriminator,
            networks: networks
        ).score
        let read = discriminator.withBackbone(features, lanes: Lanes(count: 1))
        // The similarity is that of the frozen network.
        #expect(features["class"].values != read["class"].values)
        let weights = discriminator.weights(discriminator.heads[0], discriminator.parameters)
        let all = PatchDraws(indices: [[[Int]](repeating: [0, 1, 2, 3], count: 3)])
        let scores = discriminator.heads[0].score(read, weights: weights, draws: all).values
        let attribution = Attribution(chunks: Chunks(size: 2), lanes: Lanes(count: 1))
        let maps = try #require(
            discriminator.maps(of: own, table: features, networks: networks, attribution: attribution)[component])
        let means = maps.values.map { Float($0.reduce(0, +) / Double($0.count)) }
        // Attribution adds up to differences.
        for (a, b) in [(0, 1), (1, 2)] {
            #expect(abs((means[a] - means[b]) - (scores[a] - scores[b])) < 1e-4)
        }
    }

    @Test("settings that leave nothing to train, or features that are kept, are refused by name")
    func refusals() throws {
        func path(_ change: (inout MethodSettings) -> Void) throws -> String? {
            var settings = self.settings(.statistics)
            change(&settings)
            do {
                _ = try trainer(settings)
                return nil
            } catch let violation as SettingViolation { return violation.path }
        }
        #expect(try path { _ in } == nil)
        #expect(try path { $0.reward.statisticsLayer = 0 } == "discriminator.backboneBlocks")
        #expect(try path { $0.reward.relativeToReferences = true } == "discriminator.backbone")
        var settings = self.settings(.texture)
        #expect(settings.validate().map(\.path) == ["discriminator.backbone"])
        settings.discriminator.backbone = .frozen
        #expect(settings.validate() == [])
    }
}
