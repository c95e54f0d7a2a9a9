import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// `dino_relative` on a backbone that is a table: images carry the number of their tokens as their colour.
@Suite("dino_relative")
struct RelativeHeadTests {
    private let seed: UInt64 = 7
    private let group = GroupID(epoch: 3, index: 5)

    private var settings: MethodSettings {
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = [.relative: 1]
        settings.reward.relativeLayers = [0, -1]
        settings.discriminator.hiddenWidth = 6
        settings.discriminator.labelSmoothing = 0.2
        settings.discriminator.r1.weight = 0.5
        settings.discriminator.r1.deviation = 0.3
        return settings
    }

    private func discriminator(_ golden: Golden) throws -> Discriminator {
        var discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 5, depth: 3),
            seed: seed, engine: engine)
        discriminator.parameters = try discriminator.parameters.mapped { name, _ in
            try golden.tensor(String(name.dropFirst("dino_relative.".count)))
        }
        discriminator.constants = try discriminator.constants.mapped { name, _ in
            try golden.tensor(String(name.dropFirst("dino_relative.".count)))
        }
        return discriminator
    }

    /// Images of a table's rows.
    private func images(_ count: Int) -> Tensor {
        engine.tensor(
            (0..<count).flatMap { [Float](repeating: Float($0) / 8, count: 3 * 64) }, shape: [count, 8, 8, 3])
    }

    private func networks(_ golden: Golden, _ name: String) throws -> FrozenNetworks {
        let tokens = try golden.tensor("tokens/" + name)
        let one = Array(tokens.shape.dropFirst())
        return FrozenNetworks { images, blocks, _ in
            let (values, pixels) = (images.values, images.count / images.shape[0])
            let rows = (0..<images.shape[0]).map { Int((values[$0 * pixels] * 8).rounded()) }
            let outputs = blocks.enumerated().map { place, block in
                let table = FeatureTable(["": tokens.rows(place..<place + 1).reshaped(one)])
                return (block, table.rows(rows)[""])
            }
            return BackboneFeatures(
                classToken_BD: engine.zeros([rows.count, 5]), patches_BND: engine.zeros([rows.count, 9, 5]),
                blocks: Dictionary(uniqueKeysWithValues: outputs))
        }
    }

    private func references(_ golden: Golden, _ name: String, count: Int) throws -> FeatureTable {
        try discriminator(golden).referenceFeatures(
            of: images(count), prompt: "", purpose: .training, networks: networks(golden, name))
    }

    private func generated(_ golden: Golden, _ name: String, beside references: FeatureTable) throws -> FeatureTable {
        try discriminator(golden).generatedFeatures(
            of: images(3), group: group, prompt: "", purpose: .score, networks: networks(golden, name), seed: seed
        ) { references }
    }

    @Test("scores and maps agree with PyTorch: beside others, and where a prompt has one reference only")
    func scores() throws {
        let golden = try Golden("relative.safetensors")
        let discriminator = try discriminator(golden)
        for (shown, made, count) in [("references", "generated", 4), ("lone", "lone_generated", 1)] {
            let real = try references(golden, shown, count: count)
            let fake = try generated(golden, made, beside: real)
            for (name, table) in [(shown, real), (made, fake)] {
                try expectClose(table["dino_relative"], golden, "features/" + name, relative: 1e-5)
                let scores = try #require(discriminator.scores(table, draws: PatchDraws([]))[.relative])
                expectClose(scores, try golden.floats("score/" + name), relative: 1e-5, name)
            }
            let maps = try #require(
                discriminator.maps(
                    of: images(3), table: fake, networks: networks(golden, made),
                    attribution: Attribution(chunks: Chunks(size: 2), lanes: Lanes(count: 1)))[.relative])
            #expect(maps.grid == PatchGrid(rows: 3, columns: 3))
            expectClose(maps.floats, try golden.floats("map/" + made), relative: 1e-4, made)
        }
        let others = try references(golden, "references", count: 4)["dino_relative.others"].sliced(axis: 1, 0..<20)
        try expectClose(others, golden, "others", relative: 1e-5)
    }

    @Test("one step agrees with PyTorch: smoothed hinge, approximated R1 and their gradients")
    func step() throws {
        let golden = try Golden("relative.safetensors")
        let real = try references(golden, "references", count: 4)
        let fake = try generated(golden, "generated", beside: real)
        let all = ReferenceImages(prompts: [.init(text: "", imageCount: 4)]) { rows, _ in real.rows(rows) }
        var trainer = DiscriminatorTrainer(try discriminator(golden), settings: settings.discriminator, seed: seed)
        let result = try trainer.update(
            DiscriminatorBatch(fake: fake, partners: [], realImages: [0, 1, 2, 3]), all, step: 0, Lanes(count: 1))
        let expected = try golden.scalar("step/loss") + 0.5 * golden.scalar("step/penalty")
        #expect(abs(result.loss - expected) < 1e-5)
        let share = Float(1 - settings.discriminator.betas.first)
        for name in ["0.weight", "0.bias", "2.weight", "2.bias"] {
            let moment = try #require(trainer.optimizer.firstMoment["dino_relative." + name])
            try expectClose(moment * (1 / share), golden, "step/grad." + name, relative: 1e-4)
        }
    }

    /// Mean distance of the head's second half over many prompts of R references, all images of one kind.
    private func distance(_ R: Int) throws -> (real: Double, fake: Double, leftOut: Set<Int>) {
        let golden = try Golden("relative.safetensors")
        let discriminator = try discriminator(golden)
        let head = try #require(discriminator.heads.first)
        var (real, fake): ([Float], [Float]) = ([], [])
        var leftOut: Set<Int> = []
        for prompt in 0..<300 {
            let noise = normalTensor(500 + prompt, R + 1, 1, 10, 5)
            let networks = FrozenNetworks { images, blocks, _ in
                let rows = (0..<images.shape[0]).map { Int((images.values[$0 * 192] * 8).rounded()) }
                let tokens = FeatureTable(["": noise]).rows(rows)[""].reshaped(rows.count, 10, 5)
                return BackboneFeatures(
                    classToken_BD: engine.zeros([rows.count, 5]), patches_BND: tokens,
                    blocks: Dictionary(uniqueKeysWithValues: blocks.map { ($0, tokens) }))
            }
            let own = discriminator.referenceFeatures(
                of: images(R), prompt: "", purpose: .training, networks: networks)
            let generated = discriminator.generatedFeatures(
                of: images(R + 1).rows(R..<R + 1), group: GroupID(epoch: prompt, index: 0), prompt: "",
                purpose: .training, networks: networks, seed: seed
            ) { own }
            real += head.standardizedVector(own).sliced(axis: 1, 20..<40).values
            fake += head.standardizedVector(generated).sliced(axis: 1, 20..<40).values
            let others = generated["dino_relative.others"].values
            let rows = own["dino_relative.others"]
            if let row = (0..<R).first(where: { rows.rows($0..<$0 + 1).values == others }) {
                leftOut.insert(row)
            }
        }
        func mean(_ values: [Float]) -> Double { values.reduce(0) { $0 + Double($1) } / Double(values.count) }
        return (mean(real), mean(fake), leftOut)
    }

    @Test("images of the references' kind are as far from their others as references are", arguments: [2, 3])
    func exchangeable(R: Int) throws {
        let (real, fake, leftOut) = try distance(R)
        // Compared with the mean of all, generated images would be 13% (two references) and 6% (three) nearer.
        #expect(abs(fake / real - 1) < 0.03, "\(R) references: \(real) \(fake)")
        #expect(leftOut.count == R)
    }

    @Test("reads the last block of each third unless told otherwise; a block that is not there is refused by name")
    func layers() throws {
        func blocks(_ layers: [Int], depth: Int) throws -> [Int]? {
            var changed = settings
            changed.reward.relativeLayers = layers
            return try Discriminator(
                reward: changed.reward, discriminator: changed.discriminator,
                backbone: BackboneShape(width: 5, depth: depth), seed: 1, engine: engine
            ).heads[0].blocks
        }
        #expect(try blocks([], depth: 6) == [1, 3, 5])
        #expect(try blocks([], depth: 12) == [3, 7, 11])
        #expect(try blocks([], depth: 2) == [0, 1])
        #expect(try blocks([], depth: 1) == [0])
        #expect(try blocks([-2, 0], depth: 6) == [4, 0])
        let refused = #expect(throws: SettingViolation.self) { try blocks([6], depth: 6) }
        #expect(refused?.path == "reward.relativeLayers")
        var twice = settings
        twice.reward.relativeLayers = [1, 1]
        #expect(twice.validate().map(\.path) == ["reward.relativeLayers"])
    }
}
