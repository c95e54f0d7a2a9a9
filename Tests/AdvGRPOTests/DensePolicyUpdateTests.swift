import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// Patch advantages from the rollout to the gradient, on a policy whose tokens act each for themselves.
@Suite("policy update with patches")
struct DensePolicyUpdateTests {
    private let weight = engine.tensor(normals(72, 8).map { $0 * 0.3 }, shape: [72])
    private var policy: TrainablePolicy {
        TrainablePolicy(velocity: { parameters in
            guard let weight = parameters["weight"] else { preconditionFailure("no weight") }
            return toyVelocity(weight)
        })
    }

    private func rollout(tokenSide: Int?, _ change: (inout RolloutSettings) -> Void = { _ in }) throws -> Rollout {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.groupSize = 8
        settings.guidance = 1
        settings.window = WindowSettings(size: 1, start: .fixed(4))
        change(&settings)
        return Rollout(
            settings: settings, sigmas: try tenSteps(), latentShape: [2, 6, 6], seed: 7, tokenSide: tokenSide)
    }

    private func settings(_ advantage: AdvantageKind) -> PolicySettings {
        var settings = PolicySettings(fidelity: .fixed)
        settings.advantage = advantage
        settings.updatesPerEpoch = 1
        return settings
    }

    /// Reward: how small the image is; its map: how small each token is.
    private func groups(_ rollout: Rollout, count: Int) throws -> [ScoredGroup] {
        try (0..<count).map { index in
            let group = GroupID(epoch: 0, index: index)
            let sample = try rollout.sample(
                group, prompt: toyPrompt, engine: engine, chunks: Chunks(size: 4), lanes: Lanes(count: 1),
                velocity: toyVelocity(weight))
            let places = PatchGrid(rows: 3, columns: 3)
            let squares = sample.finalLatents_BCHW.activated(.square)
            return ScoredGroup(
                group: group, prompt: toyPrompt, trajectory: sample.trajectory,
                rewards: squares.meanPerSample().values.map { -$0 },
                maps: RewardMaps(grid: places, floats: squares.meanPerToken(places).values.map { -$0 }))
        }
    }

    @Test(
        "a token's log-probabilities average to the image's, whose sampling they do not change",
        arguments: StochasticStep.allCases)
    func tokens(kind: StochasticStep) throws {
        let group = GroupID(epoch: 1, index: 1)
        func sample(_ side: Int?) throws -> RolloutSample {
            try rollout(tokenSide: side) {
                $0.sde = kind
                $0.window = WindowSettings(size: 2, start: .fixed(1))
            }.sample(
                group, prompt: toyPrompt, engine: engine, chunks: Chunks(size: 3), lanes: Lanes(count: 2),
                velocity: toyVelocity(weight))
        }
        let (image, tokens) = (try sample(nil), try sample(2))
        #expect(image.trajectory.latents.values == tokens.trajectory.latents.values)
        #expect(image.trajectory.tokens == nil && tokens.trajectory.tokens == PatchGrid(rows: 3, columns: 3))
        #expect(tokens.trajectory.logProbabilities.shape == [8, 2, 3, 3])
        expectClose(
            tokens.trajectory.logProbabilities.reshaped(16, 9).meanOverLastAxis().values,
            image.trajectory.logProbabilities.values, relative: 1e-6)
        #expect(tokens.trajectory.members(2..<5).logProbability(1).shape == [3, 3, 3])
    }

    @Test("ratios of tokens are exactly 1 in the first update", arguments: [AdvantageKind.patch, .both])
    func ratio(kind: AdvantageKind) throws {
        let rollout = try rollout(tokenSide: 2)
        let groups = try groups(rollout, count: 2)
        let update = PolicyUpdate(settings: settings(kind), rollout: rollout, chunks: Chunks(size: 4))
        var state = PolicyState(parameters: Parameters(["weight": weight]), settings: update.settings)
        let reports = try update(
            &state, groups: groups,
            advantages: Advantages(groups: groups, deviation: .global, patches: update.settings.patchCredit),
            policy: policy, lanes: Lanes(count: 2))
        #expect(reports[0].statistics.smallestRatio == 1 && reports[0].statistics.largestRatio == 1)
        #expect(reports[0].statistics.count == 16 && reports[0].statistics.meanRatio == 1)
        #expect(state.optimizer.updateCount == 1)
    }

    /// The gradient of a few groups' loss with respect to the weight.
    private func gradient(_ kind: AdvantageKind, _ rollout: Rollout, _ groups: ArraySlice<ScoredGroup>) throws
        -> [Double]
    {
        let settings = settings(kind)
        let own = Array(groups)
        let advantages = Advantages(groups: own, deviation: .global, patches: settings.patchCredit)
        let update = PolicyUpdate(settings: settings, rollout: rollout, chunks: Chunks(size: 4))
        let total = update.fold(
            update.credited(own, advantages)[...], at: policy.tracked(at: Parameters(["weight": weight])),
            lanes: Lanes(count: 2)
        ).total()
        return try #require(total.gradient["weight"]).values.map(Double.init)
    }

    private func cosine(_ a: [Double], _ b: [Double]) -> Double {
        func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
        return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
    }

    /// Minus the exact gradient of the mean reward through the window's step alone, which is what the loss estimates.
    private func exact(_ rollout: Rollout, _ groups: [ScoredGroup]) throws -> [Double] {
        let leaf = weight.tracked()
        var sum = [Double](repeating: 0, count: 72)
        for scored in groups {
            let step = rollout.step(4, windowStart: 4)
            let (x, next) = (scored.trajectory.latents(before: 0), scored.trajectory.latents(before: 1))
            let v = rollout.guidance(x, timestep: step.timestep, prompt: toyPrompt, velocity: toyVelocity(leaf))
            let mean = step.mean(x, velocity_BCHW: v)
            var latents = mean + (next - mean.detached)
            for index in 5..<10 {
                let step = rollout.step(index, windowStart: 4)
                let v = rollout.guidance(
                    latents, timestep: step.timestep, prompt: toyPrompt, velocity: toyVelocity(weight))
                latents = step.mean(latents, velocity_BCHW: v)
            }
            let gradient = try #require(latents.activated(.square).mean().gradients()[leaf]).values
            for (index, value) in gradient.enumerated() { sum[index] += Double(value) }
        }
        return sum
    }

    @Test("one update of patches follows the exact gradient better than one of images, and in the mean the same way")
    func signal() throws {
        let dense = try rollout(tokenSide: 2)
        let exact = try exact(dense, groups(dense, count: 64))
        func cosines(_ kind: AdvantageKind) throws -> (one: Double, all: Double) {
            let rollout = try rollout(tokenSide: kind == .image ? nil : 2)
            let groups = try groups(rollout, count: 64)
            let parts = try stride(from: 0, to: 64, by: 2).map { try gradient(kind, rollout, groups[$0..<$0 + 2]) }
            let all = parts[0].indices.map { index in parts.reduce(0) { $0 + $1[index] } }
            return (parts.reduce(0) { $0 + cosine($1, exact) } / Double(parts.count), cosine(all, exact))
        }
        let (image, both, patch) = (try cosines(.image), try cosines(.both), try cosines(.patch))
        // Nine tokens: nine times the noise's square.
        #expect(patch.one > 2 * image.one && both.one > image.one, "\(image), \(both), \(patch)")
        #expect(patch.all > 0.95 && image.all > 0.5, "\(image), \(patch)")
    }

    @Test("the halves of an update agree as far as it is signal")
    func halves() throws {
        func cosine(_ kind: AdvantageKind, _ count: Int, adapter: AdapterKind = .lora) throws -> Double? {
            var settings = settings(kind)
            settings.adapter = adapter
            let rollout = try rollout(tokenSide: kind == .image ? nil : 2)
            let update = PolicyUpdate(settings: settings, rollout: rollout, chunks: Chunks(size: 4))
            var state = PolicyState(parameters: Parameters(["weight": weight]), settings: settings)
            let own = try groups(rollout, count: count)
            let reports = try update(
                &state, groups: own,
                advantages: Advantages(groups: own, deviation: .global, patches: settings.patchCredit),
                policy: policy, lanes: Lanes(count: 2))
            return reports[0].statistics.halvesCosine
        }
        let (image, patch) = (try #require(try cosine(.image, 32)), try #require(try cosine(.patch, 32)))
        #expect(patch > image && patch > 0.7, "\(image), \(patch)")
        #expect(try cosine(.patch, 1) == nil)
        #expect(try cosine(.patch, 2, adapter: .full) == nil)
        var zero = GradientHalves()
        let nothing = Parameters(["weight": engine.zeros([72])])
        #expect(zero.cosine(in: nothing) == nil)
        zero.add(nothing)
        #expect(zero.cosine(in: nothing) == nil)
        var known = GradientHalves()
        known.add(Parameters(["weight": engine.tensor([3, 0], shape: [2])]))
        let cosine = known.cosine(in: Parameters(["weight": engine.tensor([6, 4], shape: [2])]))
        #expect(abs((cosine ?? 0) - 0.6) < 1e-6)
    }
}
