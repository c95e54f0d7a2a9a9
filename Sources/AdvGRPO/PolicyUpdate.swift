public import NeuralNetworks
public import TensorCore

/// The policy under training, as functions of its trained parameters.
public struct TrainablePolicy: Sendable {
    /// Trained parameters -> velocity. Tracked parameters make a tracked velocity.
    public let velocity: @Sendable (Parameters) -> VelocityFunction
    /// The velocity without adapter, from which the KL term measures; nil where there is none.
    public let reference: VelocityFunction?

    /// Both functions.
    public init(velocity: @escaping @Sendable (Parameters) -> VelocityFunction, reference: VelocityFunction? = nil) {
        self.velocity = velocity
        self.reference = reference
    }
}

/// What advantages are made of, wherever the group's trajectory is.
public protocol RewardedGroup: Sendable {
    /// Which group.
    var group: GroupID { get }
    /// One a member.
    var rewards: [Float] { get }
    /// What the rewards are sums of, by name, one a member.
    var components: [String: [Float]] { get }
    /// Where in the images the rewards come from; nil where an image has one advantage.
    var maps: RewardMaps? { get }
    /// Places of the tokens that have log-probabilities of their own; nil where an image has one.
    var tokens: PatchGrid? { get }
}

/// One scored group as the policy update consumes it.
public struct ScoredGroup: Sendable {
    /// Which group.
    public let group: GroupID
    /// Conditioning of its prompt.
    public let prompt: PromptConditioning
    /// Window latents and log-probabilities of all members.
    public let trajectory: Trajectory
    /// One a member.
    public let rewards: [Float]
    /// What the rewards are sums of, by name, one a member.
    public let components: [String: [Float]]
    /// Where in the images the rewards come from; nil where an image has one advantage.
    public let maps: RewardMaps?

    /// - Precondition: one reward a member, and one map where there are maps.
    public init(
        group: GroupID, prompt: PromptConditioning, trajectory: Trajectory, rewards: [Float],
        components: [String: [Float]] = [:], maps: RewardMaps? = nil
    ) {
        precondition(rewards.count == trajectory.memberCount, "group \(group): \(rewards.count) rewards")
        precondition(
            maps.map { $0.values.count == rewards.count } ?? true,
            "group \(group): \(maps?.values.count ?? 0) reward maps")
        self.components = components
        self.maps = maps
        self.group = group
        self.prompt = prompt
        self.trajectory = trajectory
        self.rewards = rewards
    }
}

extension ScoredGroup: RewardedGroup {
    /// Places of the tokens that have log-probabilities of their own.
    public var tokens: PatchGrid? { trajectory.tokens }
}

/// What is trained, with its optimiser and its average. A value: a failed update leaves the old one untouched.
public struct PolicyState: Sendable {
    /// Master weights, fp32.
    public internal(set) var parameters: Parameters
    /// Moments of AdamW.
    public internal(set) var optimizer: AdamW
    /// The averaged copy, for evaluation and checkpoints.
    public internal(set) var average: ExponentialMovingAverage

    /// A policy before its first update.
    ///
    /// - Parameter optimizer: step sizes of what is learned first; the settings' own unless given.
    public init(parameters: Parameters, settings: PolicySettings, optimizer: AdamW.Settings? = nil) {
        self.init(
            parameters: parameters, optimizer: AdamW(optimizer ?? settings.optimizer, parameters: parameters),
            average: ExponentialMovingAverage(
                decay: settings.ema.decay, interval: settings.ema.every, parameters: parameters))
    }

    /// A policy as a snapshot recorded it.
    public init(parameters: Parameters, optimizer: AdamW, average: ExponentialMovingAverage) {
        self.parameters = parameters
        self.optimizer = optimizer
        self.average = average
    }

    /// An optimiser that has seen nothing, for a loss that the one before did not know.
    public mutating func restartOptimizer(_ settings: AdamW.Settings) {
        optimizer = AdamW(settings, parameters: parameters)
    }
}

extension PolicyState {
    /// Takes larger or smaller steps from the next update on.
    public mutating func setLearningRate(_ rate: Double) { optimizer.settings.learningRate = rate }
}

extension PolicySettings {
    /// Step sizes of AdamW.
    public var optimizer: AdamW.Settings {
        AdamW.Settings(
            learningRate: learningRate, beta1: betas.first, beta2: betas.second, epsilon: epsilon,
            weightDecay: weightDecay)
    }
}

extension MethodSettings {
    /// Step sizes of AdamW in an epoch.
    public func optimizer(ofEpoch epoch: Int) -> AdamW.Settings {
        var settings = policy.optimizer
        if supervisedSteps(ofEpoch: epoch) != nil { settings.learningRate = supervised.learningRate }
        return settings
    }
}

/// What one optimiser step did.
public struct PolicyUpdateReport: Sendable, Equatable {
    /// Ratios, clipping, loss.
    public let statistics: PolicyStatistics
    /// Norm of the averaged gradient before clipping.
    public let gradientNorm: Double
}

/// The policy updates of one epoch: clipped policy loss over all groups, members and window steps.
///
/// The groups are divided, in order, among `updatesPerEpoch` optimiser steps. One step: the gradient of the mean loss over
/// its samples and window steps, clipped to a global norm, then AdamW, then the average. A piece of work is one chunk of
/// one group at one window step. A group's gradient is the sum over its pieces in their order, the step's that over its
/// groups in theirs: the result depends neither on the number of threads nor on where a group's gradient was made.
///
/// At the first step of an epoch ρ = 1 exactly, when chunks have the shapes of the rollout's and kernels are deterministic.
///
/// - Source: method.md 1.10 and 1.2. Differences: averaging once over samples; see docs/method.md.
public struct PolicyUpdate: Sendable {
    /// Loss, optimiser, number of updates.
    public let settings: PolicySettings
    /// Steps, window and guidance as they were sampled.
    public let rollout: Rollout
    /// Samples of a piece; equal to the rollout's.
    public let chunks: Chunks

    private let loss: PolicyLoss
    private let guidance: GuidedVelocity

    /// - Parameters: as above; validated settings.
    public init(settings: PolicySettings, rollout: Rollout, chunks: Chunks) {
        self.settings = settings
        self.rollout = rollout
        self.chunks = chunks
        loss = PolicyLoss(settings: settings)
        guidance = settings.guidanceInTraining ? rollout.guidance : GuidedVelocity(scale: 1)
    }

    /// The groups of each optimiser step: contiguous, as equal as possible, none empty.
    public func partition(_ groupCount: Int) -> [Range<Int>] {
        let updates = min(settings.updatesPerEpoch, groupCount)
        return (0..<updates).map { groupCount * $0 / updates..<groupCount * ($0 + 1) / updates }
    }

    /// What adds up an optimiser step over so many groups.
    public func fold(groupCount: Int) -> PolicyFold { PolicyFold(settings, groupCount: groupCount) }

    /// All updates of an epoch.
    ///
    /// - Parameters:
    ///   - state: the policy, its optimiser and its average.
    ///   - groups: in the order of their coordinates.
    ///   - advantages: of these groups.
    ///   - policy: velocities of parameters.
    ///   - lanes: threads of the pieces; the result does not depend on how many there are.
    ///   - progress: called after every piece with the number done and the total.
    /// - Throws: `NumericalFailure` for a gradient that is not finite; `state` is then unchanged.
    public func callAsFunction(
        _ state: inout PolicyState, groups: [ScoredGroup], advantages: Advantages, policy: TrainablePolicy,
        lanes: Lanes, progress: (Int, Int) -> Void = { _, _ in }
    ) throws -> [PolicyUpdateReport] {
        precondition(
            groups.count == advantages.values.count, "\(groups.count) groups, \(advantages.values.count) advantages")
        precondition(zip(groups, groups.dropFirst()).allSatisfy { $0.group < $1.group }, "groups out of order")
        let credited = credited(groups, advantages)
        var next = state
        var reports: [PolicyUpdateReport] = []
        let total = pieces(of: credited[...]).count
        var done = 0
        for range in partition(groups.count) {
            let fold = fold(credited[range], at: policy.tracked(at: next.parameters), lanes: lanes) {
                done += $0
                progress(done, total)
            }
            reports.append(try fold.descend(&next, subject(credited[range].map(\.group))))
        }
        state = next
        return reports
    }

    /// What an optimiser step over some groups is, for messages.
    public func subject(_ groups: [GroupID]) -> String {
        "groups \(groups.first.map { "\($0)" } ?? "") to \(groups.last.map { "\($0)" } ?? ""), seed \(rollout.seed)"
    }

    func credited(_ groups: [ScoredGroup], _ advantages: Advantages) -> [CreditedGroup] {
        groups.enumerated().map { index, scored in
            CreditedGroup(
                group: scored.group, prompt: scored.prompt, trajectory: scored.trajectory,
                advantages: advantages.clamped(index, to: settings.advantageClip))
        }
    }

    /// An optimiser step's groups, added up.
    func fold(
        _ groups: ArraySlice<CreditedGroup>, at policy: TrackedPolicy, lanes: Lanes,
        progress: (Int) -> Void = { _ in }
    ) -> PolicyFold {
        var fold = fold(groupCount: groups.count)
        let sampleCount = groups.reduce(0) { $0 + $1.trajectory.memberCount * $1.trajectory.stepIndices.count }
        gradients(of: groups, sampleCount: sampleCount, at: policy, lanes: lanes, progress: progress) { fold.add($0) }
        return fold
    }

    /// The gradient of one group's part of an optimiser step's mean loss.
    ///
    /// - Parameters:
    ///   - group: the group.
    ///   - sampleCount: members times window steps of all groups of the step, by which their losses are divided.
    ///   - policy: where.
    ///   - lanes: threads of the pieces; the result does not depend on how many there are.
    /// - Throws: `NumericalFailure` for a gradient that is not finite.
    public func gradient(
        of group: CreditedGroup, sampleCount: Int, at policy: TrackedPolicy, lanes: Lanes
    ) throws(NumericalFailure) -> GroupGradient {
        var made = GroupGradient(gradient: Parameters(), statistics: PolicyStatistics())
        gradients(of: [group], sampleCount: sampleCount, at: policy, lanes: lanes) { made = $0 }
        guard made.gradient.norm.isFinite else {
            throw NumericalFailure("not finite: gradient of group \(group.group), seed \(rollout.seed)")
        }
        return made
    }

    /// Each group's gradient, in order; the pieces of all of them share the lanes.
    private func gradients(
        of groups: ArraySlice<CreditedGroup>, sampleCount: Int, at policy: TrackedPolicy, lanes: Lanes,
        progress: (Int) -> Void = { _ in }, each: (GroupGradient) -> Void
    ) {
        let pieces = pieces(of: groups)
        var current: GroupGradient?
        policy.gradients(ofPieces: pieces.count, lanes: lanes) { index in
            let piece = pieces[index]
            let (perSample, statistics) = loss(of: piece, groups[piece.group], at: policy)
            return (perSample.sum() * (1 / Float(sampleCount)), statistics)
        } progress: {
            progress($0)
        } each: { index, gradient, statistics in
            let group =
                current.map {
                    GroupGradient(gradient: $0.gradient.adding(gradient), statistics: $0.statistics + statistics)
                } ?? GroupGradient(gradient: gradient, statistics: statistics)
            let isLast = index + 1 == pieces.count || pieces[index + 1].group != pieces[index].group
            current = isLast ? nil : group
            if isLast { each(group) }
        }
    }

    /// One chunk of one group at one window step.
    private struct Piece: Sendable {
        let group: Int
        let members: Range<Int>
        let windowStep: Int
    }

    private func pieces(of groups: ArraySlice<CreditedGroup>) -> [Piece] {
        groups.indices.flatMap { group in
            chunks.ranges(groups[group].trajectory.memberCount).flatMap { members in
                groups[group].trajectory.stepIndices.indices.map {
                    Piece(group: group, members: members, windowStep: $0)
                }
            }
        }
    }

    private func loss(
        of piece: Piece, _ group: CreditedGroup, at policy: TrackedPolicy
    ) -> (perSample: Tensor, statistics: PolicyStatistics) {
        let trajectory = group.trajectory.members(piece.members)
        let step = rollout.step(
            trajectory.stepIndices[piece.windowStep], windowStart: trajectory.stepIndices[0])
        let x = trajectory.latents(before: piece.windowStep)
        func mean(_ velocity: VelocityFunction) -> Tensor {
            step.mean(
                x, velocity_BCHW: guidance(x, timestep: step.timestep, prompt: group.prompt, velocity: velocity))
        }
        var result = loss(
            step: step, mean: mean(policy.velocity), next: trajectory.latents(before: piece.windowStep + 1),
            old: trajectory.logProbability(piece.windowStep), advantages: group.advantages(of: piece.members),
            referenceMean: settings.klWeight > 0 ? policy.reference.map(mean) : nil)
        result.statistics.note(step: trajectory.stepIndices[piece.windowStep])
        return result
    }
}
