import Foundation
import ImageModels
import NeuralNetworks
import Raster
import TestSupport
import Testing

@testable import AdvGRPO
@testable import MethodModels
@testable import TensorCore

private let dataSet = ProcessInfo.processInfo.environment["ADVGRPO_EMOJI"]

/// How much of one policy update is signal, on the committed base: its cosine with the exact gradient of the same reward.
///
/// Exact is the pathwise gradient through the window's step alone, everything after it differentiated with weights held, averaged
/// over all updates. Two groups of 16 branch at the window an update; critics are heads on the base's DINO, trained for a
/// minute on references against the base's images. ADVGRPO_EMOJI names what `advgrpo prepare-emoji` writes, ADVGRPO_UPDATES how
/// many updates are averaged.
@Suite("signal of an update", .enabled(if: dataSet != nil, "measures where ADVGRPO_EMOJI names a data set"))
struct SignalTests {
    private static let updates = Int(ProcessInfo.processInfo.environment["ADVGRPO_UPDATES"] ?? "") ?? 16
    private static let base = Repository.models + "/emoji-sd3-tiny"
    private static let start = 7

    private let engine: any Engine
    private let lanes = Lanes(count: 2)
    private let chunks = Chunks(size: 8)
    private let policy: DiffusionPolicy
    private let rollout: Rollout
    private let networks: FrozenNetworks
    private let shape: BackboneShape
    private let prompts: [String]
    private let references: [String: [String]]

    init() throws {
        let folder = try #require(dataSet)
        engine = try #require(testEngines.last)
        var settings = MethodSettings(fidelity: .fixed)
        settings.rollout.steps = 10
        settings.rollout.guidance = 4.5
        settings.rollout.resolution = 64
        settings.rollout.groupSize = 16
        settings.rollout.sharedInitialNoise = .branch
        settings.rollout.window = WindowSettings(size: 1, start: .fixed(Self.start))
        settings.policy.advantage = .both
        policy = try DiffusionPolicy(
            PolicySource(path: Self.base, engine: engine, dtype: .float32), settings: settings.policy, seed: 0)
        rollout = try policy.rollout(settings.rollout, seed: 7)
        let vision = try VisionBackbone(
            folder: Self.base + "/dino", engine: engine, dtype: .float32, resize: .tensor, chunks: chunks)
        networks = FrozenNetworks(backbone: vision.function(lanes: Lanes(count: 1)))
        shape = vision.shape
        let table = try JSONDecoder().decode(
            [String: [String]].self, from: Data(contentsOf: URL(filePath: folder + "/prompt2img.json")))
        references = table
        prompts = try String(contentsOfFile: folder + "/train.txt", encoding: .utf8)
            .split(separator: "\n").map(String.init).filter { table[$0] != nil }
    }

    /// A group from the base, decoded.
    private func sample(_ index: Int, in rollout: Rollout) throws -> (ScoredGroup, images: Tensor) {
        let group = GroupID(epoch: 0, index: index)
        let prompt = try policy.conditioning(prompts[index * 37 % prompts.count])
        let sampling = try policy.sampling(policy.initialParameters)
        let drawn = try rollout.sample(
            group, prompt: prompt, engine: engine, chunks: chunks, lanes: lanes, velocity: sampling.velocity,
            windowVelocity: sampling.windowVelocity)
        let images = policy.images(drawn.finalLatents_BCHW, lanes: lanes)
        let rewards = [Float](repeating: 0, count: images.shape[0])
        return (
            ScoredGroup(group: group, prompt: prompt, trajectory: drawn.trajectory, rewards: rewards), images
        )
    }

    private func read(_ images_BHWC: Tensor) -> FrozenFeatures {
        FrozenFeatures(images_BHWC: images_BHWC, backbone: networks.backbone(images_BHWC, [], .score), trunk: nil)
    }

    /// The head's weights after a short training on references and on images of the base.
    private func trained(_ head: any RandomHead) throws -> HeadWeights {
        let folder = try #require(dataSet)
        var settings = rollout.settings
        settings.groupSize = 8
        settings.sharedInitialNoise = .none
        let independent = try policy.rollout(settings, seed: 11)
        let fakes = try concatenated((0..<24).map { try sample($0, in: independent).images }, axis: 0)
        let files = (0..<192).compactMap { references[prompts[$0 * 5 % prompts.count]]?.first }
        let pixels = try files.map { try RGBImage(path: folder + "/images/" + $0).pixels.map { Float($0) / 255 } }
        let real = engine.tensor(pixels.flatMap { $0 }, shape: [files.count, 64, 64, 3])
        func table(_ images: Tensor) -> FeatureTable {
            let parts = chunks.ranges(images.shape[0]).map { FeatureTable(head.extract(read(images.rows($0)))) }
            return FeatureTable(joining: parts)
        }
        let (a, b) = (table(real), table(fakes))
        var parameters = head.initialParameters(seed: 1, engine: engine).renamed { head.prefix + $0 }
        var optimizer = AdamW(
            AdamW.Settings(learningRate: 5e-4, beta1: 0.5, beta2: 0.999, epsilon: 1e-8, weightDecay: 0),
            parameters: parameters)
        for step in 0..<200 {
            let rows = (0..<32).map { (step * 32 + $0 * 7) % 192 }
            let leaves = parameters.tracked()
            let weights = HeadWeights(
                parameters: leaves, constants: Parameters(), prefix: head.prefix, dtype: .float32)
            let every = PatchDraws(indices: [[[Int]](repeating: Array(0..<64), count: 32)])
            let loss = head.loss(
                real: a.rows(rows), fake: b.rows(rows), weights: weights, realDraws: every, fakeDraws: every)
            parameters = optimizer.update(parameters, gradients: leaves.gradients(from: loss.loss.gradients()))
        }
        return HeadWeights(parameters: parameters, constants: Parameters(), prefix: head.prefix, dtype: .float32)
    }

    /// Minus the exact gradient of the mean reward of some groups, and these groups with rewards and maps.
    private func update(
        _ number: Int, score: @escaping @Sendable (Tensor) -> Tensor, maps: (Tensor) throws -> RewardMaps
    ) throws -> (exact: [Double], groups: [ScoredGroup]) {
        let leaves = policy.initialParameters.tracked()
        let (tracked, held) = (
            policy.trainable.velocity(leaves), try policy.sampling(policy.initialParameters).velocity
        )
        var exact: Parameters?
        var groups: [ScoredGroup] = []
        for index in [2 * number, 2 * number + 1] {
            let (scored, images) = try sample(index, in: rollout)
            let ranges = chunks.ranges(16)
            let pieces = lanes.map(ranges.count) { piece in
                let own = scored.trajectory.members(ranges[piece])
                let leaf = own.latents(before: 1).tracked()
                var latents = leaf
                for k in (Self.start + 1)..<10 {
                    let step = rollout.step(k, windowStart: Self.start)
                    let v = rollout.guidance(latents, timestep: step.timestep, prompt: scored.prompt, velocity: held)
                    latents = step.mean(latents, velocity_BCHW: v)
                }
                let rewards = score(policy.model.images(latents))
                guard let slope = (rewards.sum() * (-1.0 / 32)).gradients()[leaf] else {
                    preconditionFailure("the reward does not depend on the latents")
                }
                let step = rollout.step(Self.start, windowStart: Self.start)
                let x = own.latents(before: 0)
                let mean = step.mean(
                    x,
                    velocity_BCHW: rollout.guidance(
                        x, timestep: step.timestep, prompt: scored.prompt, velocity: tracked))
                return leaves.gradients(from: (mean * slope).sum().gradients())
            }
            for piece in pieces { exact = exact?.adding(piece) ?? piece }
            groups.append(
                ScoredGroup(
                    group: scored.group, prompt: scored.prompt, trajectory: scored.trajectory,
                    rewards: score(images).values, maps: try maps(images)))
        }
        return (flat(try #require(exact)), groups)
    }

    private func flat(_ parameters: Parameters) -> [Double] {
        parameters.entries.flatMap { $0.tensor.values.map(Double.init) }
    }

    private func cosine(_ a: [Double], _ b: [Double]) -> Double {
        func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
        return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
    }

    private func mean(_ all: [[Double]]) -> [Double] {
        all[0].indices.map { index in all.reduce(0) { $0 + $1[index] } / Double(all.count) }
    }

    /// The gradient of one update with these advantages, and the cosine of its halves.
    private func gradient(_ kind: AdvantageKind, blur: Double, _ groups: [ScoredGroup]) throws -> ([Double], Double) {
        var settings = policy.settings
        settings.advantage = kind
        settings.patchBlur = blur
        settings.clipRange = 0.2
        let own = kind == .image ? groups.map(whole) : groups
        let update = PolicyUpdate(settings: settings, rollout: rollout, chunks: chunks)
        let credited = update.credited(
            own, Advantages(groups: own, deviation: .global, patches: settings.patchCredit))
        let total = update.fold(
            credited[...], at: policy.trainable.tracked(at: policy.initialParameters), lanes: lanes
        ).total()
        return (flat(total.gradient), total.statistics.halvesCosine ?? 0)
    }

    /// A group with its images' log-probabilities, which are the means of their tokens'.
    private func whole(_ group: ScoredGroup) -> ScoredGroup {
        let tokens = group.trajectory.logProbabilities
        let trajectory = Trajectory(
            stepIndices: group.trajectory.stepIndices, latents: group.trajectory.latents,
            logProbabilities: tokens.meanPerSample().reshaped(tokens.shape[0], 1))
        return ScoredGroup(
            group: group.group, prompt: group.prompt, trajectory: trajectory, rewards: group.rewards)
    }

    @Test(
        "patches and attribution follow the exact gradient better than images",
        arguments: [RewardComponent.patch, .cls])
    func signal(component: RewardComponent) throws {
        var reward = RewardSettings(fidelity: .fixed)
        (reward.globalWeight, reward.localWeight) = (0, 1)
        let patch = PatchHead(
            width: shape.width, hiddenWidth: 256, reward: reward, globalLossWeight: 0, patchLossWeight: 1)
        let head: any RandomHead =
            component == .patch
            ? patch : ClassTokenHead(width: shape.width, hiddenWidth: 256, normalization: reward.featureNormalization)
        let weights = try trained(head)
        let every = [Int](0..<64)
        let score: @Sendable (Tensor) -> Tensor = { images in
            let draws = PatchDraws(indices: [[[Int]](repeating: every, count: images.shape[0])])
            return head.score(FeatureTable(head.extract(read(images))), weights: weights, draws: draws)
        }
        let attribution = Attribution(chunks: chunks, lanes: lanes)
        func maps(_ images: Tensor) throws -> RewardMaps {
            let table = FeatureTable(head.extract(read(images)))
            let mapped = MappedImages(images_BHWC: images, table: table, read: read, attribution: attribution)
            return try #require(head.maps(mapped, weights: weights))
        }
        let drawn = try (0..<Self.updates).map { try update($0, score: score, maps: maps) }
        let exact = mean(drawn.map(\.exact))
        var cosines: [String: Double] = [:]
        for (kind, blur) in [(AdvantageKind.image, 0), (.patch, 0), (.patch, 0.7), (.both, 0)] {
            let all = try drawn.map { try gradient(kind, blur: blur, $0.groups) }
            let each = all.map { cosine($0.0, exact) }
            let moments = Moments(each)
            let name = "\(kind.rawValue)\(blur == 0 ? "" : " blurred \(blur)")"
            cosines[name] = moments.mean
            let figures = [
                moments.mean, moments.deviation / Double(each.count - 1).squareRoot(),
                cosine(mean(all.map(\.0)), exact),
                Moments(all.map(\.1)).mean,
            ].map { String(format: "%.3f", $0) }
            print(
                "\(component.rawValue), window \(Self.start), \(name): one update \(figures[0]) +- \(figures[1]), "
                    + "all \(Self.updates) \(figures[2]), halves \(figures[3])")
        }
        let image = try #require(cosines["image"])
        for (name, value) in cosines where name != "image" { #expect(value > image, "\(name)") }
    }
}
