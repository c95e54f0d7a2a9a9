import Foundation
import Raster
import TestSupport
import Testing

@testable import AdvGRPO
@testable import MethodModels
@testable import TensorCore

private let environment = ProcessInfo.processInfo.environment
private let dataSet = environment["ADVGRPO_EMOJI"]

/// How soon each discriminator tells references it has not seen from images of the base that it has not seen.
///
/// ADVGRPO_EMOJI names what `advgrpo prepare-emoji` writes; ADVGRPO_CRITICS the rows of `all` to measure, apart by commas, all unless
/// given; ADVGRPO_SECONDS how long one trains. Seconds are the processor's, features of a critic's own images included.
@Suite("critics", .enabled(if: dataSet != nil, "measures where ADVGRPO_EMOJI names a data set"), .serialized)
struct CriticTests {
    private static let base = Repository.models + "/emoji-sd3-tiny"
    private static let seconds = Double(environment["ADVGRPO_SECONDS"] ?? "") ?? 60

    /// A discriminator by its settings.
    private static let all: [(name: String, settings: @Sendable (inout MethodSettings) -> Void)] = [
        ("dino_patch", { $0.reward.weights = [.patch: 1] }),
        (
            "dino_statistics",
            {
                $0.reward.weights = [.statistics: 1]
                $0.reward.statisticsLayer = -1
            }
        ),
        ("dino_projected, no views", { projected(&$0, views: 0) }),
        ("dino_projected, 1 view", { projected(&$0, views: 1) }),
        ("dino_projected, 2 views", { projected(&$0, views: 2) }),
        ("dino_projected, 4 views", { projected(&$0, views: 4) }),
    ]

    private static func projected(_ settings: inout MethodSettings, views: Int) {
        settings.reward.weights = [.projected: 1]
        settings.discriminator.augmentedViews = views
        settings.discriminator.hiddenWidth = Int(environment["ADVGRPO_WIDTH"] ?? "") ?? 64
        settings.discriminator.learningRate = Double(environment["ADVGRPO_RATE"] ?? "") ?? 5e-4
    }

    private let engine: any Engine
    private let lanes = Lanes(count: 1)
    private let policy: DiffusionPolicy
    private let prompts: [String]
    private let references: [String: [String]]
    private let folder: String

    init() throws {
        folder = try #require(dataSet)
        engine = try #require(testEngines.last)
        policy = try DiffusionPolicy(
            PolicySource(path: Self.base, engine: engine, dtype: .float32),
            settings: PolicySettings(fidelity: .fixed), seed: 0)
        let table = try JSONDecoder().decode(
            [String: [String]].self, from: Data(contentsOf: URL(filePath: folder + "/prompt2img.json")))
        references = table
        prompts = try String(contentsOfFile: folder + "/train.txt", encoding: .utf8)
            .split(separator: "\n").map(String.init).filter { table[$0] != nil }
    }

    /// Groups of eight from the base: 10 steps, guidance 4.5.
    private func samples(_ chosen: [String]) throws -> [Tensor] {
        var settings = MethodSettings(fidelity: .fixed).rollout
        (settings.steps, settings.guidance, settings.resolution, settings.groupSize) = (10, 4.5, 64, 8)
        settings.sharedInitialNoise = .none
        let rollout = try policy.rollout(settings, seed: 11)
        let velocity = try policy.sampling(policy.initialParameters)
        return try chosen.enumerated().map { index, prompt in
            let drawn = try rollout.sample(
                GroupID(epoch: 0, index: index), prompt: policy.conditioning(prompt), engine: engine,
                chunks: Chunks(size: 8), lanes: lanes, velocity: velocity.velocity,
                windowVelocity: velocity.windowVelocity)
            // Eight bits, as a reward server gets them.
            let images = policy.images(drawn.finalLatents_BCHW, lanes: lanes)
            return RGBImage.tensor(of: RGBImage.images(of: images), on: engine)
        }
    }

    private var processorSeconds: Double { Double(clock()) / 1e6 }

    @Test func separation() throws {
        let chosen = (0..<80).map { prompts[$0 * 13 % prompts.count] }
        let images = try samples(chosen)
        let wanted = environment["ADVGRPO_CRITICS"]?.split(separator: ";").map(String.init)
        for critic in Self.all where wanted?.contains(critic.name) ?? true {
            try measure(critic.name, critic.settings, Array(zip(chosen, images)))
        }
    }

    private func measure(
        _ name: String, _ change: (inout MethodSettings) -> Void, _ groups: [(prompt: String, images: Tensor)]
    ) throws {
        var settings = MethodSettings(fidelity: .fixed)
        settings.discriminator.hiddenWidth = 256
        settings.discriminator.learningRate = 5e-4
        (settings.discriminator.realBatch, settings.discriminator.fakeBatch) = (64, 64)
        settings.discriminator.replayCapacity = 64
        change(&settings)
        let vision = try VisionBackbone(
            folder: Self.base + "/dino", engine: engine, dtype: .float32, resize: .tensor, chunks: Chunks(size: 8))
        let pooled = try PooledPrompts(
            PolicySource(path: Self.base, engine: engine, dtype: .float32), embeddings: "")
        let networks = FrozenNetworks(backbone: vision.function(lanes: lanes), prompt: { pooled($0) })
        let discriminator = try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: vision.shape,
            promptWidth: pooled.width, seed: 0, engine: engine)
        var trainer = DiscriminatorTrainer(discriminator, settings: settings.discriminator, seed: 0)

        let shown = prompts.map {
            ReferenceImages.Prompt(text: $0, imageCount: 1, isHeldOut: (prompts.firstIndex(of: $0) ?? 0) % 10 == 9)
        }
        let cache = RememberedTables()
        let real = ReferenceImages(prompts: shown) { [prompts, references, folder, engine] images, purpose in
            FeatureTable(
                joining: try images.map { number in
                    try cache.table("\(number) \(purpose)") {
                        let file = try #require(references[prompts[number]]?.first)
                        let image = try RGBImage(path: folder + "/images/" + file)
                        return discriminator.referenceFeatures(
                            of: RGBImage.tensor(of: [image], on: engine), prompt: prompts[number], purpose: purpose,
                            networks: networks)
                    }
                })
        }
        let reward = AdversarialReward(settings: settings.reward, references: real, seed: 0)
        func remember(_ epoch: Int, _ index: Int, _ own: (prompt: String, images: Tensor)) throws -> GroupID {
            let group = GroupID(epoch: epoch, index: index)
            let features = try reward.features(
                of: own.images, group: group, prompt: own.prompt, discriminator: discriminator, networks: networks)
            trainer.remember(group, prompt: own.prompt, features: features.training)
            return group
        }
        // The last quarter of the groups measures; the others come one an epoch and stay in the replay.
        let unseen = try groups[60...].enumerated().map { try remember(100_000, $0.offset, $0.element) }
        var (spent, steps, next) = (0.0, 0, 5.0)
        for epoch in 0..<100_000 where spent < Self.seconds {
            let start = processorSeconds
            let group = try remember(epoch, 0, groups[epoch % 60])
            let report = try trainer.train(groups: [group], references: real, steps: 10, lanes: lanes)
            spent += processorSeconds - start
            steps += 10
            guard spent >= next else { continue }
            let auc = try trainer.measured(on: unseen, references: real).areaUnderCurve
            print(
                "\(name): \(Int(spent)) s, \(steps) steps, AUC \(auc), hinge \(report.loss), trained "
                    + "\(report.training.areaUnderCurve)")
            next = spent + (spent < 20 ? 5 : 20)
        }
        #expect(try trainer.measured(on: unseen, references: real).areaUnderCurve > 0.5)
    }
}

/// Features that are computed once.
private final class RememberedTables: @unchecked Sendable {
    private var tables: [String: FeatureTable] = [:]
    private let lock = NSLock()

    func table(_ name: String, computed: () throws -> FeatureTable) rethrows -> FeatureTable {
        if let known = lock.withLock({ tables[name] }) { return known }
        let table = try computed()
        lock.withLock { tables[name] = table }
        return table
    }
}
