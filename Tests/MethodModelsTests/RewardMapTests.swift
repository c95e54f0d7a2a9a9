import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO
@testable import MethodModels

@Suite("reward maps")
struct RewardMapTests {
    /// A component that the fixture's networks give, and how far its map may be off: what a gradient's three points leave.
    static let components: [(RewardComponent, Float)] = [
        (.cls, 2e-2), (.imageSimilarity, 2e-2), (.statistics, 1e-1), (.texture, 1e-2), (.thumbnail, 1e-2),
    ]

    @Test("a map's mean differs between images as the reward does, through a real backbone and its resizing")
    func whole() throws {
        for engine in testEngines {
            for (component, tolerance) in Self.components {
                try expectSums([component: 1], tolerance, engine)
            }
            try expectSums([.cls: 2, .texture: 0.1, .imageSimilarity: 0.5], 2e-2, engine)
        }
    }

    private func expectSums(_ weights: RewardWeights, _ tolerance: Float, _ engine: any Engine) throws {
        let prompt = "p"
        let vision = try VisionBackbone(
            folder: Repository.fixtures + "/dino-a", engine: engine, dtype: .float32, resize: .tensor,
            chunks: Chunks(size: 3))
        let networks = FrozenNetworks(backbone: vision.function(lanes: Lanes(count: 2)))
        var settings = MethodSettings(fidelity: .fixed)
        settings.reward.weights = weights
        settings.reward.statistics = [.mean, .deviation]
        settings.reward.statisticsLayer = -1
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: vision.shape, seed: 3,
            engine: engine)
        func pixels(_ count: Int, _ stream: Int) -> Tensor {
            let noise = Philox(seed: 1, purpose: .tests, stream).normals(count * 24 * 24 * 3)
            return engine.tensor(noise.map { 0.5 + 0.05 * $0 }, shape: [count, 24, 24, 3])
        }
        let (own, images) = (pixels(1, 5), pixels(4, 6))
        let references = ReferenceImages(prompts: [.init(text: prompt, imageCount: 1)]) { rows, purpose in
            discriminator.referenceFeatures(of: own, prompt: prompt, purpose: purpose, networks: networks).rows(rows)
        }
        let reward = AdversarialReward(settings: settings.reward, references: references, seed: 3)
        let features = try reward.features(
            of: images, group: GroupID(epoch: 0, index: 0), prompt: prompt, discriminator: discriminator,
            networks: networks
        ).score
        let scores = try reward.score(
            GroupID(epoch: 0, index: 0), prompt: prompt, features: features, discriminator: discriminator)
        let maps = try reward.maps(
            of: images, prompt: prompt, scores: scores, features: features, discriminator: discriminator,
            networks: networks, attribution: Attribution(chunks: Chunks(size: 3), lanes: Lanes(count: 2)))
        let means = maps.values.map { Float($0.reduce(0, +) / Double(maps.grid.count)) }
        func centred(_ values: [Float]) -> [Float] { values.map { $0 - values.reduce(0, +) / Float(values.count) } }
        expectClose(
            centred(means), centred(scores.rewards), relative: tolerance, "\(weights.active) on \(engine.name)")
        #expect(maps.values.contains { Set($0).count > 1 }, "\(weights.active): no place differs")
        // Scoring is what it was.
        let again = try reward.score(
            GroupID(epoch: 0, index: 0), prompt: prompt, features: features, discriminator: discriminator)
        #expect(again == scores)
    }

    @Test("a component without places counts alike at every place, divided as its score is")
    func flat() throws {
        let scores: [Float] = [1, 2, 4]
        let settings = MethodSettings(fidelity: .fixed)
        var reward = settings.reward
        reward.weights = [.patch: 1, RewardComponent(rawValue: "jpeg_compressibility")!: 0.5]
        let engine = OpenBLASEngine.shared
        let discriminator = try Discriminator(
            reward: reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 4, depth: 1),
            seed: 1, engine: engine)
        let table = FeatureTable([
            "class": engine.tensor([Float](repeating: 1, count: 12), shape: [3, 4]),
            "patches": engine.tensor(Philox(seed: 1, purpose: .tests).normals(48), shape: [3, 4, 4]),
        ])
        let none = ReferenceImages(prompts: [.init(text: "p", imageCount: 1)]) { _, _ in table }
        let networks = FrozenNetworks { images, _, _ in
            BackboneFeatures(classToken_BD: images, patches_BND: images)
        }
        func maps(_ frozen: [Float]) throws -> RewardMaps {
            let jpeg = RewardScores.Component(
                component: RewardComponent(rawValue: "jpeg_compressibility")!, values: frozen)
            let patch = RewardScores.Component(component: .patch, values: [0, 0, 0])
            return try AdversarialReward(settings: reward, references: none, seed: 1).maps(
                of: engine.zeros([3, 8, 8, 3]), prompt: "p",
                scores: RewardScores(version: 0, rewards: frozen, components: [patch, jpeg]), features: table,
                discriminator: discriminator, networks: networks,
                attribution: Attribution(chunks: Chunks(size: 4), lanes: Lanes(count: 1)))
        }
        let (with, without) = (try maps(scores), try maps([0, 0, 0]))
        #expect(with.grid == PatchGrid(rows: 2, columns: 2))
        for image in 0..<3 {
            for place in 0..<4 {
                let added = with.values[image][place] - without.values[image][place]
                #expect(abs(added - 0.5 * Double(scores[image])) < 1e-9)
            }
        }
    }
}
