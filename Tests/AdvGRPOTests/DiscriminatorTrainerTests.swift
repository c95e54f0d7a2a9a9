import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// Images whose texture tells them apart: noise of different strength around grey.
private func image(_ stream: Int, strength: Float, count: Int) -> Tensor {
    engine.tensor(
        normals(count * 16 * 16 * 3, stream).map { min(max(0.5 + strength * $0, 0), 1) }, shape: [count, 16, 16, 3])
}

@Suite("discriminator training")
struct DiscriminatorTrainerTests {
    private var settings: MethodSettings {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [.texture: 1]
        settings.discriminator.hiddenWidth = 16
        settings.discriminator.learningRate = 1e-2
        settings.discriminator.replayCapacity = 3
        settings.discriminator.fakeBatch = 6
        settings.discriminator.realBatch = 8
        return settings
    }

    /// The backbone of these tests: never asked by the texture head.
    private let networks = FrozenNetworks(backbone: { images, _, _ in
        let B = images.shape[0]
        return BackboneFeatures(
            classToken_BD: images.reshaped(B, -1).sliced(axis: 1, 0..<6), patches_BND: images.reshaped(B, -1, 6))
    })

    private func trainer(_ settings: MethodSettings) throws -> DiscriminatorTrainer {
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 6, depth: 2),
            seed: 3,
            engine: engine)
        return DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 3)
    }

    /// Four prompts with four references each, the last prompt held out.
    private func references(_ discriminator: Discriminator) -> ReferenceImages {
        let table = discriminator.features(
            of: image(40, strength: 0.1, count: 16), prompt: "", purpose: .training, networks: networks)
        let prompts = (0..<4).map { ReferenceImages.Prompt(text: "prompt \($0)", imageCount: 4, isHeldOut: $0 == 3) }
        return ReferenceImages(prompts: prompts) { images, _ in table.rows(images) }
    }

    private func remember(_ trainer: inout DiscriminatorTrainer, epoch: Int, order: [Int] = [0, 1]) {
        for index in order {
            let features = trainer.discriminator.features(
                of: image(50 + 10 * epoch + index, strength: 0.13, count: 4), prompt: "", purpose: .training,
                networks: networks)
            trainer.remember(
                GroupID(epoch: epoch, index: index), prompt: "prompt \(index)", features: features)
        }
    }

    private func groups(_ epoch: Int) -> [GroupID] {
        (0..<2).map { GroupID(epoch: epoch, index: $0) }
    }

    /// After one epoch, with the references it learned from.
    private func trained() throws -> (DiscriminatorTrainer, ReferenceImages) {
        var trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        remember(&trainer, epoch: 0)
        _ = try trainer.train(groups: groups(0), references: references)
        return (trainer, references)
    }

    @Test("learns to tell generated images from references it has not seen")
    func learns() throws {
        var trainer = try trainer(settings)
        let references = references(trainer.discriminator)
        var reports: [DiscriminatorReport] = []
        for epoch in 0..<12 {
            remember(&trainer, epoch: epoch)
            reports.append(try trainer.train(groups: groups(epoch), references: references))
        }
        #expect(reports.map(\.version) == Array(1...12))
        #expect(reports.last?.heldOut.areaUnderCurve ?? 0 > 0.9, "\(reports.map(\.heldOut.areaUnderCurve))")
        #expect(reports.last?.heldOut.margin ?? 0 > 0.5)
        #expect(trainer.replay.kept.count == 3)
        let newest: [GroupID] = [
            .init(epoch: 10, index: 1), .init(epoch: 11, index: 0), .init(epoch: 11, index: 1),
        ]
        #expect(trainer.replay.kept.keys.sorted() == newest)
    }

    @Test("does not depend on the order in which groups were scored")
    func arrivalOrder() throws {
        func run(_ order: [Int]) throws -> Parameters {
            var trainer = try trainer(settings)
            let references = references(trainer.discriminator)
            for epoch in 0..<2 {
                remember(&trainer, epoch: epoch, order: order)
                _ = try trainer.train(groups: groups(epoch).reversed(), references: references)
            }
            return trainer.discriminator.parameters
        }
        let (first, second) = (try run([0, 1]), try run([1, 0]))
        for (name, tensor) in first.entries { #expect(tensor.values == second[name]?.values) }
    }

    @Test("goes on bit for bit from its stored state")
    func state() throws {
        var (trainer, references) = try trained()
        remember(&trainer, epoch: 1)
        let stored = trainer.state
        var resumed = try self.trainer(settings)
        try resumed.restore(DiscriminatorState(tensors: stored.tensors, document: stored.document))
        let reports = (
            try trainer.train(groups: groups(1), references: references),
            try resumed.train(groups: groups(1), references: references)
        )
        #expect(reports.0 == reports.1)
        let (a, b) = (trainer.state, resumed.state)
        #expect(a.document == b.document && a.tensors.names == b.tensors.names)
        for (name, tensor) in a.tensors.entries { #expect(tensor.values == b.tensors[name]?.values, "\(name)") }
    }

    @Test("refuses a state of other settings and stays as it was")
    func wrongState() throws {
        var other = settings
        other.discriminator.hiddenWidth = 8
        let stored = try trainer(other).state
        var trainer = try trainer(settings)
        #expect(throws: DiscriminatorStateError.self) { try trainer.restore(stored) }
        #expect(throws: DiscriminatorStateError.self) {
            try trainer.restore(DiscriminatorState(tensors: stored.tensors, document: "{"))
        }
        #expect(trainer.discriminator.version == 0)
    }

    @Test("refuses a state whose numbers cannot be: it would end the next training, not this restore")
    func impossibleState() throws {
        let (before, references) = try trained()
        let stored = before.state
        var trainer = try trainer(settings)
        func refusal(_ tensors: Parameters, _ document: String) throws -> String? {
            do {
                try trainer.restore(DiscriminatorState(tensors: tensors, document: document))
                try trainer.checkReplay(against: references)
                return nil
            } catch let error as DiscriminatorStateError {
                return error.description
            }
        }
        func changed(_ change: (String, Tensor) -> Tensor) -> Parameters { stored.tensors.mapped(change) }
        #expect(try refusal(stored.tensors, stored.document) == nil)
        for version in ["-1", "4294967296", "9223372036854775807"] {
            let document = stored.document.replacing(#""version":1"#, with: #""version":\#(version)"#)
            #expect(try refusal(stored.tensors, document)?.contains("version \(version)") == true)
        }
        let far = stored.document.replacing(#""epoch":0"#, with: #""epoch":1099511627776"#)
        #expect(try refusal(stored.tensors, far)?.contains("expected 0 to") == true)
        let infinite = changed { name, tensor in
            name.hasPrefix("head/") ? engine.tensor(tensor.values.map { _ in .infinity }, shape: tensor.shape) : tensor
        }
        #expect(try refusal(infinite, stored.document)?.contains("is not of finite fp32 numbers") == true)
        let half = changed { $0.hasPrefix("moment1/") ? $1.converted(to: .bfloat16) : $1 }
        #expect(try refusal(half, stored.document)?.contains("is not of finite fp32 numbers") == true)
        let narrow = changed { name, tensor in
            name.hasPrefix("kept/") ? tensor.sliced(axis: 1, 0..<1) : tensor
        }
        #expect(try refusal(narrow, stored.document)?.contains("the heads read") == true)
        let other = stored.tensors.renamed {
            $0.hasPrefix("kept/") ? $0.replacing("texture", with: "thumbnail") : $0
        }
        #expect(try refusal(other, stored.document)?.contains("the heads read") == true)
    }

    @Test("names groups that were never scored, and changes nothing")
    func missing() throws {
        var trainer = try trainer(settings)
        remember(&trainer, epoch: 0, order: [0])
        let references = references(trainer.discriminator)
        let missing = MissingGroups(groups: [GroupID(epoch: 0, index: 1)])
        #expect(throws: missing) { try trainer.train(groups: groups(0), references: references) }
        #expect(trainer.discriminator.version == 0 && trainer.replay.waiting.count == 1)
    }

    @Test("measuring is what the next training reports, and trains nothing")
    func measured() throws {
        var trainer = try trainer(settings)
        remember(&trainer, epoch: 0)
        let references = references(trainer.discriminator)
        let measured = try trainer.measured(on: groups(0), references: references)
        #expect(trainer.discriminator.version == 0 && trainer.replay.kept.isEmpty)
        #expect(try trainer.train(groups: groups(0), references: references).heldOut == measured)
    }

    @Test("an epoch is compared with the references of its own prompts")
    func compared() throws {
        var trainer = try trainer(settings)
        remember(&trainer, epoch: 0)
        let references = references(trainer.discriminator)
        let compared = try trainer.compared(on: groups(0), references: references)
        let scores = { (table: FeatureTable) in trainer.discriminator.scores(table, draws: PatchDraws([])) }
        // Prompts 0 and 1 have the references 0 to 7; four images and four references each.
        let real = try #require(scores(try references.features(Array(0..<8), .training))[.texture])
        let tables = try trainer.replay.waitingEntries(groups(0)).map(\.features)
        let fake = try #require(scores(FeatureTable(joining: tables))[.texture])
        #expect(compared == Separation(real: real, fake: fake, prompts: (0..<8).map { "prompt \($0 / 4)" }))
        #expect(compared != (try trainer.measured(on: groups(0), references: references)))
        #expect(throws: MissingGroups.self) { try trainer.compared(on: groups(1), references: references) }
    }

    @Test("separation of pairs: shares of pairs won, and each prompt's own area under the curve")
    func pairs() {
        // Prompt a: references 5, 6 against 1, 5.5; prompt b: 0 against 0. Pairs won: 5 > 1, 6 > 5.5, a tie.
        let separation = Separation(real: [5, 0, 6], fake: [1, 0, 5.5], prompts: ["a", "b", "a"])
        #expect(abs(separation.accuracy - 2.5 / 3) < 1e-12)
        #expect(abs(separation.realMean - 11.0 / 3) < 1e-12 && abs(separation.fakeMean - 6.5 / 3) < 1e-12)
        // a: of 5 and 6 against 1 and 5.5 three of four are won; b: a tie.
        #expect(abs(separation.areaUnderCurve - (2 * 0.75 + 0.5) / 3) < 1e-12)
    }

    @Test("forgets waiting groups of epochs long past")
    func bounded() throws {
        var trainer = try trainer(settings)
        for epoch in 0..<9 { remember(&trainer, epoch: epoch) }
        #expect(trainer.replay.waiting.count == 6)
    }

    @Test("without its waiting groups the state is that of the last training, whoever scored what since")
    func settled() throws {
        var trainer = try trainer(settings)
        remember(&trainer, epoch: 0)
        _ = try trainer.train(groups: groups(0), references: references(trainer.discriminator))
        let before = trainer.state
        remember(&trainer, epoch: 0, order: [1])
        remember(&trainer, epoch: 1)
        #expect(trainer.state.document != before.document)
        trainer.forgetWaiting()
        #expect(trainer.state.document == before.document && trainer.state.tensors.names == before.tensors.names)
    }

    @Test("initial weights are PyTorch's: uniform within 1/√inputs")
    func initialization() throws {
        let parameters = try trainer(settings).discriminator.parameters
        #expect(parameters.names == ["texture.0.bias", "texture.0.weight", "texture.2.bias", "texture.2.weight"])
        for (name, bound) in [("texture.0.weight", 1 / Float(80).squareRoot()), ("texture.2.weight", 0.25)] {
            let values = parameters[name]?.values ?? []
            #expect(values.allSatisfy { abs($0) <= bound } && (values.map(abs).max() ?? 0) > 0.8 * bound)
        }
    }
}

@Suite("adversarial reward")
struct AdversarialRewardTests {
    @Test("is the weighted sum of its components, and its patches belong to the member")
    func weightedSum() throws {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [.patch: 0.25, .cls: 2, .imageSimilarity: 0.5]
        settings.reward.patchCount = 4
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 6, depth: 2),
            seed: 1, engine: engine)
        let networks = FrozenNetworks(backbone: { images, _, _ in
            let B = images.shape[0]
            return BackboneFeatures(
                classToken_BD: images.reshaped(B, -1).sliced(axis: 1, 0..<6), patches_BND: images.reshaped(B, -1, 6))
        })
        let referenceTable = discriminator.features(
            of: image(60, strength: 0.2, count: 3), prompt: "", purpose: .score, networks: networks)
        let references = ReferenceImages(prompts: [.init(text: "a", imageCount: 3)]) { images, _ in
            referenceTable.rows(images)
        }
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 1)
        let group = GroupID(epoch: 2, index: 3)
        let features = try reward.features(
            of: image(61, strength: 0.2, count: 4), group: group, prompt: "a", discriminator: discriminator,
            networks: networks)
        let scores = try reward.score(group, prompt: "a", features: features.score, discriminator: discriminator)
        #expect(scores.components.map(\.component) == [.cls, .patch, .imageSimilarity])
        for member in 0..<4 {
            let values = scores.components.map { Double($0.values[member]) }
            #expect(abs(Double(scores.rewards[member]) - (2 * values[0] + 0.25 * values[1] + 0.5 * values[2])) < 1e-6)
        }
        #expect(try reward.score(group, prompt: "a", features: features.score, discriminator: discriminator) == scores)
        let other = try reward.score(
            GroupID(epoch: 2, index: 4), prompt: "a", features: features.score, discriminator: discriminator)
        #expect(other.components[0] == scores.components[0] && other.components[1] != scores.components[1])
        let pickScore = try #require(RewardComponent(rawValue: "pickscore"))
        settings.reward.weights[pickScore] = 3
        let more = try AdversarialReward(settings: settings.reward, references: references, seed: 1).score(
            group, prompt: "a", features: features.score, discriminator: discriminator,
            frozen: [pickScore: [26, 13, 0, -26]])
        #expect(more.components.dropLast() == scores.components[...] && more.components[3].values == [1, 0.5, 0, -1])
        for (member, value) in [3, 1.5, 0, -3].enumerated() {
            #expect(abs(more.rewards[member] - scores.rewards[member] - Float(value)) < 1e-5)
        }
        #expect(throws: MissingReferences(prompt: "b")) {
            try reward.score(group, prompt: "b", features: features.score, discriminator: discriminator)
        }
    }

    @Test("a member's score is its own on any number of lanes, in any company")
    func lanes() throws {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [.patch: 1]
        settings.reward.patchCount = 4
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 6, depth: 2),
            seed: 1, engine: engine)
        let table = FeatureTable([
            "class": engine.tensor(normals(19 * 6, 70), shape: [19, 6]),
            "patches": engine.tensor(normals(19 * 9 * 6, 71), shape: [19, 9, 6]),
        ])
        let streams = (0..<19).map { Philox(seed: 1, purpose: .patches, $0) }
        let scores = try #require(discriminator.scores(table, draws: PatchDraws(streams))[.patch])
        #expect(Set(scores).count == 19)
        #expect(discriminator.scores(table, draws: PatchDraws(streams), lanes: Lanes(count: 3))[.patch] == scores)
        for member in 0..<19 {
            let alone = discriminator.scores(
                table.rows(member..<member + 1), draws: PatchDraws([streams[member]]))
            expectClose(try #require(alone[.patch]), [scores[member]], relative: 1e-5)
        }
    }

    @Test("image similarity agrees with PyTorch")
    func similarity() throws {
        let golden = try Golden("rewards.safetensors")
        let values = nearestSimilarity(
            try golden.tensor("image_similarity/generated"), try golden.tensor("image_similarity/references"))
        expectClose(values, try golden.floats("image_similarity/reward"), relative: 1e-5)
    }

    @Test("a block that the backbone does not have is refused by name")
    func wrongBlock() throws {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights[.multilayer] = 1
        settings.reward.layers = [7]
        #expect(throws: SettingViolation.self) {
            try Discriminator(
                reward: settings.reward, discriminator: settings.discriminator,
                backbone: BackboneShape(width: 6, depth: 2),
                seed: 1, engine: engine)
        }
    }
}
