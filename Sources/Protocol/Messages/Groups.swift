import SafeTensors

/// Brings a finished group to the learner: what was executed, by which versions, and what it earned.
public struct GroupResult: WireRequest {
    public typealias Reply = TaskAcknowledgement
    public static let kind = MessageKind.groupResult

    /// What a rollout recorded of its window.
    public struct Trajectory: Sendable {
        /// F32 [members, window + 1, C, H, W], the states before and after each recorded step.
        public var latents: TensorPayload
        /// F32 [members, window], of the steps taken, under the policy executed; [members, window, rows, columns], of these
        /// steps' tokens, in runs that credit patches.
        public var logProbabilities: TensorPayload
        /// I32 [window], positions of the recorded steps in the schedule.
        public var stepIndices: TensorPayload

        /// Makes a trajectory.
        public init(latents: TensorPayload, logProbabilities: TensorPayload, stepIndices: TensorPayload) {
            self.latents = latents
            self.logProbabilities = logProbabilities
            self.stepIndices = stepIndices
        }

        /// Its tensors by their names, as a content of its own: what a gradient's worker fetches.
        public var tensors: TensorSet {
            ["latents": latents, "logProbabilities": logProbabilities, "stepIndices": stepIndices]
        }

        /// A trajectory that came as a content.
        ///
        /// - Throws: `invalidValue` for what cannot be one.
        public init(_ tensors: TensorSet) throws(WireError) {
            try Check.trajectory(tensors, ofTokens: tensors["logProbabilities"]?.shape.count == 4)
            try Check.onlyTensors(["latents", "logProbabilities", "stepIndices"], in: tensors)
            latents = tensors.required("latents")
            logProbabilities = tensors.required("logProbabilities")
            stepIndices = tensors.required("stepIndices")
        }
    }

    /// Name of the worker.
    public var worker: String
    /// The lease it worked under.
    public var leaseID: LeaseID
    /// The group.
    public var group: GroupID
    /// Its prompt, as the lease said it.
    public var prompt: String
    /// The policy that was executed.
    public var policyVersion: PolicyVersion
    /// Digest of the weights that were executed.
    public var weightsDigest: WeightsDigest
    /// The discriminator that scored all members.
    public var discriminatorVersion: DiscriminatorVersion
    /// Seconds spent, by phase.
    public var seconds: [String: Double]
    /// See the accessors below.
    public var tensors: TensorSet

    /// What came of a lease.
    ///
    /// - Parameters:
    ///   - lease: group, prompt and weights, which are those that were executed.
    ///   - worker: its name.
    ///   - trajectory: of all members.
    ///   - scores: by the discriminator that it names, of all members.
    ///   - seconds: spent, by phase.
    public init(
        of lease: Lease, by worker: String, _ trajectory: Trajectory, _ scores: Scores, seconds: [String: Double]
    ) {
        self.worker = worker
        leaseID = lease.leaseID
        group = lease.group
        prompt = lease.prompt
        policyVersion = lease.weights.version
        weightsDigest = lease.weights.digest
        discriminatorVersion = scores.discriminatorVersion
        self.seconds = seconds
        tensors = [
            "latents": trajectory.latents, "logProbabilities": trajectory.logProbabilities, "rewards": scores.rewards,
            "stepIndices": trajectory.stepIndices,
        ]
        tensors["maps"] = scores.maps
        for (name, payload) in scores.components { tensors["reward." + name] = payload }
        for (name, payload) in scores.witnesses { tensors["witness." + name] = payload }
    }

    /// F32 [members, window + 1, C, H, W].
    public var latents: TensorPayload { tensors.required("latents") }
    /// F32 [members, window] or [members, window, rows, columns], finite.
    public var logProbabilities: TensorPayload { tensors.required("logProbabilities") }
    /// F32 [members], finite.
    public var rewards: TensorPayload { tensors.required("rewards") }
    /// F32 [members] each, finite, by reward name.
    public var components: [String: TensorPayload] { tensors.named(after: "reward.") }
    /// F32 [members, rows, columns], finite; nil where an image has one advantage.
    public var maps: TensorPayload? { tensors["maps"] }
    /// F32 [members] each, finite, by name: what enters no reward.
    public var witnesses: [String: TensorPayload] { tensors.named(after: "witness.") }
    /// I32 [window], not negative, ascending.
    public var stepIndices: TensorPayload { tensors.required("stepIndices") }
    /// What the rollout recorded.
    public var trajectory: Trajectory {
        Trajectory(latents: latents, logProbabilities: logProbabilities, stepIndices: stepIndices)
    }

    /// There is a prompt, shapes agree, rewards and log-probabilities are finite, steps ascend.
    public func validate() throws(WireError) {
        try Check.name(worker, "worker")
        try Check.text(prompt, "prompt", Check.prompt)
        try Check.names(seconds.keys, "seconds", limit: 64)
        for (phase, value) in seconds { try Check.seconds(value, "seconds.\(phase)") }
        let memberCount = try Check.trajectory(tensors, ofTokens: tensors["maps"] != nil)
        try Check.rewards(tensors, memberCount: memberCount)
        try Check.maps(tensors, memberCount: memberCount)
        try Check.onlyTensors(
            ["latents", "logProbabilities", "maps", "rewards", "stepIndices"], prefixes: ["reward.", "witness."],
            in: tensors)
    }
}
