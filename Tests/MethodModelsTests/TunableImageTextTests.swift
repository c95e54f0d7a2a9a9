import AdvGRPO
import Foundation
import MethodModels
import NeuralNetworks
import Raster
import TensorCore
import TestSupport
import Testing

/// PickScore tuned against generated images, against transformers and torch.
@Suite("tuned PickScore")
struct TunableImageTextTests {
    private static let folder = Repository.fixtures + "/clip-dual-a"
    /// The two prompts of the fixture, of scores.json.
    private static let prompts = ["abc", "cab ab 12"]
    private static let (memberCount, referenceCount) = (3, 2)

    private func settings(layers: Int, learningRate: Double) -> MethodSettings {
        var settings = MethodSettings(fidelity: .released)
        settings.reward.weights = [.pickScoreAdversarial: 1]
        settings.discriminator.tunedLayers = layers
        settings.discriminator.tunedLearningRate = learningRate
        settings.discriminator.precision = .fp32
        return settings
    }

    /// A discriminator that has scored images of both prompts, and the references of both.
    private struct Stage {
        var trainer: DiscriminatorTrainer
        let references: ReferenceImages
        /// By side, as the fixture numbers them.
        let tables: [String: FeatureTable]
        static let groups = (0..<2).map { GroupID(epoch: 0, index: $0) }

        func scores(_ side: String) throws -> [Float] {
            let scores = trainer.discriminator.scores(try #require(tables[side]), draws: PatchDraws([]))
            return try #require(scores[.pickScoreAdversarial])
        }
    }

    /// A discriminator that is the tunable model alone, and what it reads.
    private func discriminator(
        of tunable: TunableImageText, _ settings: MethodSettings, lanes: Int, engine: any Engine
    ) throws -> (Discriminator, FrozenNetworks) {
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 4, depth: 1),
            encoder: tunable.encoder, seed: 1, engine: engine)
        let networks = FrozenNetworks(
            backbone: { _, _, _ in preconditionFailure("nothing reads the backbone") },
            trunk: tunable.trunk(lanes: Lanes(count: lanes)))
        return (discriminator, networks)
    }

    private func stage(
        _ golden: Golden, layers: Int, learningRate: Double = 2e-3, chunk: Int = 2, dtype: DType = .float32,
        engine: any Engine, change: (inout MethodSettings) -> Void = { _ in }
    ) throws -> Stage {
        var settings = settings(layers: layers, learningRate: learningRate)
        change(&settings)
        #expect(settings.validate() == [])
        let tunable = try TunableImageText(
            folder: Self.folder, layerCount: layers, engine: engine, dtype: dtype, chunks: Chunks(size: chunk))
        let (discriminator, networks) = try discriminator(of: tunable, settings, lanes: 2, engine: engine)
        var trainer = DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 1)
        var tables: [String: [FeatureTable]] = [:]
        for (number, prompt) in Self.prompts.enumerated() {
            func images(_ side: String, _ count: Int) throws -> Tensor {
                let pictures = try (0..<count).map { try golden.image("\(side).\(number * count + $0)") }
                let values = pictures.flatMap { $0.pixels.map { Float($0) / 255 } }
                return engine.tensor(values, shape: [count, pictures[0].height, pictures[0].width, 3])
            }
            let fake = discriminator.generatedFeatures(
                of: try images("fake", Self.memberCount), group: Stage.groups[number], prompt: prompt, purpose: .score,
                networks: networks, seed: 1
            ) { preconditionFailure("nothing is relative") }
            trainer.remember(Stage.groups[number], prompt: prompt, features: fake)
            tables["fake", default: []].append(fake)
            tables["real", default: []].append(
                discriminator.referenceFeatures(
                    of: try images("real", Self.referenceCount), prompt: prompt, purpose: .training, networks: networks)
            )
        }
        let joined = tables.mapValues { FeatureTable(joining: $0) }
        let real = try #require(joined["real"])
        let references = ReferenceImages(
            prompts: Self.prompts.map { .init(text: $0, imageCount: Self.referenceCount) }
        ) { images, _ in real.rows(images) }
        return Stage(trainer: trainer, references: references, tables: joined)
    }

    /// Loss, every gradient, and the scores before and after two steps of Adam. Pieces of four and two of the six pairs, and all at once.
    @Test("loss, gradients and scores are those of torch", arguments: [(1, 4), (2, 4), (2, 64)])
    func golden(layers: Int, chunk: Int) throws {
        let golden = try Golden("clip-dual-a/tuning.safetensors")
        for engine in testEngines {
            let stage = try stage(golden, layers: layers, chunk: chunk, engine: engine)
            let states = try #require(stage.tables["fake"])["pickscore_adversarial.states"]
            for image in 0..<states.shape[0] {
                expectClose(
                    states.rows(image..<image + 1).reshaped(states.shape[1], states.shape[2]),
                    try golden.tensor("\(layers)/states.fake.\(image)", on: engine), relative: 5e-5, "state \(image)")
            }
            for side in ["real", "fake"] {
                expectClose(
                    try stage.scores(side), try golden.floats("\(layers)/score_\(side).before"), relative: 2e-5,
                    "\(side) before")
            }
            let losses = try golden.floats("\(layers)/loss")

            var once = stage.trainer
            let first = try once.train(groups: Stage.groups, references: stage.references, steps: 1)
            #expect(abs(first.loss - Double(losses[0])) < 2e-5)
            // After one step Adam's first moment is (1 - β1) g.
            let gradients = once.optimizer.firstMoment.mapped { $1 * 2 }
            let names = golden.names(below: "\(layers)/grad/")
            #expect(gradients.names == names.map { "pickscore_adversarial." + $0 })
            for name in names {
                // The gradient of a key's bias is zero (softmax ignores it); rounding leaves some 1e-6.
                try expectClose(
                    gradients["pickscore_adversarial." + name], golden, "\(layers)/grad/\(name)", absolute: 5e-6)
            }

            var twice = stage
            let report = try twice.trainer.train(
                groups: Stage.groups, references: stage.references, steps: 2, lanes: Lanes(count: 2))
            #expect(abs(report.loss - Double(losses[0] + losses[1]) / 2) < 2e-5)
            for side in ["real", "fake"] {
                expectClose(
                    try twice.scores(side), try golden.floats("\(layers)/score_\(side).after"), relative: 1e-4,
                    "\(side) after")
            }
            for name in golden.names(below: "\(layers)/tuned/") where !name.hasSuffix("k_proj.bias") {
                try expectClose(
                    twice.trainer.discriminator.parameters["pickscore_adversarial." + name], golden,
                    "\(layers)/tuned/\(name)", relative: 1e-4)
            }
            var again = stage.trainer
            _ = try again.train(groups: Stage.groups, references: stage.references, steps: 2)
            for (name, tensor) in again.discriminator.parameters.entries {
                #expect(tensor.values == twice.trainer.discriminator.parameters[name]?.values, "\(name) on other lanes")
            }
        }
    }

    @Test("before any training it is the frozen PickScore")
    func untrained() throws {
        let golden = try Golden("clip-dual-a/tuning.safetensors")
        for engine in testEngines {
            let frozen = try frozenReward("pickscore", folder: Self.folder, engine: engine, chunk: 2)
            let pictures = try (0..<6).map { try golden.image("fake.\($0)") }
            let expected = try frozen.scores(
                of: pictures, prompts: (0..<6).map { Self.prompts[$0 / 3] }, lanes: Lanes(count: 1)
            ).map { $0 / 26 }
            // Cosines: their errors are fractions of 1, however small they are. Some products add in another order where they have
            // other numbers of rows (without AVX-512); what is off by a weight or a token is off by 1e-3 and more.
            expectClose(
                try stage(golden, layers: 2, engine: engine).scores("fake"), expected, relative: 0, absolute: 3e-7)
            // A trunk in bf16, as its frozen counterpart may be: within bf16's precision of 1, 2^-8.
            let rounded = try stage(golden, layers: 1, dtype: .bfloat16, engine: engine).scores("fake")
            expectClose(rounded, expected, relative: 0, absolute: 0.0039)
            #expect(rounded != expected)
        }
    }

    @Test("a step of 5e-6 reaches the weights, of which bf16 would lose nine tenths")
    func masterWeights() throws {
        let golden = try Golden("clip-dual-a/tuning.safetensors")
        var stage = try stage(golden, layers: 1, learningRate: 5e-6, engine: OpenBLASEngine.shared)
        let before = stage.trainer.discriminator.parameters
        _ = try stage.trainer.train(groups: Stage.groups, references: stage.references, steps: 1)
        let name = "pickscore_adversarial.vision_model.encoder.layers.2.mlp.fc1.weight"
        let (old, new) = (
            try #require(before[name]).values, try #require(stage.trainer.discriminator.parameters[name]).values
        )
        // Adam's first step is ± the learning rate.
        let moved = zip(old, new).count { abs(abs($0 - $1) - 5e-6) < 1e-6 }
        let inBF16 = zip(
            before[name]?.converted(to: .bfloat16).values ?? [],
            stage.trainer.discriminator.parameters[name]?.converted(to: .bfloat16).values ?? []
        ).count { $0 != $1 }
        #expect(Double(moved) > 0.95 * Double(old.count), "\(moved) of \(old.count)")
        #expect(Double(inBF16) < 0.1 * Double(old.count), "\(inBF16) of \(old.count)")
    }

    @Test("goes on bit for bit from its stored state, and refuses one of another number of layers")
    func state() throws {
        let golden = try Golden("clip-dual-a/tuning.safetensors")
        var stage = try stage(golden, layers: 2, engine: OpenBLASEngine.shared)
        let fresh = stage.trainer
        _ = try stage.trainer.train(groups: Stage.groups, references: stage.references)
        let table = try #require(stage.tables["fake"])
        func remember(_ trainer: inout DiscriminatorTrainer) {
            for number in 0..<2 {
                trainer.remember(
                    GroupID(epoch: 1, index: number), prompt: Self.prompts[number],
                    features: table.rows(Array(number * 3..<number * 3 + 3).reversed()))
            }
        }
        let next = (0..<2).map { GroupID(epoch: 1, index: $0) }
        let stored = stage.trainer.state
        var resumed = fresh
        try resumed.restore(DiscriminatorState(tensors: stored.tensors, document: stored.document))
        remember(&resumed)
        remember(&stage.trainer)
        let reports = (
            try stage.trainer.train(groups: next, references: stage.references),
            try resumed.train(groups: next, references: stage.references)
        )
        #expect(reports.0 == reports.1 && reports.0.version == 2)
        for (name, tensor) in stage.trainer.state.tensors.entries {
            #expect(tensor.values == resumed.state.tensors[name]?.values, "\(name)")
        }
        var other = try self.stage(golden, layers: 1, engine: OpenBLASEngine.shared).trainer
        #expect(throws: DiscriminatorStateError.self) { try other.restore(stored) }
    }

    @Test("beside another head each learns as it would alone, from its own batch and at its own rate")
    func mixed() throws {
        let golden = try Golden("clip-dual-a/tuning.safetensors")
        func train(texture: Double, pickScore: Double, realBatch: Int) throws -> (DiscriminatorTrainer, Separation) {
            var stage = try stage(golden, layers: 1, engine: OpenBLASEngine.shared) {
                $0.reward.weights[.texture] = texture
                $0.reward.weights[.pickScoreAdversarial] = pickScore
                $0.discriminator.hiddenWidth = 8
                $0.discriminator.learningRate = 1e-2
                $0.discriminator.replayCapacity = 2
                $0.discriminator.fakeBatch = 4
                $0.discriminator.realBatch = realBatch
            }
            let report = try stage.trainer.train(groups: Stage.groups, references: stage.references, steps: 3)
            return (stage.trainer, report.training)
        }
        let (both, separation) = try train(texture: 1, pickScore: 1, realBatch: 3)
        let (texture, textureSeparation) = try train(texture: 1, pickScore: 0, realBatch: 3)
        let (pickScore, pickScoreSeparation) = try train(texture: 0, pickScore: 1, realBatch: 0)
        #expect(
            both.discriminator.parameters.names
                == (pickScore.discriminator.parameters.names + texture.discriminator.parameters.names))
        for alone in [texture, pickScore] {
            for (name, tensor) in alone.discriminator.parameters.entries {
                #expect(both.discriminator.parameters[name]?.values == tensor.values, "\(name)")
            }
        }
        // The figures are the first head's that takes references as a heap, else the pairs'.
        #expect(separation == textureSeparation && separation != pickScoreSeparation)
    }

    @Test("more layers than the tower has, and the tokenizer of another model, are refused")
    func badInput() throws {
        func load(_ folder: String, _ layers: Int) throws {
            _ = try TunableImageText(
                folder: folder, layerCount: layers, engine: OpenBLASEngine.shared, dtype: .float32,
                chunks: Chunks(size: 1))
        }
        let violation = #expect(throws: SettingViolation.self) { try load(Self.folder, 4) }
        #expect(violation?.path == "discriminator.tunedLayers")
        #expect(violation?.message == "is 4, the vision tower in \(Self.folder) has 3 layers")
        try load(Self.folder, 3)
        try withTemporaryFolder { folder in
            for file in ["config.json", "model.safetensors"] {
                try FileManager.default.copyItem(atPath: Self.folder + "/" + file, toPath: folder + "/" + file)
            }
            let base = Repository.models + "/emoji-sd3-tiny/tokenizer/"
            for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
                try FileManager.default.copyItem(atPath: base + file, toPath: folder + "/" + file)
            }
            let error = #expect(throws: ModelError.self) { try load(folder, 1) }
            #expect(error?.message.hasSuffix("the model knows 21") == true, "\(error?.message ?? "")")
        }
    }

    /// Generated images are darker and grainier than references; every prompt has colours of its own.
    @Test("learns to prefer references of prompts that it has not trained on", .optimized)
    func wins() throws {
        let engine = OpenBLASEngine.shared
        let settings = settings(layers: 2, learningRate: 1e-3)
        let tunable = try TunableImageText(
            folder: Self.folder, layerCount: 2, engine: engine, dtype: .float32, chunks: Chunks(size: 8))
        let (discriminator, networks) = try discriminator(of: tunable, settings, lanes: 1, engine: engine)
        let prompts = ["a", "b", "c", "ab", "ba", "ca", "bc", "cb", "abc", "cab", "bca", "12"]
        let (S, trained) = (24, 8)
        func images(_ prompt: Int, isReal: Bool) -> Tensor {
            let noise = Philox(seed: 3, purpose: .tests, prompt, isReal ? 1 : 0)
            let values = (0..<4 * S * S * 3).map { index -> Float in
                let (image, y, x, channel) = (index / (S * S * 3), index / (S * 3) % S, index / 3 % S, index % 3)
                let colour = Float((prompt * (channel + 2) + image) % 7) / 7 + Float(x + y) / 200
                let grain = Float(noise.uniform(index) - 0.5) * (isReal ? 0.1 : 0.35)
                return min(max((colour + grain) * (isReal ? 0.8 : 0.55), 0), 1)
            }
            let bytes = values.map { ($0 * 255).rounded() / 255 }
            return engine.tensor(bytes, shape: [4, S, S, 3])
        }
        let real = FeatureTable(
            joining: prompts.indices.map {
                discriminator.referenceFeatures(
                    of: images($0, isReal: true), prompt: prompts[$0], purpose: .training, networks: networks)
            })
        let references = ReferenceImages(
            prompts: prompts.indices.map { .init(text: prompts[$0], imageCount: 4, isHeldOut: $0 >= trained) }
        ) { images, _ in real.rows(images) }
        var trainer = DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 1)
        func remember(_ epoch: Int, _ chosen: Range<Int>) -> [GroupID] {
            chosen.map { index in
                let group = GroupID(epoch: epoch, index: index)
                trainer.remember(
                    group, prompt: prompts[index],
                    features: discriminator.generatedFeatures(
                        of: images(index, isReal: false), group: group, prompt: prompts[index], purpose: .training,
                        networks: networks, seed: 1
                    ) { preconditionFailure("nothing is relative") })
                return group
            }
        }
        let unseen = remember(0, trained..<prompts.count)
        let before = try trainer.compared(on: unseen, references: references)
        for epoch in 1...10 {
            let groups = remember(epoch, 0..<trained)
            _ = try trainer.train(groups: groups, references: references, steps: 10)
        }
        let unseenAgain = remember(9, trained..<prompts.count)
        let after = try trainer.compared(on: unseenAgain, references: references)
        // The model as it is prefers the darker images of all four: 0.11 and no pair; tuned 0.92 and all pairs.
        #expect(before.areaUnderCurve < 0.2 && after.areaUnderCurve > 0.85, "\(before), \(after)")
        #expect(before.accuracy < 0.2 && after.accuracy > 0.9 && before.margin < 0 && after.margin > 0)
    }
}
