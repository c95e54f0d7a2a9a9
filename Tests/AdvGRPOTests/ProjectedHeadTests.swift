import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("dino_projected")
struct ProjectedHeadTests {
    // MARK: Against PyTorch

    private func head(views: Int = 0) -> ProjectedHead {
        ProjectedHead(width: 12, channels: 16, promptWidth: 10, blockNumbers: [1, 2], viewCount: views)
    }

    private func tensors(_ golden: Golden, _ prefix: String, of names: [String]) throws -> Parameters {
        Parameters(
            Dictionary(
                try names.map { ("dino_projected." + $0, try golden.tensor("\(prefix)/\($0)")) }
            ) { first, _ in first })
    }

    /// Tokens and prompts as a backbone and text encoders would give them.
    private func table(_ golden: Golden, _ side: String) throws -> FeatureTable {
        let blocks = try Dictionary(
            uniqueKeysWithValues: [1, 2].map { ($0, try golden.tensor("tokens.\($0).\(side)")) })
        let backbone = BackboneFeatures(
            classToken_BD: engine.zeros([1, 12]), patches_BND: engine.zeros([1, 9, 12]), blocks: blocks)
        let tokens = head().extract(
            FrozenFeatures(images_BHWC: engine.zeros([1, 1, 1, 3]), backbone: backbone, trunk: nil))
        return FeatureTable(tokens.merging(["prompt": try golden.tensor("prompt.\(side)")]) { $1 })
    }

    @Test("logits, loss, gradients, a step of Adam under spectral norms and scores after it agree with PyTorch")
    func twin() throws {
        let golden = try Golden("projected.safetensors")
        let head = head()
        let names = head.initialParameters(seed: 1, engine: engine).names
        let vectors = head.initialConstants(head.initialParameters(seed: 1, engine: engine), seed: 1).names
        let parameters = try tensors(golden, "parameter", of: names)
        let before = HeadWeights(
            parameters: parameters, constants: try tensors(golden, "vector", of: vectors), prefix: head.prefix,
            dtype: .float32)
        let constants = head.constants(before: before).renamed { head.prefix + $0 }
        for (name, vector) in try tensors(golden, "stepped_vector", of: vectors).entries {
            expectClose(try #require(constants[name]).values, vector.values, relative: 2e-5, name)
        }
        let leaves = parameters.tracked()
        let weights = HeadWeights(parameters: leaves, constants: constants, prefix: head.prefix, dtype: .float32)
        let (real, fake, none) = (try table(golden, "real"), try table(golden, "fake"), PatchDraws([]))
        let loss = head.loss(real: real, fake: fake, weights: weights, realDraws: none, fakeDraws: none)
        expectClose([loss.loss.scalar], try golden.floats("loss"), relative: 1e-5, "loss")
        for (logits, side) in [(loss.realLogits, "real"), (loss.fakeLogits, "fake")] {
            let expected = try golden.tensor("logits_\(side)").meanOverLastAxis()
            expectClose(logits.detached.values, expected.values, relative: 2e-5, "logits \(side)")
        }
        let gradients = leaves.gradients(from: loss.loss.gradients())
        for (name, gradient) in try tensors(golden, "grad", of: names).entries {
            expectClose(try #require(gradients[name]).values, gradient.values, relative: 1e-4, "grad \(name)")
        }
        var optimizer = AdamW(
            AdamW.Settings(learningRate: 3e-3, beta1: 0.5, beta2: 0.999), parameters: parameters)
        let stepped = optimizer.update(parameters, gradients: gradients)
        // The first step of Adam is the gradient's sign: where it is nearly 0, its rounding is the step.
        for (name, tensor) in try tensors(golden, "stepped", of: names).entries {
            expectClose(try #require(stepped[name]).values, tensor.values, relative: 1e-3, name)
        }
        let after = HeadWeights(parameters: stepped, constants: constants, prefix: head.prefix, dtype: .float32)
        for (table, side) in [(real, "real"), (fake, "fake")] {
            let score = head.score(table, weights: after, draws: none)
            expectClose(score.values, try golden.floats("score_\(side)"), relative: 1e-3, "score \(side)")
            let images = MappedImages(
                images_BHWC: engine.zeros([table.count, 3, 3, 3]), table: table,
                read: { _ in preconditionFailure("maps read the table alone") },
                attribution: Attribution(chunks: Chunks(size: 8), lanes: Lanes(count: 1)))
            let maps = try #require(head.maps(images, weights: after))
            #expect(maps.grid == PatchGrid(rows: 3, columns: 3))
            expectClose(
                maps.values.map { Float($0.reduce(0, +) / 9) }, score.values, relative: 1e-5, "maps \(side)")
        }
    }

    @Test("augmentation is DiffAugment's, at the ends of its ranges too")
    func augmentation() throws {
        let golden = try Golden("projected.safetensors")
        let (images, draws) = (try golden.tensor("augmentation/images"), try golden.floats("augmentation/draws"))
        let (H, W) = (images.shape[1], images.shape[2])
        let (values, size) = (images.values, H * W * 3)
        for image in 0..<images.shape[0] {
            let draw = Array(draws[7 * image..<7 * image + 7])
            let whole = draw[3...].map { Int($0.rounded()) }
            var augmentation = ImageAugmentation(Philox(seed: 1, purpose: .tests), height: H, width: W)
            (augmentation.brightness, augmentation.saturation, augmentation.contrast) = (draw[0], draw[1], draw[2])
            augmentation.shift = (rows: whole[0], columns: whole[1])
            augmentation.square = (row: whole[2], column: whole[3])
            expectClose(
                augmentation(values[image * size..<(image + 1) * size], height: H, width: W),
                Array(try golden.floats("augmentation/output")[image * size..<(image + 1) * size]), relative: 1e-5,
                "image \(image)")
        }
        // What is drawn lies within the ranges and reaches their ends.
        let drawn = (0..<400).map { ImageAugmentation(Philox(seed: 1, purpose: .tests, $0), height: 12, width: 10) }
        #expect(Set(drawn.map(\.shift.rows)) == [-2, -1, 0, 1, 2] && Set(drawn.map(\.shift.columns)) == [-1, 0, 1])
        #expect(drawn.map(\.square.row).min() == -3 && drawn.map(\.square.row).max() == 9)
        #expect(drawn.map(\.square.column).min() == -2 && drawn.map(\.square.column).max() == 7)
        #expect(drawn.allSatisfy { abs($0.brightness) < 0.25 && (0..<2).contains($0.saturation) })
        #expect(drawn.allSatisfy { (0.5..<1.5).contains($0.contrast) })
    }

    // MARK: In a run

    private func settings(views: Int, component: RewardComponent = .projected) -> MethodSettings {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [component: 1]
        settings.discriminator.hiddenWidth = 8
        settings.discriminator.learningRate = 5e-3
        settings.discriminator.augmentedViews = views
        settings.discriminator.replayCapacity = 3
        settings.discriminator.fakeBatch = 6
        settings.discriminator.realBatch = 8
        return settings
    }

    /// Four patches of 8 x 8 of a 16 x 16 image, their mean and their brightest and darkest value each, the same from every block.
    private let networks = FrozenNetworks(
        backbone: { images, blocks, _ in
            let B = images.shape[0]
            let patches = images.reshaped(B, 2, 8, 2, 8, 3).transposed(0, 1, 3, 2, 4, 5).reshaped(B * 4, 64, 3)
            let tokens = patches.tokenStatistics().sliced(axis: 1, 0..<6).reshaped(B, 4, 6)
            let all = concatenated([tokens.sliced(axis: 1, 0..<1), tokens], axis: 1)
            return BackboneFeatures(
                classToken_BD: all.sliced(axis: 1, 0..<1).reshaped(B, 6), patches_BND: tokens,
                blocks: Dictionary(blocks.map { ($0, all) }) { first, _ in first })
        },
        prompt: { prompt in
            engine.tensor(Philox(seed: UInt64(prompt.utf8.count), purpose: .tests).normals(5), shape: [5])
        })

    private func trainer(_ settings: MethodSettings) throws -> DiscriminatorTrainer {
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 6, depth: 8),
            promptWidth: 5, seed: 3, engine: engine)
        return DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 3)
    }

    private func images(_ stream: Int, strength: Float, count: Int) -> Tensor {
        engine.tensor(
            normals(count * 16 * 16 * 3, stream).map { min(max(0.5 + strength * $0, 0), 1) }, shape: [count, 16, 16, 3])
    }

    private func references(_ discriminator: Discriminator) -> ReferenceImages {
        let tables = (0..<4).map { prompt in
            discriminator.referenceFeatures(
                of: images(40 + prompt, strength: 0.1, count: 4), prompt: "prompt \(prompt)", purpose: .training,
                networks: networks)
        }
        let table = FeatureTable(joining: tables)
        let prompts = (0..<4).map { ReferenceImages.Prompt(text: "prompt \($0)", imageCount: 4, isHeldOut: $0 == 3) }
        return ReferenceImages(prompts: prompts) { images, _ in table.rows(images) }
    }

    /// Scores and remembers an epoch's two groups as a reward server does.
    private func remember(
        _ trainer: inout DiscriminatorTrainer, _ settings: MethodSettings, _ references: ReferenceImages, epoch: Int
    ) throws {
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 3)
        for index in 0..<2 {
            let features = try reward.features(
                of: images(50 + 10 * epoch + index, strength: 0.16, count: 4),
                group: GroupID(epoch: epoch, index: index),
                prompt: "prompt \(index)",
                discriminator: trainer.discriminator, networks: networks)
            trainer.remember(
                GroupID(epoch: epoch, index: index), prompt: "prompt \(index)", features: features.training)
        }
    }

    private func groups(_ epoch: Int) -> [GroupID] { (0..<2).map { GroupID(epoch: epoch, index: $0) } }

    @Test("it learns, and goes on from its state with the same bits, spectral norms included", arguments: [0, 2])
    func resumes(views: Int) throws {
        let settings = settings(views: views)
        var trainer = try trainer(settings)
        #expect(trainer.discriminator.constants.names.filter { $0.hasSuffix(".left") }.count == 12)
        let references = references(trainer.discriminator)
        for epoch in 0..<8 {
            try remember(&trainer, settings, references, epoch: epoch)
            _ = try trainer.train(groups: groups(epoch), references: references, steps: 10)
        }
        var resumed = try self.trainer(settings)
        try resumed.restore(trainer.state)
        try resumed.checkReplay(against: references)
        for epoch in 8..<10 {
            try remember(&trainer, settings, references, epoch: epoch)
            try remember(&resumed, settings, references, epoch: epoch)
            let separation = try trainer.measured(on: groups(epoch), references: references)
            #expect(separation.areaUnderCurve > 0.8)
            let reports = [
                try trainer.train(groups: groups(epoch), references: references),
                try resumed.train(groups: groups(epoch), references: references),
            ]
            #expect(reports[0] == reports[1])
        }
        for (name, tensor) in trainer.state.tensors.entries {
            #expect(resumed.state.tensors[name]?.values == tensor.values, "\(name)")
        }
    }

    @Test("references and generated images are seen augmented in training, as they are in the score")
    func views() throws {
        let settings = settings(views: 3)
        let trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 3)
        let features = try reward.features(
            of: images(60, strength: 0.1, count: 2), group: GroupID(epoch: 0, index: 0), prompt: "prompt 0",
            discriminator: trainer.discriminator,
            networks: networks)
        // The last blocks of four quarters.
        let blocks = [1, 3, 5, 7].map { "dino_projected.\($0)" }
        #expect(Set(features.score.tensors.keys) == Set(blocks + ["prompt"]))
        let viewed = Set(blocks.flatMap { [$0, $0 + ".views"] } + ["prompt"])
        for table in [features.training, try references.features([0, 1], .training)] {
            #expect(Set(table.tensors.keys) == viewed)
            #expect(table["dino_projected.1.views"].shape == [2, 3, 4, 6])
            let rows = table["dino_projected.1.views"].reshaped(6, 24)
            #expect(Set((0..<6).map { rows.rows($0..<$0 + 1).values }).count == 6, "every view is another")
        }
        #expect(features.training["dino_projected.1"].values == features.score["dino_projected.1"].values)
    }

    @Test("the score depends on the prompt; runs without this head ask for none")
    func prompt() throws {
        let discriminator = try trainer(settings(views: 0)).discriminator
        func scores(_ prompt: String) -> [Float] {
            let table = discriminator.features(
                of: images(60, strength: 0.1, count: 2), prompt: prompt, purpose: .score, networks: networks)
            return discriminator.scores(table, draws: PatchDraws([]))[.projected] ?? []
        }
        #expect(scores("short") != scores("a longer one") && scores("short") == scores("short"))
        let unasked = FrozenNetworks(
            backbone: networks.backbone, prompt: { _ in preconditionFailure("no head reads the prompt") })
        let other = try Discriminator(
            reward: settings(views: 2, component: .multilayer).reward,
            discriminator: settings(views: 2, component: .multilayer).discriminator,
            backbone: BackboneShape(width: 6, depth: 8), seed: 3, engine: engine)
        let table = other.referenceFeatures(
            of: images(60, strength: 0.1, count: 2), prompt: "", purpose: .training, networks: unasked)
        #expect(Set(table.tensors.keys) == ["block.7"], "views are this head's alone")
    }

    @Test("blocks are the settings' or the ends of the backbone's quarters; one that is not there is refused by name")
    func blocks() throws {
        func names(_ layers: [Int], depth: Int) throws -> Set<String> {
            var settings = self.settings(views: 0)
            settings.reward.projectedLayers = layers
            let discriminator = try Discriminator(
                reward: settings.reward, discriminator: settings.discriminator,
                backbone: BackboneShape(width: 6, depth: depth), promptWidth: 5, seed: 3, engine: engine)
            return Set(discriminator.heads.flatMap { $0.blocks ?? [] }.map(String.init))
        }
        #expect(try names([], depth: 12) == ["2", "5", "8", "11"])
        #expect(try names([], depth: 6) == ["0", "2", "3", "5"])
        #expect(try names([], depth: 1) == ["0"])
        #expect(try names([], depth: 2) == ["0", "1"])
        #expect(try names([0, -1], depth: 12) == ["0", "11"])
        #expect(throws: SettingViolation.self) { _ = try names([12], depth: 12) }
        var settings = self.settings(views: 65)
        #expect(settings.validate().map(\.path) == ["discriminator.augmentedViews"])
        settings.discriminator.augmentedViews = 0
        settings.policy.advantage = .patch
        #expect(settings.validate() == [])
    }

    @Test("patch advantages: the reward's maps are the head's, and their mean is the reward")
    func maps() throws {
        let settings = settings(views: 2)
        let trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 3)
        let own = images(60, strength: 0.1, count: 3)
        let features = try reward.features(
            of: own, group: GroupID(epoch: 0, index: 0), prompt: "prompt 0", discriminator: trainer.discriminator,
            networks: networks
        ).score
        let scores = try reward.score(
            GroupID(epoch: 0, index: 0), prompt: "prompt 0", features: features, discriminator: trainer.discriminator)
        let maps = try reward.maps(
            of: own, prompt: "prompt 0", scores: scores, features: features, discriminator: trainer.discriminator,
            networks: networks, attribution: Attribution(chunks: Chunks(size: 8), lanes: Lanes(count: 1)))
        #expect(maps.grid == PatchGrid(rows: 2, columns: 2) && Set(maps.values[0]).count == 4)
        expectClose(maps.values.map { Float($0.reduce(0, +) / 4) }, scores.rewards, relative: 1e-5, "means")
    }
}
