import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// Trainings that go on until they separate images that they do not learn from.
@Suite("a discriminator that keeps up")
struct DiscriminatorAimTests {
    private func settings(target: Double) -> MethodSettings {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [.texture: 1]
        settings.discriminator.hiddenWidth = 16
        settings.discriminator.learningRate = 1e-2
        settings.discriminator.replayCapacity = 3
        settings.discriminator.fakeBatch = 6
        settings.discriminator.realBatch = 8
        settings.discriminator.stepsPerTraining = 2
        settings.discriminator.targetAUC = target
        settings.discriminator.maximumSteps = 11
        return settings
    }

    private func images(_ stream: Int, strength: Float, count: Int) -> Tensor {
        engine.tensor(
            normals(count * 16 * 16 * 3, stream).map { min(max(0.5 + strength * $0, 0), 1) }, shape: [count, 16, 16, 3])
    }

    private let noNetworks = FrozenNetworks(backbone: { _, _, _ in preconditionFailure("texture needs no backbone") })

    private func trainer(target: Double) throws -> (DiscriminatorTrainer, ReferenceImages) {
        let settings = settings(target: target)
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 6, depth: 2),
            seed: 3, engine: engine)
        let table = discriminator.features(
            of: images(40, strength: 0.1, count: 16), prompt: "", purpose: .training, networks: noNetworks)
        let prompts = (0..<4).map { ReferenceImages.Prompt(text: "prompt \($0)", imageCount: 4, isHeldOut: $0 == 3) }
        return (
            DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 3),
            ReferenceImages(prompts: prompts) { images, _ in table.rows(images) }
        )
    }

    /// - Parameter strength: 0.1 is that of the references.
    private func remember(_ trainer: inout DiscriminatorTrainer, epoch: Int, strength: Float) -> [GroupID] {
        (0..<2).map { index in
            let group = GroupID(epoch: epoch, index: index)
            trainer.remember(
                group, prompt: "prompt \(index)",
                features: trainer.discriminator.features(
                    of: images(50 + 10 * epoch + index, strength: strength, count: 5), prompt: "", purpose: .training,
                    networks: noNetworks))
            return group
        }
    }

    private func report(target: Double, strength: Float) throws -> DiscriminatorReport {
        var (trainer, references) = try trainer(target: target)
        let groups = remember(&trainer, epoch: 0, strength: strength)
        return try trainer.train(groups: groups, references: references)
    }

    @Test("goes on in rounds until the target is reached, or all steps are taken; without a target one round")
    func rounds() throws {
        let easy = try report(target: 0.9, strength: 0.3)
        #expect(easy.reached?.areaUnderCurve ?? 0 >= 0.9 && easy.stepCount < 11 && easy.stepCount % 2 == 0)
        // The same textures: nothing is there to learn. 11 is no number of whole rounds.
        let hopeless = try report(target: 0.999, strength: 0.1)
        #expect(hopeless.reached?.areaUnderCurve ?? 1 < 0.999 && hopeless.stepCount == 11)
        let none = try report(target: 0, strength: 0.3)
        #expect(none.reached == nil && none.stepCount == 2)
        #expect(DiscriminatorReport.metrics.values(of: none)["discriminator.reachedAUC"] == nil)
    }

    @Test("measures on images it has not learned from, which later trainings learn from")
    func spared() throws {
        // Images 3 and 7 of the ten are made of nothing that the others have: learning from them would show.
        func run(_ strength: Float) throws -> (DiscriminatorTrainer, DiscriminatorReport, ReferenceImages) {
            var (trainer, references) = try trainer(target: 0.5)
            let groups = (0..<2).map { GroupID(epoch: 0, index: $0) }
            for group in groups {
                // Rows 3 of the first group and 2 of the second are the epoch's images 3 and 7.
                let odd = group.index == 0 ? 3 : 2
                let usual = images(60 + group.index, strength: 0.13, count: 5)
                let special = images(70, strength: strength, count: 1)
                let all = concatenated(
                    (0..<5).map { $0 == odd ? special : usual.rows($0..<$0 + 1) }, axis: 0)
                trainer.remember(
                    group, prompt: "prompt \(group.index)",
                    features: trainer.discriminator.features(
                        of: all, prompt: "", purpose: .training, networks: noNetworks))
            }
            var settings = settings(target: 0.5)
            settings.discriminator.fakeBatch = 0
            settings.discriminator.maximumSteps = 2
            trainer = DiscriminatorTrainer(
                trainer.discriminator, optimizer: trainer.optimizer, replay: trainer.replay,
                settings: settings.discriminator, seed: 3)
            let report = try trainer.train(groups: groups, references: references)
            return (trainer, report, references)
        }
        let (first, a, references) = try run(0.3)
        let (second, b, _) = try run(0.02)
        for (name, tensor) in first.discriminator.parameters.entries where a.stepCount == b.stepCount {
            #expect(tensor.values == second.discriminator.parameters[name]?.values, "\(name)")
        }
        #expect(a.stepCount == b.stepCount && a.reached?.fakeMean != b.reached?.fakeMean)
        // The next epoch's training finds them in the replay.
        func next(_ trainer: DiscriminatorTrainer) throws -> Parameters {
            var trainer = trainer
            let groups = remember(&trainer, epoch: 1, strength: 0.13)
            _ = try trainer.train(groups: groups, references: references)
            return trainer.discriminator.parameters
        }
        let (c, d) = (try next(first), try next(second))
        #expect(c.entries.contains { $0.tensor.values != d[$0.name]?.values })
    }

    @Test("is the same again, and from its stored state")
    func resumes() throws {
        var (trainer, references) = try trainer(target: 0.95)
        _ = try trainer.train(groups: remember(&trainer, epoch: 0, strength: 0.12), references: references)
        let stored = trainer.state
        var (resumed, _) = try self.trainer(target: 0.95)
        try resumed.restore(stored)
        let groups = remember(&trainer, epoch: 1, strength: 0.12)
        _ = remember(&resumed, epoch: 1, strength: 0.12)
        let (a, b) = (
            try trainer.train(groups: groups, references: references),
            try resumed.train(groups: groups, references: references)
        )
        #expect(a == b)
        for (name, tensor) in trainer.state.tensors.entries {
            #expect(tensor.values == resumed.state.tensors[name]?.values, "\(name)")
        }
    }

    @Test("settings that have nothing to measure on, or no step left, are refused by name")
    func refused() {
        func paths(_ change: (inout MethodSettings) -> Void) -> [String] {
            var settings = settings(target: 0.9)
            change(&settings)
            return settings.validate().map(\.path)
        }
        #expect(paths { _ in } == [])
        #expect(paths { $0.discriminator.realBatch = 0 } == ["discriminator.targetAUC"])
        #expect(paths { $0.discriminator.stepsPerTraining = 12 } == ["discriminator.maximumSteps"])
        #expect(paths { $0.discriminator.targetAUC = 1 } == ["discriminator.targetAUC"])
        #expect(paths { $0.reward.weights[.pickScoreAdversarial] = 1 } == ["discriminator.targetAUC"])
        #expect(paths { ($0.discriminator.targetAUC, $0.discriminator.stepsPerTraining) = (0, 500) } == [])
        #expect(paths { $0.discriminator.labelSmoothing = 1 } == ["discriminator.labelSmoothing"])
        #expect(paths { $0.discriminator.r1.weight = -1 } == ["discriminator.r1.weight"])
        #expect(paths { $0.discriminator.r1.deviation = 0 } == ["discriminator.r1.deviation"])
    }
}
