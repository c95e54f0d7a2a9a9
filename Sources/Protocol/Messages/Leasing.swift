import SafeTensors

/// Asks the learner for a task.
public struct LeaseRequest: WireRequest {
    public typealias Reply = LeaseAnswer
    public static let kind = MessageKind.leaseRequest

    /// Name of the worker, as in its `Hello`.
    public var worker: String

    /// Makes the message.
    public init(worker: String) { self.worker = worker }

    /// The name is 1 to 128 bytes.
    public func validate() throws(WireError) { try Check.name(worker, "worker") }
}

/// A version of the policy's weights, by what it is called and what it consists of.
public struct WeightsReference: Sendable, Equatable, Codable {
    /// The version.
    public var version: PolicyVersion
    /// Digest of the weights in their canonical form.
    public var digest: WeightsDigest
    /// The manifest by which they are fetched.
    public var manifest: ManifestDigest

    /// Makes a reference.
    public init(version: PolicyVersion, digest: WeightsDigest, manifest: ManifestDigest) {
        self.version = version
        self.digest = digest
        self.manifest = manifest
    }
}

/// What a lease for a gradient says beside the group: of which optimiser step it is, and what it is made of.
public struct GradientOrder: Sendable, Equatable, Codable {
    /// Which of the epoch's optimiser steps, from 0.
    public var update: Int
    /// Members times window steps of all groups of the step, by which their losses are divided.
    public var sampleCount: Int
    /// The group's trajectory: kept by who sampled it, asked of the learner by anybody else.
    public var trajectory: ContentDigest

    /// Makes an order.
    public init(update: Int, sampleCount: Int, trajectory: ContentDigest) {
        self.update = update
        self.sampleCount = sampleCount
        self.trajectory = trajectory
    }

    /// Samples of a step: as many as fit 40 bits.
    static let sampleCounts = 1...1 << 40
}

/// A task assigned to one worker for a while.
public struct Lease: Sendable, Equatable, Codable {
    /// The assignment; the result quotes it.
    public var leaseID: LeaseID
    /// The group to roll out, or whose gradient is to be made.
    public var group: GroupID
    /// Its prompt.
    public var prompt: String
    /// Number of images.
    public var memberCount: Int
    /// The policy that must be executed.
    public var weights: WeightsReference
    /// The discriminator that must score it, which may still be in training; nil: whichever is current.
    public var discriminatorVersion: DiscriminatorVersion?
    /// Time until the task may be given to somebody else, from this answer and from every heartbeat that is answered.
    public var expiresInMilliseconds: Int
    /// The gradient to make; nil: the group is rolled out.
    public var gradient: GradientOrder?
    /// Of a gradient `advantages` F32 [members] or [members, rows, columns], clamped, finite; else none.
    public var tensors: TensorSet

    /// Makes a lease.
    public init(
        leaseID: LeaseID, group: GroupID, prompt: String, memberCount: Int, weights: WeightsReference,
        discriminatorVersion: DiscriminatorVersion? = nil, expiresInMilliseconds: Int
    ) {
        self.init(
            leaseID: leaseID, group: group, prompt: prompt, memberCount: memberCount, weights: weights,
            discriminatorVersion: discriminatorVersion, expiresInMilliseconds: expiresInMilliseconds, gradient: nil,
            tensors: [:])
    }

    /// Makes a lease for a gradient.
    public init(
        leaseID: LeaseID, group: GroupID, prompt: String, memberCount: Int, weights: WeightsReference,
        expiresInMilliseconds: Int, gradient: GradientOrder, advantages: TensorPayload
    ) {
        self.init(
            leaseID: leaseID, group: group, prompt: prompt, memberCount: memberCount, weights: weights,
            discriminatorVersion: nil, expiresInMilliseconds: expiresInMilliseconds, gradient: gradient,
            tensors: ["advantages": advantages])
    }

    private init(
        leaseID: LeaseID, group: GroupID, prompt: String, memberCount: Int, weights: WeightsReference,
        discriminatorVersion: DiscriminatorVersion?, expiresInMilliseconds: Int, gradient: GradientOrder?,
        tensors: TensorSet
    ) {
        self.gradient = gradient
        self.tensors = tensors
        self.leaseID = leaseID
        self.group = group
        self.prompt = prompt
        self.memberCount = memberCount
        self.weights = weights
        self.discriminatorVersion = discriminatorVersion
        self.expiresInMilliseconds = expiresInMilliseconds
    }

    /// What is to be done.
    public var task: TaskID { gradient.map { .gradient(group, update: $0.update) } ?? .rollout(group) }

    /// Of a gradient, one a member or token.
    public var advantages: TensorPayload? { tensors["advantages"] }

    /// Counts and times are possible ones; a gradient has its advantages, a rollout none.
    func validate() throws(WireError) {
        try Check.text(prompt, "prompt", Check.prompt)
        try Check.members(memberCount, "memberCount")
        try Check.number(expiresInMilliseconds, "expiresInMilliseconds", Check.milliseconds)
        guard let gradient else { return try Check.onlyTensors([], in: tensors) }
        let updates = TaskID.updates
        try Check.number(gradient.update, "gradient.update", updates.lowerBound...updates.upperBound - 1)
        try Check.number(gradient.sampleCount, "gradient.sampleCount", GradientOrder.sampleCounts)
        let ofTokens = tensors["advantages"]?.shape.count == 3
        let advantages = try Check.tensor(
            "advantages", in: tensors, .float32, ofTokens ? [memberCount, nil, nil] : [memberCount])
        try Check.finite(advantages, "advantages")
        try Check.onlyTensors(["advantages"], in: tensors)
    }
}

/// What the learner says to a worker that asks for work.
public enum LeaseAnswer: WireMessage {
    /// Do this.
    case lease(Lease)
    /// There is nothing to do now; ask again later.
    case wait(reason: String, retryInMilliseconds: Int)
    /// There is nothing to do any more; leave.
    case stop(reason: String)

    public static let kind = MessageKind.leaseAnswer

    /// The lease's.
    public var tensors: TensorSet {
        get { if case .lease(let lease) = self { lease.tensors } else { TensorSet() } }
        set {
            guard case .lease(var lease) = self else { return }
            lease.tensors = newValue
            self = .lease(lease)
        }
    }

    /// Counts and times are possible ones.
    public func validate() throws(WireError) {
        switch self {
        case .lease(let lease): try lease.validate()
        case .wait(let reason, let milliseconds):
            try Check.text(reason, "reason", Check.sentence)
            try Check.number(milliseconds, "retryInMilliseconds", Check.milliseconds)
        case .stop(let reason): try Check.text(reason, "reason", Check.sentence)
        }
    }

    private enum CodingKeys: String, CodingKey { case answer, lease, reason, retryInMilliseconds }
    private enum Answer: String, Codable { case lease, wait, stop }

    /// Reads `{"answer": "lease" | "wait" | "stop", ...}`.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        switch try container.decode(Answer.self, forKey: .answer) {
        case .lease: self = .lease(try container.decode(Lease.self, forKey: .lease))
        case .wait:
            self = .wait(
                reason: try container.decode(String.self, forKey: .reason),
                retryInMilliseconds: try container.decode(Int.self, forKey: .retryInMilliseconds))
        case .stop: self = .stop(reason: try container.decode(String.self, forKey: .reason))
        }
    }

    /// Writes `{"answer": "lease" | "wait" | "stop", ...}`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        switch self {
        case .lease(let lease):
            try container.encode(Answer.lease, forKey: .answer)
            try container.encode(lease, forKey: .lease)
        case .wait(let reason, let milliseconds):
            try container.encode(Answer.wait, forKey: .answer)
            try container.encode(reason, forKey: .reason)
            try container.encode(milliseconds, forKey: .retryInMilliseconds)
        case .stop(let reason):
            try container.encode(Answer.stop, forKey: .answer)
            try container.encode(reason, forKey: .reason)
        }
    }
}
