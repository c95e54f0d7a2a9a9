import AdvGRPO
import TensorCore
import TestSupport
import Testing

@Suite("advantages")
struct AdvantagesTests {
    @Test("agree with NumPy", arguments: ["plain", "shuffled", "outlier"])
    func golden(name: String) throws {
        let golden = try Golden("flow.safetensors")
        let rewards = try golden.floats("advantage.\(name)/rewards")
        let groups = try golden.integers("advantage.\(name)/groups")
        let members = Set(groups).sorted().map { group in groups.indices.filter { groups[$0] == group } }
        for scope in DeviationScope.allCases {
            let advantages = Advantages(rewards: members.map { $0.map { rewards[$0] } }, deviation: scope)
            var flat = [Float](repeating: 0, count: rewards.count)
            for (group, indices) in members.enumerated() {
                for (member, index) in indices.enumerated() { flat[index] = Float(advantages.values[group][member]) }
            }
            expectClose(flat, try golden.floats("advantage.\(name)/\(scope.rawValue)"), "\(scope)")
            let ratio = try golden.scalar("advantage.\(name)/zero_deviation_ratio")
            #expect(abs(advantages.zeroDeviationRatio - ratio) < 1e-7)
            let deviation = try golden.scalar("advantage.\(name)/mean_group_deviation")
            #expect(abs(advantages.meanGroupDeviation - deviation) < 1e-6)
        }
    }

    @Test("sum to zero in every group", arguments: DeviationScope.allCases)
    func centred(scope: DeviationScope) {
        let rewards = (0..<6).map { group in normals(16, group).map { $0 * 3 + Float(group) } }
        let advantages = Advantages(rewards: rewards, deviation: scope)
        for group in advantages.values { #expect(abs(group.reduce(0, +)) < 1e-12) }
    }

    @Test("equal rewards give zero advantage")
    func equal() {
        let advantages = Advantages(rewards: [[0.5, 0.5, 0.5], [1, 1, 1]], deviation: .group)
        #expect(advantages.values == [[0, 0, 0], [0, 0, 0]])
        #expect(advantages.zeroDeviationRatio == 1)
    }

    /// Two rewards of two groups of two. By hand, with e = 1e-4: the first component differs in group 0 only, by 1 deviation of 1;
    /// the second in group 1 only, by 1 deviation of 2.
    private let parts: [(weight: Double, rewards: [[Float]])] = [(1, [[0, 2], [1, 1]]), (3, [[1, 1], [0, 4]])]

    @Test("decoupled, each reward has its own advantage, and their weighted sum is divided by its deviation")
    func decoupled() {
        let sums: [[Float]] = [[3, 5], [1, 13]]
        let advantages = Advantages(rewards: sums, deviation: .group, decoupled: parts)
        let (a, b) = (1 / 1.0001, 3 * 2 / 2.0001)
        let deviation = ((a * a + b * b) / 2).squareRoot() + 1e-4
        func check(_ advantages: Advantages, _ expected: [Double]) {
            for (values, expected) in zip(advantages.values, expected) {
                #expect(abs(values[0] + expected) < 1e-8 && abs(values[1] - expected) < 1e-8)
            }
        }
        check(advantages, [a / deviation, b / deviation])
        // NumPy: (r - r.mean(1)) / (r.std(1) + 1e-4) of each, weighted, added up, divided by std() + 1e-4 of all.
        check(advantages, [0.44717347, 1.34158749])
        // The same with r.std() of the epoch: the roots of 0.5 and of 2.25.
        check(Advantages(rewards: sums, deviation: .global, decoupled: parts), [0.47135749, 1.33329996])
        // Figures of the reward stay the weighted sum's.
        #expect(advantages.rewardMean == 5.5 && advantages.zeroDeviationRatio == 0)
        #expect(Advantages(rewards: sums, deviation: .group).values[0][1] < 1.0001)
    }

    @Test("decoupled, two rewards that agree count twice what one does; of their sum nothing is left of that")
    func collapse() {
        let one: [[Float]] = [[0, 1], [0, 1]]
        let other: [[Float]] = [[0, 0], [0, 1]]
        let sums: [[Float]] = [[0, 1], [0, 2]]
        let together = Advantages(rewards: sums, deviation: .group)
        #expect(abs(together.values[0][1] - together.values[1][1]) < 1e-3)
        let apart = Advantages(rewards: sums, deviation: .group, decoupled: [(1, one), (1, other)])
        #expect(abs(apart.values[1][1] / apart.values[0][1] - 2) < 1e-12)
    }

    @Test("decoupled, a group teaches nothing when all of its components are equal, and only then")
    func decoupledEqual() {
        let cancelling = Advantages(
            rewards: [[1, 1], [1, 1]], deviation: .group,
            decoupled: [(1, [[0, 1], [1, 1]]), (1, [[1, 0], [0, 0]])])
        #expect(cancelling.zeroDeviationRatio == 0.5)
        #expect(cancelling.values[1] == [0, 0])
    }

    @Test("groups name their components, and settings the weights")
    func names() {
        let sums: [[Float]] = [[3, 5], [1, 13]]
        let trajectory = Trajectory(
            stepIndices: [0], latents: engine.zeros([2, 2, 1, 1, 1]), logProbabilities: engine.zeros([2, 1]))
        let groups = (0..<2).map { index in
            ScoredGroup(
                group: GroupID(epoch: 0, index: index), prompt: toyPrompt, trajectory: trajectory, rewards: sums[index],
                components: ["b": parts[1].rewards[index], "a": parts[0].rewards[index], "uncounted": [9, 0]])
        }
        let named = Advantages(groups: groups, deviation: .group, patches: nil, decoupledBy: ["a": 1, "b": 3])
        #expect(named == Advantages(rewards: sums, deviation: .group, decoupled: parts))
        #expect(
            Advantages(groups: groups, deviation: .group, patches: nil) == Advantages(rewards: sums, deviation: .group))

        var method = MethodSettings()
        #expect(method.decoupledWeights == nil)
        method.policy.advantageNormalization = .decoupled
        method.reward.weights[.texture] = 0.5
        var process = RewardProcess()
        (process.endpoint, process.weight) = ("ipc:///p", 2)
        method.rewardProcesses = ["redness": process]
        #expect(method.decoupledWeights == ["dino_patch": 1, "texture": 0.5, "redness": 2])
        #expect(method.validate().isEmpty)
        method.policy.advantage = .both
        #expect(method.validate().map(\.path) == ["policy.advantageNormalization"])
    }

    @Test("are clamped in the loss only")
    func clamped() {
        var rewards = [Float](repeating: 0, count: 64)
        rewards[3] = 1
        let advantages = Advantages(rewards: [rewards], deviation: .group)
        #expect(advantages.values[0][3] > 7)
        #expect(advantages.clamped(0, to: 5)[3] == 5)
    }
}
