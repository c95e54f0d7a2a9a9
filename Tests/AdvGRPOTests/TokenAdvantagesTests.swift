import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// Against `make_dense.py`, which is PyTorch in float64.
@Suite("advantages of tokens")
struct TokenAdvantagesTests {
    private static let grid = PatchGrid(rows: 4, columns: 6)
    private static let groups = 3, members = 4

    /// One of the fixture's sets of maps a group.
    private func maps(_ golden: Golden, _ name: String) throws -> [RewardMaps] {
        let shape = try golden.shape(name)
        let grid = PatchGrid(rows: shape[2], columns: shape[3])
        let values = try golden.floats(name)
        let size = values.count / shape[0]
        return (0..<shape[0]).map {
            RewardMaps(grid: grid, floats: Array(values[$0 * size..<($0 + 1) * size]))
        }
    }

    private func rewards(_ golden: Golden) throws -> [[Float]] {
        let values = try golden.floats("rewards")
        return (0..<Self.groups).map { Array(values[$0 * Self.members..<($0 + 1) * Self.members]) }
    }

    @Test(
        "maps on other grids agree with PyTorch, and keep their means",
        arguments: [("down", 4, 6), ("up", 8, 12), ("mixed", 5, 18), ("one", 1, 1)])
    func resampled(name: String, rows: Int, columns: Int) throws {
        let golden = try Golden("dense.safetensors")
        let found = try maps(golden, "maps").map { $0.resampled(to: PatchGrid(rows: rows, columns: columns)) }
        expectClose(
            found.flatMap(\.floats), try golden.floats("resampled.\(name)"), relative: 1e-6, "resampled.\(name)")
        try expectMeans(of: found, golden)
    }

    @Test("blurred maps agree with PyTorch's convolution, and keep their means", arguments: [0.8, 5.0])
    func blurred(deviation: Double) throws {
        let golden = try Golden("dense.safetensors")
        let found = try maps(golden, "maps").map { $0.blurred(deviation) }
        expectClose(found.flatMap(\.floats), try golden.floats("blurred.\(deviation)"), relative: 1e-6)
        try expectMeans(of: found, golden)
        #expect(try maps(golden, "maps")[0].blurred(0) == maps(golden, "maps")[0])
    }

    private func expectMeans(of found: [RewardMaps], _ golden: Golden) throws {
        func mean(_ map: [Double]) -> Double { map.reduce(0, +) / Double(map.count) }
        for (own, original) in zip(found, try maps(golden, "maps")) {
            for (a, b) in zip(own.values, original.values) { #expect(abs(mean(a) - mean(b)) < 1e-12) }
        }
    }

    @Test("agree with PyTorch", arguments: [AdvantageKind.patch, .both], DeviationScope.allCases)
    func golden(kind: AdvantageKind, scope: DeviationScope) throws {
        let golden = try Golden("dense.safetensors")
        for blur in [0, 0.8] {
            var settings = PolicySettings(fidelity: .fixed)
            settings.advantage = kind
            settings.patchWeight = kind == .both ? 0.7 : 1
            settings.patchBlur = blur
            let images = Advantages(rewards: try rewards(golden), deviation: scope)
            let tokens = TokenAdvantages(
                maps: try maps(golden, "maps"), grid: Self.grid, images: images.values,
                credit: try #require(settings.patchCredit), deviation: scope)
            let name = "advantages.\(kind.rawValue).\(scope.rawValue).\(blur == 0 ? "0.0" : "0.8")"
            expectClose(
                tokens.values.flatMap { $0.map { Float($0) } }, try golden.floats(name), relative: 1e-5, name)
        }
    }

    @Test("image advantages are those of the rewards, one a member", arguments: DeviationScope.allCases)
    func image(scope: DeviationScope) throws {
        let golden = try Golden("dense.safetensors")
        let advantages = Advantages(rewards: try rewards(golden), deviation: scope)
        let places = Self.grid.count
        let expected = try golden.floats("advantages.image.\(scope.rawValue).0.0")
        let first = stride(from: 0, to: expected.count, by: places).map { expected[$0] }
        expectClose(advantages.values.flatMap { $0.map { Float($0) } }, first, relative: 1e-5)
        #expect(PolicySettings(fidelity: .fixed).patchCredit == nil && advantages.tokens == nil)
    }

    @Test("sum to zero over the group at every place", arguments: DeviationScope.allCases)
    func centred(scope: DeviationScope) throws {
        let golden = try Golden("dense.safetensors")
        let images = Advantages(rewards: try rewards(golden), deviation: scope)
        let tokens = TokenAdvantages(
            maps: try maps(golden, "maps"), grid: Self.grid, images: images.values,
            credit: PatchCredit(imageWeight: 1, patchWeight: 2, blur: 0.5), deviation: scope)
        for group in tokens.values {
            for place in 0..<Self.grid.count {
                let sum = (0..<Self.members).reduce(0) { $0 + group[$1 * Self.grid.count + place] }
                #expect(abs(sum) < 1e-12)
            }
        }
    }

    @Test(
        "log-probabilities, loss and the velocity's gradient agree with PyTorch",
        arguments: [StochasticStep.cps, .flowSDE], [AdvantageKind.patch, .both])
    func loss(step kind: StochasticStep, advantage: AdvantageKind) throws {
        let golden = try Golden("dense.safetensors")
        let name = kind == .cps ? "cps" : "sde"
        let sigmas = try golden.floats("step/sigmas")
        let step = FlowStep(0, of: sigmas, kind: kind, noiseLevel: Double(try golden.floats("step/noise_level")[0]))
        let (x, next) = (try golden.tensor("step/x"), try golden.tensor("\(name)/next"))
        let sampled = step.mean(x, velocity_BCHW: try golden.tensor("step/sampled_velocity"))
        let old = step.logProbability(of: next, mean: sampled, tokens: Self.grid)
        try expectClose(old, golden, "\(name)/old", relative: 1e-5)
        try expectClose(step.logProbability(of: next, mean: sampled), golden, "\(name)/old_image", relative: 1e-5)
        let limit: Float = 2
        let all = try golden.floats("advantages.\(advantage.rawValue).global.0.8")
        let size = Self.members * Self.grid.count
        let own = all[size..<2 * size].map { min(max($0, -limit), limit) }
        for weight in [0, 0.3] {
            var settings = PolicySettings(fidelity: .fixed)
            settings.clipRange = 0.02
            settings.klWeight = weight
            let velocity = try golden.tensor("step/velocity").tracked()
            let (perSample, statistics) = PolicyLoss(settings: settings)(
                step: step, mean: step.mean(x, velocity_BCHW: velocity), next: next, old: old, advantages: own,
                referenceMean: try golden.tensor("step/reference_mean"))
            let path = "\(name)/\(advantage.rawValue).\(weight == 0 ? "0.0" : "0.3")"
            try expectClose(perSample, golden, "\(path)/loss", relative: 1e-4)
            let gradient = perSample.mean().gradients()[velocity]
            try expectClose(gradient, golden, "\(path)/grad_velocity", relative: 1e-3)
            #expect(abs(statistics.clipFraction - (try golden.scalar("\(path)/clip_fraction"))) < 1e-6)
            #expect(statistics.count == Self.members)
            let mean = perSample.values.reduce(0) { $0 + Double($1) } / Double(Self.members)
            #expect(abs(statistics.loss - mean) < 1e-6)
        }
    }
}
