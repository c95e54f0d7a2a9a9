import AdvGRPO
import Configuration
import TensorCore
import TestSupport
import Testing
import TinyRun

@testable import RewardServer

@Suite("gradients of critics", .optimized, .timeLimit(.minutes(1)))
struct NearnessGradientTests {
    private static let prompt = TinyRun.trainingPrompts[0]
    private static let group = GroupID(epoch: 0, index: 0)

    private func scorer(_ component: RewardComponent, in folder: String, _ changes: [String] = []) throws -> (
        Scorer, AdversarialReward, NearnessGradient
    ) {
        let settings = try TinyRun.load(
            in: folder,
            overrides: ["reward.weights.texture=0", "reward.weights.\(component.rawValue)=1", "reward.references=raw"]
                + changes)
        let scorer = try Scorer(settings: settings, engine: OpenBLASEngine.shared)
        let references = scorer.references.images(
            discriminator: scorer.untrained, networks: scorer.referenceNetworks, lanes: scorer.lanes)
        return (
            scorer, AdversarialReward(settings: settings.method.reward, references: references, seed: scorer.seed),
            try NearnessGradient(settings, references: scorer.references, engine: scorer.engine)
        )
    }

    /// Two images of 64 x 64 pixels, smooth and in the middle of the range.
    private func images(_ engine: any Engine) -> Tensor {
        let noise = Philox(seed: 3, purpose: .tests).normals(2 * 64 * 64 * 3)
        return engine.tensor(noise.map { 0.5 + 0.1 * $0 }, shape: [2, 64, 64, 3])
    }

    @Test(
        "a head's gradient is that of its score",
        arguments: [
            RewardComponent.cls, .patch, .multilayer, .statistics, .projected, .relative,
        ])
    func gradient(component: RewardComponent) throws {
        try withTemporaryFolder { folder in
            let (scorer, reward, _) = try scorer(component, in: folder)
            let images = images(scorer.engine)
            func score(_ images: Tensor) throws -> Double {
                let features = try reward.features(
                    of: images, group: Self.group, prompt: Self.prompt, discriminator: scorer.untrained,
                    networks: scorer.networks)
                let scores = try reward.score(
                    Self.group, prompt: Self.prompt, features: features.score, discriminator: scorer.untrained)
                return scores.rewards.reduce(0) { $0 + Double($1) }
            }
            let gradient = try #require(
                try reward.gradient(
                    of: images, group: Self.group, prompt: Self.prompt, discriminator: scorer.untrained,
                    networks: scorer.networks))
            // Along the gradient the slope is its length: a step is small beside where networks curve.
            let length = Double(scorer.engine.sumOfSquares(gradient)).squareRoot()
            let step = gradient * Float(0.02 / length)
            let slope = (try score(images + step) - score(images + -step)) / 0.04
            #expect(length > 0 && abs(slope / length - 1) < 0.03, "\(slope) along a gradient of length \(length)")
        }
    }

    @Test("statistics of pixels and 8-bit images have no gradient", arguments: [RewardComponent.texture, .thumbnail])
    func without(component: RewardComponent) throws {
        try withTemporaryFolder { folder in
            let (scorer, reward, _) = try scorer(component, in: folder)
            func gradient(_ scorer: Scorer, _ reward: AdversarialReward) throws -> Tensor? {
                try reward.gradient(
                    of: images(scorer.engine), group: Self.group, prompt: Self.prompt, discriminator: scorer.untrained,
                    networks: scorer.networks)
            }
            #expect(try gradient(scorer, reward) == nil)
            let (other, otherReward, _) = try self.scorer(.cls, in: folder, ["reward.resize=pil"])
            #expect(try gradient(other, otherReward) == nil)
        }
    }

    @Test("the cosine is 1 along the direction itself, -1 against it, and nil without a gradient")
    func cosine() throws {
        try withTemporaryFolder { folder in
            let (scorer, _, nearness) = try scorer(.cls, in: folder)
            let prompts = TinyRun.trainingPrompts.prefix(2).map { ($0, images(scorer.engine)) }
            func cosine(_ factor: Float?) throws -> NearnessGradient.Cosine? {
                try nearness.cosine(of: prompts, lanes: Lanes(count: 2)) { number, images in
                    try factor.map { try nearness.towardsReferences(images, prompts[number].0) * $0 }
                }
            }
            let along = try #require(try cosine(2))
            #expect(abs(along.mean - 1) < 1e-5 && along.standardError < 1e-5)
            #expect(abs(try #require(try cosine(-0.5)).mean + 1) < 1e-5)
            #expect(try cosine(nil) == nil)
            #expect(try #require(try cosine(0)).mean == 0)
        }
    }

    @Test("a step along the direction brings an image nearer to its prompt's references")
    func nearer() throws {
        try withTemporaryFolder { folder in
            let (scorer, _, direction) = try scorer(.cls, in: folder)
            let images = images(scorer.engine)
            let gradient = try direction.towardsReferences(images, Self.prompt)
            let length = Double(scorer.engine.sumOfSquares(gradient)).squareRoot()
            func nearness(_ images: Tensor) throws -> Double {
                try direction.nearness(images, Self.prompt).values.reduce(0) { $0 + Double($1) }
            }
            let (before, after) = (try nearness(images), try nearness(images + gradient * Float(0.02 / length)))
            #expect(after > before, "\(before) to \(after)")
            #expect(abs((after - before) / (0.02 * length) - 1) < 0.1)
        }
    }
}
