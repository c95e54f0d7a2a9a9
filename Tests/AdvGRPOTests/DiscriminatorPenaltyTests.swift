import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("smoothed labels and the approximated R1")
struct DiscriminatorPenaltyTests {
    @Test("smoothed labels: the hinge's least value stays at the margin, and it rises beyond by half the share")
    func smoothing() {
        func loss(_ a: Float, _ b: Float, _ smoothing: Float) -> Float {
            hingeLoss(
                real: engine.tensor([a], shape: [1]), fake: engine.tensor([b], shape: [1]), smoothing: smoothing
            ).scalar
        }
        // s = 0.2: at the margins ½ (0.1 · 2 + 0.1 · 2); at 3 and -1 ½ (0.1 · 4 + 0.1 · 2); at 0 and -1 ½ (0.9 + 0.1 + 0.1 · 2).
        #expect(abs(loss(1, -1, 0.2) - 0.2) < 1e-6)
        #expect(abs(loss(3, -1, 0.2) - 0.3) < 1e-6)
        #expect(abs(loss(0, -1, 0.2) - 0.6) < 1e-6)
        #expect(loss(1, -1, 0) == 0 && loss(3, -2, 0) == 0)
        checkGradients([normalTensor(1, 6) * 2, normalTensor(2, 6) * 2], step: 1e-3, tolerance: 1e-2) {
            hingeLoss(real: $0[0], fake: $0[1], smoothing: 0.3).reshaped(1)
        }
    }

    @Test("noise is in units of each feature's deviation, another in every step, and not on what is compared with")
    func noise() {
        // Two features: deviations 3 and 0.01; a third that never changes.
        let count = 2000
        let noise = normals(2 * count, 5)
        let values = (0..<count).flatMap { row -> [Float] in
            let (first, second) = (noise[2 * row], noise[2 * row + 1])
            return [3 * first, 5 + 0.01 * second, 7]
        }
        let others = normalTensor(6, count, 4)
        let table = FeatureTable(["x": engine.tensor(values, shape: [count, 3]), "x.others": others])
        func perturbed(_ step: Int) -> FeatureTable {
            table.perturbed(by: 0.1) { Philox(seed: 1, purpose: .regularization, 0, step, $0) }
        }
        let near = perturbed(0)
        let change = (near["x"] - table["x"]).values
        for (column, deviation) in [0.3, 0.001].enumerated() {
            let moments = Moments(stride(from: column, to: change.count, by: 3).map { Double(change[$0]) })
            #expect(abs(moments.deviation / deviation - 1) < 0.05 && abs(moments.mean) < deviation / 10)
        }
        #expect(stride(from: 2, to: change.count, by: 3).allSatisfy { change[$0] == 0 })
        #expect(near["x.others"].values == others.values)
        #expect(perturbed(0)["x"].values == near["x"].values && perturbed(1)["x"].values != near["x"].values)
    }

    @Test(
        "R1 keeps the margin, every head of random layers takes it, and without weight nothing changes",
        arguments: [false, true])
    func margin(everyHead: Bool) throws {
        func train(_ weight: Double) throws -> (parameters: Parameters, margin: Double) {
            var settings = MethodSettings(fidelity: .fixed)
            settings.reward.weights =
                everyHead ? [.cls: 1, .patch: 1, .multilayer: 1, .statistics: 1, .relative: 1] : [.cls: 1]
            settings.reward.patchCount = 4
            settings.discriminator.hiddenWidth = 8
            settings.discriminator.learningRate = 1e-2
            settings.discriminator.r1.weight = weight
            let discriminator = try Discriminator(
                reward: settings.reward, discriminator: settings.discriminator,
                backbone: BackboneShape(width: 6, depth: 6), seed: 3, engine: engine)
            let networks = FrozenNetworks { images, blocks, _ in
                let tokens = images.reshaped(images.shape[0], 32, 6)
                return BackboneFeatures(
                    classToken_BD: tokens.sliced(axis: 1, 0..<1).reshaped(-1, 6),
                    patches_BND: tokens.sliced(axis: 1, 1..<10),
                    blocks: Dictionary(uniqueKeysWithValues: blocks.map { ($0, tokens.sliced(axis: 1, 0..<10)) }))
            }
            let real = discriminator.referenceFeatures(
                of: normalTensor(80, 8, 8, 8, 3, offset: 0.5), prompt: "", purpose: .training, networks: networks)
            let references = ReferenceImages(prompts: [.init(text: "", imageCount: 8)]) { rows, _ in real.rows(rows) }
            var trainer = DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 3)
            let group = GroupID(epoch: 0, index: 0)
            trainer.remember(
                group, prompt: "",
                features: discriminator.generatedFeatures(
                    of: normalTensor(81, 8, 8, 8, 3, offset: -0.5), group: group, prompt: "", purpose: .training,
                    networks: networks, seed: 3
                ) { real })
            let report = try trainer.train(groups: [group], references: references, steps: 30)
            return (trainer.discriminator.parameters, report.training.margin)
        }
        let (free, held) = (try train(0), try train(30))
        #expect(free.margin > 1.5 && held.margin < 0.9 * free.margin, "\(free.margin) \(held.margin)")
        for (name, tensor) in free.parameters.entries where name.hasSuffix(".0.weight") {
            #expect(tensor.values != held.parameters[name]?.values, "\(name)")
        }
    }
}
