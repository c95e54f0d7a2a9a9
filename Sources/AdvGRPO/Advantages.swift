/// Rewards of one epoch, relative to the other images of the same prompt.
///
/// A_i = (r_i - mean_p) / (std + 1e-4): the mean is the prompt's, the population standard deviation (ddof 0) that of all
/// rewards of the epoch (`global`) or of the prompt's (`group`). Computed in double precision; nothing is kept from one epoch to
/// the next; the same A serves every window step.
///
/// - Source: paper eq. 1; Adv-GRPO@8287f90 `stat_tracking.py`. Difference: groups are told apart by identity, not by decoded text.
public struct Advantages: Sendable, Equatable {
    /// One list a group, members in order; not clamped.
    public let values: [[Double]]
    /// Mean and population standard deviation of all rewards.
    public let rewardMean: Double, rewardDeviation: Double
    /// Mean of the groups' own deviations.
    public let meanGroupDeviation: Double
    /// Share of groups whose rewards are all equal: nothing can be learned from them.
    public let zeroDeviationRatio: Double
    /// Of every token; nil where an image has one advantage.
    public private(set) var tokens: TokenAdvantages?

    /// Offset of the denominator.
    public static let epsilon = 1e-4

    /// - Parameters:
    ///   - rewards: one list a group; no group is empty.
    ///   - scope: whose deviation divides.
    public init(rewards: [[Float]], deviation scope: DeviationScope) {
        precondition(!rewards.isEmpty && rewards.allSatisfy { !$0.isEmpty }, "advantages: an empty group")
        let groups = rewards.map { $0.map(Double.init) }
        let all = Moments(groups.flatMap { $0 })
        let perGroup = groups.map(Moments.init)
        values = zip(groups, perGroup).map { group, moments in
            let deviation = scope == .global ? all.deviation : moments.deviation
            return group.map { ($0 - moments.mean) / (deviation + Self.epsilon) }
        }
        rewardMean = all.mean
        rewardDeviation = all.deviation
        meanGroupDeviation = Moments(perGroup.map(\.deviation)).mean
        zeroDeviationRatio = Double(groups.count { Set($0).count == 1 }) / Double(groups.count)
    }

    /// Of scored groups: of their images, or of these images' tokens.
    ///
    /// - Parameters:
    ///   - scope: whose deviation divides.
    ///   - credit: how tokens are credited; nil where an image has one advantage.
    /// - Precondition: with `credit` every group has reward maps and log-probabilities of tokens, all of one grid.
    public init(groups: [ScoredGroup], deviation scope: DeviationScope, patches credit: PatchCredit?) {
        self.init(rewards: groups.map(\.rewards), deviation: scope)
        guard let credit else { return }
        let maps = groups.compactMap(\.maps)
        let grids = groups.compactMap(\.trajectory.tokens)
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

    /// A of a group as the loss uses it: within ±`bound`, fp32.
    public func clamped(_ group: Int, to bound: Double) -> [Float] {
        values[group].map { Float(min(max($0, -bound), bound)) }
    }

    /// A of some members as the loss uses it: one a member, or one a token of each, row by row.
    func clamped(_ group: Int, members: Range<Int>, to bound: Double) -> [Float] {
        guard let tokens else { return Array(clamped(group, to: bound)[members]) }
        let count = tokens.grid.count
        return tokens.values[group][members.lowerBound * count..<members.upperBound * count].map {
            Float(min(max($0, -bound), bound))
        }
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
