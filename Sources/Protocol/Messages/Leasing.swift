/// Asks the learner for a group to roll out.
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

/// A group assigned to one worker for a while.
public struct Lease: Sendable, Equatable, Codable {
    /// The assignment; the result quotes it.
    public var leaseID: LeaseID
    /// The group to roll out.
    public var group: GroupID
    /// Its prompt.
    public var prompt: String
    /// Number of images.
    public var memberCount: Int
    /// The policy that must be executed.
    public var weights: WeightsReference
    /// The discriminator that must score it, which may still be in training; nil: whichever is current.
    public var discriminatorVersion: DiscriminatorVersion?
    /// Time until the group may be given to somebody else, from this answer and from every heartbeat that is answered.
    public var expiresInMilliseconds: Int

    /// Makes a lease.
    public init(
        leaseID: LeaseID, group: GroupID, prompt: String, memberCount: Int, weights: WeightsReference,
        discriminatorVersion: DiscriminatorVersion? = nil, expiresInMilliseconds: Int
    ) {
        self.leaseID = leaseID
        self.group = group
        self.prompt = prompt
        self.memberCount = memberCount
        self.weights = weights
        self.discriminatorVersion = discriminatorVersion
        self.expiresInMilliseconds = expiresInMilliseconds
    }
}

/// What the learner says to a worker that asks for work.
public enum LeaseAnswer: WireMessage {
    /// Roll out this group.
    case lease(Lease)
    /// There is nothing to do now; ask again later.
    case wait(reason: String, retryInMilliseconds: Int)
    /// There is nothing to do any more; leave.
    case stop(reason: String)

    public static let kind = MessageKind.leaseAnswer

    /// Counts and times are possible ones.
    public func validate() throws(WireError) {
        switch self {
        case .lease(let lease):
            try Check.text(lease.prompt, "prompt", Check.prompt)
            try Check.members(lease.memberCount, "memberCount")
            try Check.number(lease.expiresInMilliseconds, "expiresInMilliseconds", Check.milliseconds)
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
