/// One epoch of Adv-GRPO, in the order of the paper, or of supervised steps. Where its work is done is the site's matter.
///
/// - Source: Adv-GRPO, arXiv 2511.20256, section 3 and figure 3. The supervised start: ours.
public struct Epoch: Sendable {
    /// Number, from 0.
    public let number: Int
    private let deviation: DeviationScope
    private let patches: PatchCredit?
    private let weights: [String: Double]?
    private let supervisedSteps: Range<Int>?

    /// - Parameters:
    ///   - number: from 0.
    ///   - deviation: what advantages are divided by.
    ///   - patches: how tokens are credited; nil where an image has one advantage.
    ///   - weights: of the reward's components where these are decoupled (`MethodSettings.decoupledWeights`).
    ///   - supervisedSteps: what it does instead of all else; nil where it rolls out.
    public init(
        _ number: Int, deviation: DeviationScope, patches: PatchCredit? = nil,
        decoupledBy weights: [String: Double]? = nil, supervisedSteps: Range<Int>? = nil
    ) {
        self.number = number
        self.deviation = deviation
        self.patches = patches
        self.weights = weights
        self.supervisedSteps = supervisedSteps
    }

    /// An epoch of a run with these settings.
    public init(_ number: Int, of method: MethodSettings) {
        self.init(
            number, deviation: method.policy.advantageStandardDeviation, patches: method.policy.patchCredit,
            decoupledBy: method.decoupledWeights, supervisedSteps: method.supervisedSteps(ofEpoch: number))
    }

    /// Runs the epoch. When it throws, the schedule is as before, and so is a site that is a value.
    ///
    /// - Returns: what it did.
    /// - Throws: what the site throws.
    public func run<Site: EpochSite>(at site: inout Site, schedule: inout Schedule) throws -> StepReport {
        var (next, nextSchedule) = (site, schedule)

        // Before all rollouts: the policy learns to draw the references as they are.
        if let steps = supervisedSteps {
            let report = StepReport(epoch: number, supervised: try next.learnReferences(steps))
            try next.publish(report)
            site = next
            return report
        }

        // Groups of images of one prompt each, sampled by the policy and scored by the discriminator as both are now.
        let groups = try next.collect(number)

        // Who learns: discriminator epochs first, then the policy; or both.
        let evidence = schedule.needsEvidence ? try next.compare(groups) : nil
        let plan = schedule.plan(evidence: evidence)

        // References against these images: the discriminator that the next epoch is scored by (eq. 12 to 14). It needs nothing of
        // the policy's update, so a site may do both at once.
        let discriminator = plan.trainsDiscriminator ? try next.trainDiscriminator(groups) : nil

        // Overlapped rollouts: the policy as it is now samples the next epoch while both players learn.
        try next.overlapNext(plan)

        // A_i = (r_i - mean of the prompt) / (std + 1e-4): each image against its siblings (eq. 1), or each of its patches.
        let advantages = Advantages(groups: groups, deviation: deviation, patches: patches, decoupledBy: weights)

        // max(-A ρ, -A clip(ρ)) over the window's steps, ρ = exp(ℓ_θ - ℓ_old); AdamW; average (eq. 2, 3, 5).
        let updates = plan.trainsPolicy ? try next.updatePolicy(groups, advantages) : []

        // Both players' new versions sample and score what comes next.
        let areaUnderCurve = try discriminator?()
        nextSchedule.record(plan, areaUnderCurve: areaUnderCurve)
        let report = StepReport(
            epoch: number, plan: plan, advantages: advantages, updates: updates,
            discriminatorAreaUnderCurve: areaUnderCurve)
        try next.publish(report)
        (site, schedule) = (next, nextSchedule)
        return report
    }
}

/// Where an epoch's work is done: on a cluster, in one process, on an engine that only notes memory.
public protocol EpochSite {
    /// A scored group as the site knows it: its trajectory may be elsewhere.
    associatedtype Group: RewardedGroup

    /// Samples the epoch's groups and has them scored.
    ///
    /// - Returns: the groups in the order of their coordinates, all sampled by one policy and scored by one discriminator.
    mutating func collect(_ epoch: Int) throws -> [Group]

    /// Mean rewards of the groups' references and images under the current discriminator, for the schedule `trigger`.
    mutating func compare(_ groups: [Group]) throws -> Schedule.Evidence

    /// Begins to train the discriminator on the groups' images.
    ///
    /// - Returns: waits for the training's end; the area under the ROC curve, on held-out images, of the version that scored them.
    mutating func trainDiscriminator(_ groups: [Group]) throws -> () throws -> Double

    /// With overlapped rollouts: lets the next epoch be sampled from now on.
    mutating func overlapNext(_ plan: EpochPlan) throws

    /// Moves the policy by the groups' advantages.
    ///
    /// - Returns: one report an optimiser step.
    mutating func updatePolicy(_ groups: [Group], _ advantages: Advantages) throws -> [PolicyUpdateReport]

    /// Moves the policy by supervised steps on the references.
    ///
    /// - Parameter steps: their numbers from the run's start.
    /// - Returns: one report a step.
    mutating func learnReferences(_ steps: Range<Int>) throws -> [SupervisedReport]

    /// Ends the epoch: what moved becomes what the next one is sampled and scored with, and what happened is recorded.
    mutating func publish(_ report: StepReport) throws
}

extension EpochSite {
    /// Nothing: epochs follow each other.
    public mutating func overlapNext(_ plan: EpochPlan) {}
}

/// What an epoch did, for metrics.
public struct StepReport: Sendable, Equatable {
    /// Number, from 0.
    public let epoch: Int
    /// Who learned.
    public let plan: EpochPlan
    /// Advantages and the reward's statistics; nil for an epoch without rollouts.
    public let advantages: Advantages?
    /// One an optimiser step of the policy on rollouts.
    public let updates: [PolicyUpdateReport]
    /// One a supervised step.
    public let supervised: [SupervisedReport]
    /// Of the version that scored this epoch; nil when it was not measured.
    public let discriminatorAreaUnderCurve: Double?

    init(
        epoch: Int, plan: EpochPlan, advantages: Advantages, updates: [PolicyUpdateReport],
        discriminatorAreaUnderCurve: Double?
    ) {
        self.epoch = epoch
        self.plan = plan
        self.advantages = advantages
        self.updates = updates
        self.supervised = []
        self.discriminatorAreaUnderCurve = discriminatorAreaUnderCurve
    }

    init(epoch: Int, supervised: [SupervisedReport]) {
        self.epoch = epoch
        self.plan = EpochPlan(trainsDiscriminator: false, trainsPolicy: true)
        self.advantages = nil
        self.updates = []
        self.supervised = supervised
        self.discriminatorAreaUnderCurve = nil
    }

    /// Statistics over all updates.
    public var policy: PolicyStatistics { updates.reduce(PolicyStatistics()) { $0 + $1.statistics } }
    /// What the epoch was for, in a word or two.
    public var phase: String {
        supervised.isEmpty ? plan.trainsPolicy ? "training" : "warming up" : "supervised start"
    }
    /// Mean norm of the gradients before clipping; nil where the policy did not learn.
    public var gradientNorm: Double? { mean(updates.map(\.gradientNorm) + supervised.map(\.gradientNorm)) }
    /// Mean loss of the supervised steps; nil where there are none.
    public var supervisedLoss: Double? { mean(supervised.map(\.loss)) }

    private func mean(_ values: [Double]) -> Double? {
        values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
    }
}
