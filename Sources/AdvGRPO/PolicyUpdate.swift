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
/// one group at one window step; pieces run on the lanes and their gradients are added in the order of the pieces, so the
/// result does not depend on how many lanes there are.
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
    func partition(_ groupCount: Int) -> [Range<Int>] {
        let updates = min(settings.updatesPerEpoch, groupCount)
        return (0..<updates).map { groupCount * $0 / updates..<groupCount * ($0 + 1) / updates }
    }

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
        var next = state
        var reports: [PolicyUpdateReport] = []
        let total = pieces(of: groups[...]).count
        var done = 0
        for range in partition(groups.count) {
            let (gradient, statistics) = try gradient(
                parameters: next.parameters, groups: groups[range], advantages: advantages, policy: policy, lanes: lanes
            ) {
                done += $0
                progress(done, total)
            }
            let norm = try step(policy, lanes).descend(
                &next, along: gradient,
                "groups \(groups[range.lowerBound].group) to \(groups[range.upperBound - 1].group), seed \(rollout.seed)"
            )
            reports.append(PolicyUpdateReport(statistics: statistics, gradientNorm: norm))
        }
        state = next
        return reports
    }

    /// Gradient of the mean loss over some groups, and its statistics.
    ///
    /// - Parameter progress: called with the number of pieces done since the last call.
    func gradient(
        parameters: Parameters, groups: ArraySlice<ScoredGroup>, advantages: Advantages, policy: TrainablePolicy,
        lanes: Lanes, progress: (Int) -> Void = { _ in }
    ) throws -> (Parameters, PolicyStatistics) {
        let pieces = pieces(of: groups)
        let sampleCount = pieces.reduce(0) { $0 + $1.members.count }
        var statistics = PolicyStatistics()
        // Another copy of the gradient, which only an adapter's is small enough for.
        var halves = settings.adapter == .lora && groups.count > 1 ? GradientHalves() : nil
        let sum = step(policy, lanes).gradient(parameters, pieces: pieces.count) { index, velocity in
            let piece = pieces[index]
            let (perSample, statistics) = loss(
                of: piece, groups[piece.group],
                advantages: advantages.clamped(piece.group, members: piece.members, to: settings.advantageClip),
                velocity: velocity, reference: policy.reference)
            return (perSample.sum() * (1 / Float(sampleCount)), statistics)
        } each: { index, gradient, part in
            if (pieces[index].group - groups.startIndex).isMultiple(of: 2) { halves?.add(gradient) }
            statistics = statistics + part
        } progress: {
            progress($0)
        }
        if let cosine = halves?.cosine(in: sum) { statistics.note(halves: cosine) }
        return (sum, statistics)
    }

    private func step(_ policy: TrainablePolicy, _ lanes: Lanes) -> PolicyStep {
        PolicyStep(maximumGradientNorm: settings.maximumGradientNorm, policy: policy, lanes: lanes)
    }

    /// One chunk of one group at one window step.
    private struct Piece: Sendable {
        let group: Int
        let members: Range<Int>
        let windowStep: Int
    }

    private func pieces(of groups: ArraySlice<ScoredGroup>) -> [Piece] {
        groups.indices.flatMap { group in
            chunks.ranges(groups[group].trajectory.memberCount).flatMap { members in
                groups[group].trajectory.stepIndices.indices.map {
                    Piece(group: group, members: members, windowStep: $0)
                }
            }
        }
    }

    private func loss(
        of piece: Piece, _ scored: ScoredGroup, advantages: [Float], velocity: VelocityFunction,
        reference: VelocityFunction?
    ) -> (perSample: Tensor, statistics: PolicyStatistics) {
        let trajectory = scored.trajectory.members(piece.members)
        let step = rollout.step(
            trajectory.stepIndices[piece.windowStep], windowStart: trajectory.stepIndices[0])
        let x = trajectory.latents(before: piece.windowStep)
        let mean = step.mean(
            x, velocity_BCHW: guidance(x, timestep: step.timestep, prompt: scored.prompt, velocity: velocity))
        let referenceMean =
            settings.klWeight > 0
            ? reference.map {
                step.mean(x, velocity_BCHW: guidance(x, timestep: step.timestep, prompt: scored.prompt, velocity: $0))
            } : nil
        var result = loss(
            step: step, mean: mean, next: trajectory.latents(before: piece.windowStep + 1),
            old: trajectory.logProbability(piece.windowStep), advantages: advantages, referenceMean: referenceMean)
        result.statistics.note(step: trajectory.stepIndices[piece.windowStep])
        return result
    }
}
