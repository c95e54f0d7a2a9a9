import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("policy update")
struct PolicyUpdateTests {
    private let parameters = Parameters(["weight": toyWeight])
    private let policy = TrainablePolicy(
        velocity: { parameters in
            guard let weight = parameters["weight"] else { preconditionFailure("no weight") }
            return toyVelocity(weight)
        }, reference: toyVelocity(toyWeight * 0.5))

    private func settings(_ change: (inout PolicySettings) -> Void = { _ in }) -> PolicySettings {
        var settings = PolicySettings(fidelity: .fixed)
        settings.learningRate = 0.01
        change(&settings)
        return settings
    }

    /// Reward: how small the image is.
    private func groups(_ rollout: Rollout, count: Int, epoch: Int, weight: Tensor, chunk: Int) throws -> [ScoredGroup]
    {
        try (0..<count).map { index in
            let group = GroupID(epoch: epoch, index: index)
            let sample = try rollout.sample(
                group, prompt: toyPrompt, engine: engine, chunks: Chunks(size: chunk), lanes: Lanes(count: 1),
                velocity: toyVelocity(weight))
            let rewards = sample.finalLatents_BCHW.activated(.square).meanPerSample().values.map { -$0 }
            return ScoredGroup(group: group, prompt: toyPrompt, trajectory: sample.trajectory, rewards: rewards)
        }
    }

    private func advantages(_ groups: [ScoredGroup]) -> Advantages {
        Advantages(rewards: groups.map(\.rewards), deviation: .global)
    }

    @Test(
        "ratio is exactly 1 in the first update of an epoch and moves in the second", arguments: StochasticStep.allCases
    )
    func ratio(kind: StochasticStep) throws {
        let rollout = try toyRollout { $0.sde = kind }
        let groups = try groups(rollout, count: 4, epoch: 0, weight: toyWeight, chunk: 4)
        let update = PolicyUpdate(settings: settings(), rollout: rollout, chunks: Chunks(size: 4))
        var state = PolicyState(parameters: parameters, settings: update.settings)
        let reports = try update(
            &state, groups: groups, advantages: advantages(groups), policy: policy, lanes: Lanes(count: 2))
        #expect(reports.count == 2)
        #expect(reports[0].statistics.smallestRatio == 1 && reports[0].statistics.largestRatio == 1)
        #expect(reports[0].statistics.clipFraction == 0 && reports[0].statistics.approximateKL == 0)
        #expect(reports[1].statistics.clipFraction > 0.5)
        #expect(reports[0].statistics.count == 2 * 6 * 2)
        #expect(state.optimizer.updateCount == 2 && state.average.updateCount == 2)
    }

    @Test("the number of threads changes no bit", arguments: [2, 3, 5])
    func threads(count: Int) throws {
        let rollout = try toyRollout()
        let groups = try groups(rollout, count: 3, epoch: 0, weight: toyWeight, chunk: 2)
        let update = PolicyUpdate(settings: settings { $0.klWeight = 0.1 }, rollout: rollout, chunks: Chunks(size: 2))
        func run(_ lanes: Int) throws -> PolicyState {
            var state = PolicyState(parameters: parameters, settings: update.settings)
            _ = try update(
                &state, groups: groups, advantages: advantages(groups), policy: policy, lanes: Lanes(count: lanes))
            return state
        }
        let (one, many) = (try run(1), try run(count))
        #expect(one.parameters["weight"]?.values == many.parameters["weight"]?.values)
        #expect(one.optimizer.secondMoment["weight"]?.values == many.optimizer.secondMoment["weight"]?.values)
    }

    @Test("the gradient is that of the mean loss over all samples and window steps", arguments: [1, 4, 6])
    func gradient(chunk: Int) throws {
        let rollout = try toyRollout()
        let groups = try groups(rollout, count: 2, epoch: 0, weight: toyWeight * 1.02, chunk: 6)
        let advantages = advantages(groups)
        let update = PolicyUpdate(
            settings: settings {
                $0.clipRange = 0.2
                $0.klWeight = 0.3
            }, rollout: rollout, chunks: Chunks(size: chunk))
        let lanes = Lanes(count: 1)
        func evaluate(_ weight: Tensor) -> (Parameters, PolicyStatistics) {
            let total = update.fold(
                update.credited(groups, advantages)[...], at: policy.tracked(at: Parameters(["weight": weight])),
                lanes: lanes
            ).total()
            return (total.gradient, total.statistics)
        }
        let gradient = try #require(evaluate(toyWeight).0["weight"]).values
        let step: Float = 2e-3
        let numeric = toyWeight.values.indices.map { index in
            var values = toyWeight.values
            values[index] += step
            let above = evaluate(engine.tensor(values, shape: [18])).1.loss
            values[index] -= 2 * step
            let below = evaluate(engine.tensor(values, shape: [18])).1.loss
            return Float((above - below) / Double(2 * step))
        }
        expectClose(gradient, numeric, relative: 2e-2, "gradient")
    }

    @Test("groups are divided in order, evenly, without empty parts")
    func partition() throws {
        let update = PolicyUpdate(
            settings: settings { $0.updatesPerEpoch = 3 }, rollout: try toyRollout(), chunks: Chunks(size: 2))
        #expect(update.partition(6) == [0..<2, 2..<4, 4..<6])
        #expect(update.partition(7) == [0..<2, 2..<4, 4..<7])
        #expect(update.partition(2) == [0..<1, 1..<2])
    }

    @Test("a gradient that is not finite leaves the policy as it was")
    func divergence() throws {
        let rollout = try toyRollout()
        let groups = try groups(rollout, count: 2, epoch: 0, weight: toyWeight, chunk: 6)
        let update = PolicyUpdate(settings: settings(), rollout: rollout, chunks: Chunks(size: 6))
        var state = PolicyState(parameters: parameters, settings: update.settings)
        let broken = TrainablePolicy { parameters in
            let velocity = policy.velocity(parameters)
            return { velocity($0, $1, $2) * .infinity }
        }
        #expect(throws: NumericalFailure.self) {
            try update(&state, groups: groups, advantages: advantages(groups), policy: broken, lanes: Lanes(count: 1))
        }
        #expect(state.optimizer.updateCount == 0)
        #expect(state.parameters["weight"]?.values == toyWeight.values)
    }

    @Test("a policy rewarded for small images makes them smaller")
    func learns() throws {
        let rollout = try toyRollout { $0.groupSize = 16 }
        let update = PolicyUpdate(settings: settings(), rollout: rollout, chunks: Chunks(size: 8))
        var state = PolicyState(parameters: parameters, settings: update.settings)
        var means: [Double] = []
        for epoch in 0..<25 {
            guard let weight = state.parameters["weight"] else { preconditionFailure("no weight") }
            let groups = try groups(rollout, count: 4, epoch: epoch, weight: weight, chunk: 8)
            let advantages = advantages(groups)
            means.append(advantages.rewardMean)
            _ = try update(&state, groups: groups, advantages: advantages, policy: policy, lanes: Lanes(count: 2))
        }
        let (early, late) = (means.prefix(5).reduce(0, +) / 5, means.suffix(5).reduce(0, +) / 5)
        #expect(late > early + 0.1, "\(means)")
    }
}
