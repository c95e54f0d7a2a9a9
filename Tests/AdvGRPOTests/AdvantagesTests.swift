import AdvGRPO
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

    @Test("are clamped in the loss only")
    func clamped() {
        var rewards = [Float](repeating: 0, count: 64)
        rewards[3] = 1
        let advantages = Advantages(rewards: [rewards], deviation: .group)
        #expect(advantages.values[0][3] > 7)
        #expect(advantages.clamped(0, to: 5)[3] == 5)
    }
}
