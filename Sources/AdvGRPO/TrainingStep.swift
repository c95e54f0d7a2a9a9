public import TensorCore

/// One epoch of the method, in the order of the paper.
///
/// group -> rewards -> advantages -> policy loss -> update -> discriminator update -> publish. Rollouts and scores happen
/// elsewhere and arrive as `ScoredGroup`s; the discriminator is trained by whoever owns it; both are functions here.
///
/// - Source: Adv-GRPO, arXiv 2511.20256, section 3 and figure 3.
public struct TrainingStep: Sendable {
    /// Advantages, loss, optimiser.
    public let update: PolicyUpdate
    /// Which player learns when.
    public private(set) var schedule: Schedule

    /// An epoch's procedure.
    public init(update: PolicyUpdate, schedule: Schedule) {
        self.update = update
        self.schedule = schedule
    }

    /// Runs one epoch on its scored groups. When it throws, policy and schedule are as before.
    ///
    /// A learner whose discriminator lives in another process calls the three parts itself and waits between them.
    ///
    /// - Parameters: as of `trainPolicy`.
    ///   - trainDiscriminator: trains it on the images of these groups and returns the area under the ROC curve, on held-out
    ///     images, of the version that scored them.
    public mutating func run(
        epoch: Int, groups: [ScoredGroup], state: inout PolicyState, policy: TrainablePolicy, lanes: Lanes,
        evidence: Schedule.Evidence? = nil, trainDiscriminator: ([GroupID]) throws -> Double
    ) throws -> StepReport {
        var next = state
        var report = try trainPolicy(
            epoch: epoch, groups: groups, state: &next, policy: policy, lanes: lanes, evidence: evidence)

        // References against these images: the discriminator that the next epoch is scored by (eq. 12 to 14).
        if report.plan.trainsDiscriminator {
            report.discriminatorAreaUnderCurve = try trainDiscriminator(groups.map(\.group))
        }
        state = next
        finish(report)
        return report
    }

    /// The first part: who learns, advantages, and the policy's updates if it does. When it throws, `state` is as before.
    ///
    /// - Parameters:
    ///   - epoch: number, from 0.
    ///   - groups: in the order of their coordinates, all sampled by `state`'s weights and scored by one discriminator.
    ///   - state: the policy; its next version afterwards, if this epoch trains it.
    ///   - policy: its velocity.
    ///   - evidence: mean rewards of references and generated images, for the schedule `trigger`.
    ///   - progress: called with the number of pieces done and the total.
    public func trainPolicy(
        epoch: Int, groups: [ScoredGroup], state: inout PolicyState, policy: TrainablePolicy, lanes: Lanes,
        evidence: Schedule.Evidence? = nil, progress: (Int, Int) -> Void = { _, _ in }
    ) throws -> StepReport {
        // Who learns: discriminator epochs first, then the policy; or both.
        let plan = schedule.plan(epoch: epoch, evidence: evidence)

        // A_i = (r_i - mean of the prompt) / (std + 1e-4): each image against its siblings (eq. 1).
        let advantages = Advantages(
            rewards: groups.map(\.rewards), deviation: update.settings.advantageStandardDeviation)

        // max(-A ρ, -A clip(ρ)) over the window's steps, ρ = exp(ℓ_θ - ℓ_old); AdamW; average (eq. 2, 3, 5).
        let updates =
            plan.trainsPolicy
            ? try update(
                &state, groups: groups, advantages: advantages, policy: policy, lanes: lanes, progress: progress) : []
        return StepReport(epoch: epoch, plan: plan, advantages: advantages, updates: updates)
    }

    /// The last part, once the discriminator was trained where the plan says so: the schedule moves on.
    public mutating func finish(_ report: StepReport) {
        schedule.record(report.plan, areaUnderCurve: report.discriminatorAreaUnderCurve)
    }
}

/// What an epoch did, for metrics.
public struct StepReport: Sendable, Equatable {
    /// Number, from 0.
    public let epoch: Int
    /// Who learned.
    public let plan: EpochPlan
    /// Advantages and the reward's statistics.
    public let advantages: Advantages
    /// One an optimiser step of the policy.
    public let updates: [PolicyUpdateReport]
    /// Of the version that scored this epoch; nil when it was not measured.
    public var discriminatorAreaUnderCurve: Double?

    /// Statistics over all updates.
    public var policy: PolicyStatistics { updates.reduce(PolicyStatistics()) { $0 + $1.statistics } }
    /// Mean norm of the updates' gradients before clipping.
    public var gradientNorm: Double {
        updates.isEmpty ? 0 : updates.reduce(0) { $0 + $1.gradientNorm } / Double(updates.count)
    }
}
