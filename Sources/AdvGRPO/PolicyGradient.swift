public import NeuralNetworks

/// A group whose members have advantages: all that its gradient is made of, beside the policy.
public struct CreditedGroup: Sendable {
    /// Which group.
    public let group: GroupID
    /// Conditioning of its prompt.
    public let prompt: PromptConditioning
    /// Window latents and log-probabilities of all members.
    public let trajectory: Trajectory
    /// As the loss uses them: clamped, one a member, or one a token of each member, row by row.
    public let advantages: [Float]

    /// - Precondition: an advantage for every member or token.
    public init(group: GroupID, prompt: PromptConditioning, trajectory: Trajectory, advantages: [Float]) {
        precondition(
            advantages.count == trajectory.memberCount * (trajectory.tokens?.count ?? 1),
            "group \(group): \(advantages.count) advantages")
        self.group = group
        self.prompt = prompt
        self.trajectory = trajectory
        self.advantages = advantages
    }

    /// Those of some members.
    func advantages(of members: Range<Int>) -> [Float] {
        let count = advantages.count / trajectory.memberCount
        return Array(advantages[members.lowerBound * count..<members.upperBound * count])
    }
}

/// A group's part of an optimiser step: the gradient of its loss, summed over its pieces in their order.
public struct GroupGradient: Sendable {
    /// fp32, by the names of the trained parameters.
    public var gradient: Parameters
    /// Ratios, clipping, loss.
    public var statistics: PolicyStatistics

    /// Both.
    public init(gradient: Parameters, statistics: PolicyStatistics) {
        self.gradient = gradient
        self.statistics = statistics
    }
}

/// Adds up the groups' gradients of one optimiser step, in the order of the groups, wherever they were made, and steps.
public struct PolicyFold {
    private let settings: PolicySettings
    private var sum: Parameters?
    private var statistics = PolicyStatistics()
    private var count = 0
    private var halves: GradientHalves?

    /// Of a step over so many groups.
    init(_ settings: PolicySettings, groupCount: Int) {
        self.settings = settings
        // Another copy of the gradient, which only an adapter's is small enough for.
        halves = settings.adapter == .lora && groupCount > 1 ? GradientHalves() : nil
    }

    /// Adds the next group's.
    public mutating func add(_ group: GroupGradient) {
        if count.isMultiple(of: 2) { halves?.add(group.gradient) }
        sum = sum?.adding(group.gradient) ?? group.gradient
        statistics = statistics + group.statistics
        count += 1
    }

    /// Σ over the groups, and their statistics.
    ///
    /// - Precondition: a group was added.
    func total() -> GroupGradient {
        guard let sum else { preconditionFailure("an optimiser step without groups") }
        var statistics = statistics
        if let cosine = halves?.cosine(in: sum) { statistics.note(halves: cosine) }
        return GroupGradient(gradient: sum, statistics: statistics)
    }

    /// Moves the policy along what was added.
    ///
    /// - Parameter subject: what was added, for the message.
    /// - Throws: `NumericalFailure` for a gradient that is not finite; `state` is then unchanged.
    /// - Precondition: a group was added.
    public func descend(
        _ state: inout PolicyState, _ subject: @autoclosure () -> String
    ) throws(NumericalFailure) -> PolicyUpdateReport {
        let total = total()
        let norm = try state.descend(
            along: total.gradient, maximumNorm: settings.maximumGradientNorm, subject())
        return PolicyUpdateReport(statistics: total.statistics, gradientNorm: norm)
    }
}
