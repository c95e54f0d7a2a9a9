import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("discriminator heads")
struct DiscriminatorHeadTests {
    private let width = 12
    private let hiddenWidth = 10

    private func reward(_ normalization: FeatureNormalization) -> RewardSettings {
        var settings = RewardSettings(fidelity: .fixed)
        settings.patchCount = 8
        settings.featureNormalization = normalization
        return settings
    }

    /// A head's weights as the fixture stores them, tracked.
    private func weights(_ golden: Golden, _ name: String, _ head: any RandomHead) throws -> HeadWeights {
        var tensors: [String: Tensor] = [:]
        for layer in head.layers {
            for part in [".weight", ".bias"] {
                tensors[head.prefix + layer.name + part] = try golden.tensor("\(name)/\(layer.name)\(part)")
            }
        }
        return HeadWeights(
            parameters: Parameters(tensors).tracked(), constants: Parameters(), prefix: head.prefix, dtype: .float32)
    }

    /// Loss and every weight's gradient.
    private func expectLoss(
        _ loss: HeadLoss, _ weights: HeadWeights, _ golden: Golden, _ name: String
    ) throws {
        expectClose([loss.loss.scalar], try golden.floats("\(name)/loss"), relative: 1e-5, "\(name)/loss")
        let gradients = weights.parameters.gradients(from: loss.loss.gradients())
        for (key, gradient) in gradients.entries {
            let key = key.dropFirst(weights.prefix.count)
            expectClose(
                gradient.values, try golden.floats("\(name)/grad/\(key)"), relative: 1e-4, "\(name)/grad/\(key)")
        }
        let separation = Separation(real: loss.realLogits.detached.values, fake: loss.fakeLogits.detached.values)
        #expect(abs(separation.accuracy - (try golden.scalar("\(name)/accuracy"))) < 1e-6)
    }

    private func indices(_ golden: Golden, _ name: String) throws -> PatchDraws {
        let shape = try golden.shape(name)
        let values = try golden.integers(name)
        let (B, n) = (shape[shape.count - 2], shape[shape.count - 1])
        let layers = (0..<values.count / (B * n)).map { layer in
            (0..<B).map { image in Array(values[(layer * B + image) * n..<(layer * B + image + 1) * n]) }
        }
        return PatchDraws(indices: layers)
    }

    @Test(
        "dino_cls agrees with PyTorch",
        arguments: [("dino_cls", FeatureNormalization.trainRawScoreUnit), ("dino_cls.unit", .unit)])
    func classToken(name: String, normalization: FeatureNormalization) throws {
        let golden = try Golden("rewards.safetensors")
        let head = ClassTokenHead(width: width, hiddenWidth: hiddenWidth, normalization: normalization)
        let weights = try weights(golden, name, head)
        let real = FeatureTable(["class": try golden.tensor("\(name)/cls_real")])
        let fake = FeatureTable(["class": try golden.tensor("\(name)/cls_fake")])
        let none = PatchDraws([])
        let loss = head.loss(real: real, fake: fake, weights: weights, realDraws: none, fakeDraws: none)
        try expectLoss(loss, weights, golden, name)
        for (table, side) in [(real, "real"), (fake, "fake")] {
            let score = head.score(table, weights: weights, draws: none)
            expectClose(score.values, try golden.floats("\(name)/reward_\(side)"), relative: 1e-5, "reward")
        }
    }

    @Test(
        "dino_patch agrees with PyTorch",
        arguments: [("dino_patch", FeatureNormalization.trainRawScoreUnit), ("dino_patch.unit", .unit)])
    func patches(name: String, normalization: FeatureNormalization) throws {
        let golden = try Golden("rewards.safetensors")
        let head = PatchHead(
            width: width, hiddenWidth: hiddenWidth, reward: reward(normalization), globalLossWeight: 1,
            patchLossWeight: 0.3)
        let weights = try weights(golden, name, head)
        func table(_ side: String) throws -> FeatureTable {
            FeatureTable([
                "class": try golden.tensor("\(name)/cls_\(side)"),
                "patches": try golden.tensor("\(name)/patch_\(side)"),
            ])
        }
        let loss = head.loss(
            real: try table("real"), fake: try table("fake"), weights: weights,
            realDraws: try indices(golden, "\(name)/indices_real"),
            fakeDraws: try indices(golden, "\(name)/indices_fake"))
        try expectLoss(loss, weights, golden, name)
        for side in ["real", "fake"] {
            let score = head.score(
                try table(side), weights: weights, draws: try indices(golden, "\(name)/reward_indices"))
            expectClose(score.values, try golden.floats("\(name)/reward_\(side)"), relative: 1e-5, "reward")
        }
    }

    @Test("dino_multilayer agrees with PyTorch")
    func layers() throws {
        let golden = try Golden("rewards.safetensors")
        var settings = reward(.raw)
        settings.patchCount = 16
        let head = MultilayerHead(width: width, hiddenWidth: hiddenWidth, reward: settings, blockNumbers: [2, 5])
        let weights = try weights(golden, "dino_multi", head)
        func table(_ side: String) throws -> FeatureTable {
            let tokens = try golden.tensor("dino_multi/tokens_\(side)")
            let shape = Array(tokens.shape.dropFirst())
            return FeatureTable([
                "block.2": tokens.rows(0..<1).reshaped(shape), "block.5": tokens.rows(1..<2).reshaped(shape),
            ])
        }
        let loss = head.loss(
            real: try table("real"), fake: try table("fake"), weights: weights,
            realDraws: try indices(golden, "dino_multi/indices_real"),
            fakeDraws: try indices(golden, "dino_multi/indices_fake"))
        try expectLoss(loss, weights, golden, "dino_multi")
        expectClose(loss.realLogits.values, try golden.floats("dino_multi/logits_real"), relative: 1e-5, "logits")
        for side in ["real", "fake"] {
            let score = head.score(try table(side), weights: weights, draws: PatchDraws([]))
            expectClose(score.values, try golden.floats("dino_multi/reward_\(side)"), relative: 1e-5, "reward")
        }
    }

    @Test("the statistics head's loss has the gradient of central differences")
    func statistics() throws {
        let head = StatisticsHead(
            component: .texture, statistics: .blocks([0], tokenWidth: 2, TokenStatistic.allCases, normalized: false),
            relation: .none, hiddenWidth: 5)
        let shapes = [[5, 8], [5], [1, 5], [1]]
        let names = ["texture.0.weight", "texture.0.bias", "texture.2.weight", "texture.2.bias"]
        let constants = Parameters([
            "texture.mean": normalTensor(20, 8), "texture.inverseDeviation": normalTensor(21, 8).activated(.square),
        ])
        let real = FeatureTable(["texture": normalTensor(22, 6, 8, offset: 0.5)])
        let fake = FeatureTable(["texture": normalTensor(23, 4, 8)])
        let inputs = shapes.enumerated().map { index, shape in
            engine.tensor(normals(shape.reduce(1, *), 30 + index).map { $0 * 0.3 }, shape: shape)
        }
        checkGradients(inputs, step: 2e-3, tolerance: 2e-2) { inputs in
            let parameters = Parameters(Dictionary(zip(names, inputs)) { first, _ in first })
            let weights = HeadWeights(parameters: parameters, constants: constants, prefix: "texture.", dtype: .float32)
            return head.loss(
                real: real, fake: fake, weights: weights, realDraws: PatchDraws([]), fakeDraws: PatchDraws([])
            ).loss
        }
    }

    @Test("a statistics head reads what it is told to, in one order")
    func chosenStatistics() throws {
        // A plain image of (0.25, 0.5, 1): every square has the same mean colour, and no deviation.
        let image = engine.tensor((0..<8 * 16).flatMap { _ in [0.25, 0.5, 1] as [Float] }, shape: [1, 8, 16, 3])
        func read(_ statistics: [TokenStatistic]) throws -> [Float] {
            let head = StatisticsHead(
                component: .texture, statistics: .texture(statistics), relation: .none, hiddenWidth: 5)
            let features = try #require(head.extract(FrozenFeatures(images_BHWC: image))["texture"])
            #expect(features.shape == [1, statistics.count * 20] && head.standardizedWidth == features.shape[1])
            return features.values
        }
        #expect(try Array(read([.mean])[17...]) == [0.25, 0.5, 1])
        #expect(try read([.deviation]).allSatisfy { abs($0) < 1e-6 })
        #expect(try read([.minimum, .mean]) == read([.mean]) + read([.minimum]))
        #expect(try read(TokenStatistic.allCases).count == 80)
    }

    @Test("hinge loss and its gradient agree with PyTorch")
    func hinge() throws {
        let golden = try Golden("rewards.safetensors")
        let real = try golden.tensor("hinge/real").tracked()
        let fake = try golden.tensor("hinge/fake").tracked()
        let loss = hingeLoss(real: real, fake: fake)
        expectClose([loss.scalar], try golden.floats("hinge/loss"), relative: 1e-5)
        let gradients = loss.gradients()
        try expectClose(gradients[real], golden, "hinge/grad_real", relative: 1e-5)
        try expectClose(gradients[fake], golden, "hinge/grad_fake", relative: 1e-5)
        let separation = Separation(real: real.detached.values, fake: fake.detached.values)
        #expect(abs(separation.accuracy - (try golden.scalar("hinge/accuracy"))) < 1e-6)
    }

    @Test("bf16 heads round features and weights, and keep fp32 gradients")
    func bfloat16() throws {
        let golden = try Golden("rewards.safetensors")
        let head = ClassTokenHead(width: width, hiddenWidth: hiddenWidth, normalization: .raw)
        let exact = try weights(golden, "dino_cls", head)
        let rounded = HeadWeights(
            parameters: exact.parameters, constants: exact.constants, prefix: exact.prefix, dtype: .bfloat16)
        let table = FeatureTable(["class": try golden.tensor("dino_cls/cls_real")])
        let (a, b) = (
            head.score(table, weights: exact, draws: PatchDraws([])),
            head.score(table, weights: rounded, draws: PatchDraws([]))
        )
        #expect(a.values != b.values && b.dtype == .float32)
        expectClose(b.values, a.values, relative: 0.03)
        for (_, gradient) in exact.parameters.gradients(from: b.mean().gradients()).entries {
            #expect(gradient.dtype == .float32)
        }
    }
}
