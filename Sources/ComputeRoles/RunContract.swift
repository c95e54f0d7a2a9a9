public import AdvGRPO
public import Configuration
public import Processes
public import Protocol

/// What every message of a run must agree with, by the run's settings: who receives one compares before anything else
/// sees it.
///
/// A message is well formed when its own rules hold (`WireMessage.validate`); whether it belongs to this run is told
/// here.
public struct RunContract: Sendable, Equatable {
    /// Members of a group.
    public var memberCount: Int
    /// Groups of an epoch.
    public var groupsPerEpoch: Int
    /// Sides of an image, in pixels.
    public var imageSide: Int
    /// Names of the rewards that are combined.
    public var components: Set<String>
    /// Whether rewards come with maps, and tokens have log-probabilities of their own.
    public var creditsPatches: Bool
    /// Optimiser steps of a training of the discriminator; 0 where none learns.
    public var trainingSteps: Int
    /// Optimiser steps of the policy in an epoch.
    public var updates: Int
    /// How large an advantage can be.
    public var advantageLimit: Float
    /// Optimiser steps of a refresh; as many where the gauge orders none.
    public var refreshSteps: Int

    /// What a run's settings say.
    public init(_ method: MethodSettings) {
        memberCount = method.rollout.groupSize
        groupsPerEpoch = method.rollout.groupsPerEpoch
        imageSide = method.rollout.resolution
        components = Set(method.rewardNames)
        creditsPatches = method.policy.patchCredit != nil
        updates = method.policy.updatesPerEpoch
        advantageLimit = Float(method.policy.advantageClip)
        trainingSteps = method.trainsDiscriminator ? method.discriminator.stepsPerTraining : 0
        refreshSteps = trainingSteps * (method.gauge.action == .refresh ? method.gauge.refresh : 1)
    }

    /// The images of a group have the run's size, and are as many as the group has members.
    ///
    /// - Throws: `notOfThisRun`.
    public func check(_ request: ScoreRequest) throws(Failure) {
        try check(request.group)
        try equal(request.images.shape, [memberCount, imageSide, imageSide, 3], "images of group \(request.group)")
    }

    /// The scores are those of a group's members, by every reward of the run and no other.
    ///
    /// - Throws: `notOfThisRun`.
    public func check(_ scores: Scores) throws(Failure) {
        try check(scores.rewards, scores.components, "scores")
        try check(scores.maps, "scores")
        try check(scores.witnesses, "scores")
    }

    /// The result has the run's members and rewards; with `rollout`, its latents, steps and log-probabilities are such
    /// as it makes: what passes cannot end the update by its size alone.
    ///
    /// - Throws: `notOfThisRun`.
    public func check(_ result: GroupResult, _ rollout: Rollout?) throws(Failure) {
        let what = "group \(result.group)"
        try check(result.group)
        try check(result.seconds, ["sample", "decode", "score"], what)
        try check(result.rewards, result.components, what)
        try check(result.maps, what)
        try check(result.witnesses, what)
        guard let rollout else { return }
        try check(result.trajectory, of: result.group, rollout)
    }

    /// Beyond it squares, and sums of them, could overflow.
    private static let largestLatent: Float = 1e6

    /// The task has the run's members, and a gradient's the advantages and the numbers of samples that the run's updates have.
    ///
    /// - Throws: `notOfThisRun`.
    public func check(_ lease: Lease, _ rollout: Rollout) throws(Failure) {
        try check(lease.group)
        try equal([lease.memberCount], [memberCount], "members of \(lease.task)")
        guard let order = lease.gradient else { return }
        guard order.update < updates else {
            throw foreign("\(lease.task) is beyond the \(updates) optimiser steps of an epoch")
        }
        let samples = memberCount * rollout.settings.window.size
        guard order.sampleCount.isMultiple(of: samples), order.sampleCount / samples <= groupsPerEpoch else {
            throw foreign(
                "\(lease.task) is divided by \(order.sampleCount) samples, expected \(samples) of each of at most "
                    + "\(groupsPerEpoch) groups")
        }
        let places = rollout.tokens.map { [$0.rows, $0.columns] } ?? []
        try equal(lease.advantages?.shape ?? [], [memberCount] + places, "advantages of \(lease.task)")
        guard lease.advantages?.floats.allSatisfy({ abs($0) <= advantageLimit }) ?? false else {
            throw foreign("\(lease.task) has advantages beyond \(advantageLimit), at which the run clips them")
        }
    }

    /// The trajectory is one that the run's rollout makes of this group.
    ///
    /// - Throws: `notOfThisRun`.
    public func check(
        _ trajectory: GroupResult.Trajectory, of group: GroupID, _ rollout: Rollout
    ) throws(Failure) {
        let what = "group \(group)"
        let start = rollout.windowStart(of: group)
        let window = Array(start..<start + rollout.settings.window.size)
        try equal(trajectory.stepIndices.int32s.map(Int.init), window, "steps of \(what)")
        try equal(
            trajectory.latents.shape, [memberCount, window.count + 1] + rollout.latentShape, "latents of \(what)")
        guard trajectory.latents.floats.allSatisfy({ abs($0) <= Self.largestLatent }) else {
            throw foreign("\(what) has latents that are not finite, or beyond \(Self.largestLatent)")
        }
        let places = rollout.tokens.map { [$0.rows, $0.columns] } ?? []
        try equal(
            trajectory.logProbabilities.shape, [memberCount, window.count] + places, "log-probabilities of \(what)")
        let (probabilities, count) = (trajectory.logProbabilities.floats, places.reduce(1, *))
        for (position, index) in window.enumerated() {
            let range = rollout.step(index, windowStart: start).plausibleLogProbabilities(
                elementCount: rollout.latentShape.reduce(1, *) / count)
            for member in 0..<memberCount {
                let first = (member * window.count + position) * count
                guard let value = probabilities[first..<first + count].first(where: { !range.contains(Double($0)) })
                else { continue }
                throw foreign(
                    "\(what) has log-probability \(value) of member \(member) at step \(index), which no noise of the "
                        + "step has (\(range.lowerBound) to \(range.upperBound))")
            }
        }
    }

    /// The gradient has every trained tensor in its shape and no other, and counts as many samples and ratios as the group has.
    ///
    /// - Parameter shapes: of the trained parameters, by name.
    /// - Throws: `notOfThisRun`.
    public func check(_ result: GradientResult, _ shapes: [String: [Int]], _ rollout: Rollout) throws(Failure) {
        let what = "\(result.task)"
        try check(result.group)
        try check(result.seconds, ["gradient"], what)
        for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
            guard let tensor = result.tensors[name] else { throw foreign("\(what) lacks the gradient of \(name)") }
            try equal(tensor.shape, shape, "the gradient of \(name) in \(what)")
        }
        if let name = result.tensors.names.first(where: { shapes[$0] == nil }) {
            throw foreign("\(what) has a gradient of \(name.prefix(80)), which is not trained")
        }
        let statistics = result.statistics
        let (window, tokens) = (rollout.settings.window.size, rollout.tokens?.count ?? 1)
        let start = rollout.windowStart(of: result.group)
        try equal([statistics.sampleCount], [memberCount * window], "samples of \(what)")
        try equal([statistics.ratioCount], [memberCount * window * tokens], "ratios of \(what)")
        try equal(statistics.drifts.map(\.step), Array(start..<start + window), "drifts of \(what)")
        try equal(
            statistics.drifts.map(\.count), Array(repeating: memberCount * tokens, count: window),
            "counts of the drifts of \(what)")
        guard statistics.above + statistics.below <= statistics.ratioCount,
            statistics.smallestRatio <= statistics.largestRatio
        else {
            throw foreign(
                "\(what) has \(statistics.above) + \(statistics.below) clipped of \(statistics.ratioCount) ratios, from "
                    + "\(statistics.smallestRatio) to \(statistics.largestRatio)")
        }
    }

    /// The training has the run's number of steps, a refresh's, or none, and groups of its epoch.
    ///
    /// - Throws: `notOfThisRun`.
    public func check(_ order: DiscriminatorTraining) throws(Failure) {
        for group in order.groups { try check(group) }
        guard ![0, refreshSteps].contains(order.steps) else { return }
        try equal([order.steps], [trainingSteps], "steps of a training")
    }

    private func check(
        _ seconds: [String: Double], _ phases: Set<String>, _ what: String
    ) throws(Failure) {
        guard phases.isSuperset(of: seconds.keys) else {
            throw foreign(
                "\(what) took its time in \(seconds.keys.sorted().prefix(16)), expected \(phases.sorted())")
        }
    }

    private func check(_ group: GroupID) throws(Failure) {
        guard group.index < groupsPerEpoch else {
            throw foreign("group \(group) is beyond the \(groupsPerEpoch) groups of an epoch")
        }
    }

    private func check(
        _ rewards: TensorPayload, _ components: [String: TensorPayload], _ what: String
    ) throws(Failure) {
        try equal([rewards.elementCount], [memberCount], "rewards of \(what)")
        guard Set(components.keys) == self.components else {
            throw foreign(
                "\(what) has rewards \(components.keys.sorted().prefix(16)), expected \(self.components.sorted())")
        }
    }

    private func check(_ maps: TensorPayload?, _ what: String) throws(Failure) {
        guard (maps != nil) == creditsPatches else {
            throw foreign("\(what) has \(maps == nil ? "no reward maps" : "reward maps, which the run does not use")")
        }
    }

    private func check(_ witnesses: [String: TensorPayload], _ what: String) throws(Failure) {
        let known = Set(Witness.allCases.map(\.rawValue))
        guard known.isSuperset(of: witnesses.keys) else {
            throw foreign("\(what) has witnesses \(witnesses.keys.sorted().prefix(16)), expected \(known.sorted())")
        }
    }

    private func equal(_ actual: [Int], _ expected: [Int], _ what: String) throws(Failure) {
        guard actual == expected else { throw foreign("\(what): \(actual.prefix(16)), expected \(expected)") }
    }

    private func foreign(_ message: String) -> Failure {
        Failure(code: .notOfThisRun, message: message, remedy: "start every role with the run's own settings.yaml")
    }
}

extension PromptOrder {
    /// The order in which a run's prompts are sampled.
    ///
    /// - Throws: `unreadable` when there are fewer than an epoch has groups.
    public init(_ settings: Settings, promptCount: Int) throws(RuntimeError) {
        let groupsPerEpoch = settings.method.rollout.groupsPerEpoch
        guard promptCount >= groupsPerEpoch else {
            throw RuntimeError(
                code: .unreadable, subject: settings.data.prompts,
                message: "has \(promptCount) prompts, rollout.groupsPerEpoch is \(groupsPerEpoch)",
                remedy: "add prompts or lower rollout.groupsPerEpoch")
        }
        self.init(promptCount: promptCount, groupsPerEpoch: groupsPerEpoch, seed: UInt64(settings.seed))
    }
}
