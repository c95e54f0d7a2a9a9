/// Rewards of one epoch, relative to the other images of the same prompt.
///
/// A_i = (r_i - mean_p) / (std + 1e-4): the mean is the prompt's, the population standard deviation (ddof 0) that of all
/// rewards of the epoch (`global`) or of the prompt's (`group`). Computed in double precision; nothing is kept from one epoch to
/// the next; the same A serves every window step.
///
/// Decoupled, each component k of the reward has an A of its own, and A_i = Σ_k w_k A_ik / (std + 1e-4), the deviation being that
/// of these sums over the epoch: what one component says is not drowned by the spread of another. The sums' mean is 0 already.
///
/// - Source: paper eq. 1; Adv-GRPO@8287f90 `stat_tracking.py`. Difference: groups are told apart by identity, not by decoded text.
///   Decoupled: GDPO, arXiv 2601.05242.
public struct Advantages: Sendable, Equatable {
    /// One list a group, members in order; not clamped.
    public let values: [[Double]]
    /// Mean and population standard deviation of all rewards.
    public let rewardMean: Double, rewardDeviation: Double
    /// Mean of the groups' own deviations.
    public let meanGroupDeviation: Double
    /// Share of groups whose rewards are all equal, decoupled those of every component: nothing can be learned from them.
    public let zeroDeviationRatio: Double
    /// Of every token; nil where an image has one advantage.
    public private(set) var tokens: TokenAdvantages?

    /// Offset of the denominator.
    public static let epsilon = 1e-4

    /// - Parameters:
    ///   - rewards: one list a group; no group is empty.
    ///   - scope: whose deviation divides.
    ///   - components: decoupled, each with its weight, as `rewards`; nil normalises their weighted sum, `rewards`.
    public init(
        rewards: [[Float]], deviation scope: DeviationScope,
        decoupled components: [(weight: Double, rewards: [[Float]])]? = nil
    ) {
        precondition(!rewards.isEmpty && rewards.allSatisfy { !$0.isEmpty }, "advantages: an empty group")
        let groups = rewards.map { $0.map(Double.init) }
        let all = Moments(groups.flatMap { $0 })
        let perGroup = groups.map(Moments.init)
        let parts = components.map { $0.map { (weight: $0.weight, groups: $0.rewards.map { $0.map(Double.init) }) } }
        precondition(
            parts.map { !$0.isEmpty && $0.allSatisfy { $0.groups.map(\.count) == groups.map(\.count) } } ?? true,
            "advantages: no component, or one of other groups")
        values =
            parts.map { Self.decoupled($0, scope) } ?? Self.normalized(groups, perGroup, all.deviation, scope)
        rewardMean = all.mean
        rewardDeviation = all.deviation
        meanGroupDeviation = Moments(perGroup.map(\.deviation)).mean
        let equal = groups.indices.count { index in
            (parts?.map { $0.groups[index] } ?? [groups[index]]).allSatisfy { Set($0).count == 1 }
        }
        zeroDeviationRatio = Double(equal) / Double(groups.count)
    }

    private static func normalized(
        _ groups: [[Double]], _ perGroup: [Moments], _ all: Double, _ scope: DeviationScope
    ) -> [[Double]] {
        zip(groups, perGroup).map { group, moments in
            let deviation = scope == .global ? all : moments.deviation
            return group.map { ($0 - moments.mean) / (deviation + epsilon) }
        }
    }

    private static func decoupled(
        _ parts: [(weight: Double, groups: [[Double]])], _ scope: DeviationScope
    ) -> [[Double]] {
        let advantages = parts.map { _, groups in
            normalized(groups, groups.map(Moments.init), Moments(groups.flatMap { $0 }).deviation, scope)
        }
        let sums = parts[0].groups.indices.map { group in
            parts[0].groups[group].indices.map { member in
                zip(parts, advantages).reduce(0) { $0 + $1.0.weight * $1.1[group][member] }
            }
        }
        let deviation = Moments(sums.flatMap { $0 }).deviation
        return sums.map { $0.map { $0 / (deviation + epsilon) } }
    }

    /// Of scored groups: of their images, or of these images' tokens.
    ///
    /// - Parameters:
    ///   - scope: whose deviation divides.
    ///   - credit: how tokens are credited; nil where an image has one advantage.
    ///   - weights: of the components, by name, where these are decoupled; else nil.
    /// - Precondition: with `credit` every group has reward maps and log-probabilities of tokens, all of one grid; with
    ///   `weights` every group has these components.
    public init(
        groups: [some RewardedGroup], deviation scope: DeviationScope, patches credit: PatchCredit?,
        decoupledBy weights: [String: Double]? = nil
    ) {
        self.init(
            rewards: groups.map(\.rewards), deviation: scope,
            decoupled: weights?.sorted { $0.key < $1.key }.map { name, weight in
                (
                    weight,
                    groups.map { group in
                        guard let values = group.components[name] else {
                            preconditionFailure("advantages: group \(group.group) without component \(name)")
                        }
                        return values
                    }
                )
            })
        guard let credit else { return }
        let maps = groups.compactMap(\.maps)
        let grids = groups.compactMap(\.tokens)
        guard maps.count == groups.count, grids.count == groups.count, grids.allSatisfy({ $0 == grids[0] }) else {
            preconditionFailure("advantages of tokens: \(maps.count) maps, grids \(grids), \(groups.count) groups")
        }
        tokens = TokenAdvantages(maps: maps, grid: grids[0], images: values, credit: credit, deviation: scope)
    }

    /// Given advantages, for tests of what follows them.
    init(values: [[Double]]) {
        self.values = values
        (rewardMean, rewardDeviation, meanGroupDeviation, zeroDeviationRatio) = (0, 0, 0, 0)
    }

    /// A of a group as the loss uses it, within ±`bound`, fp32: one a member, or one a token of each, row by row.
    public func clamped(_ group: Int, to bound: Double) -> [Float] {
        (tokens?.values[group] ?? values[group]).map { Float(min(max($0, -bound), bound)) }
    }
}

/// Mean and population standard deviation in double precision, summed in order.
struct Moments: Sendable, Equatable {
    let mean: Double
    let deviation: Double

    init(_ values: [Double]) {
        let count = Double(values.count)
        let mean = values.reduce(0, +) / count
        self.mean = mean
        deviation = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count).squareRoot()
    }
}
