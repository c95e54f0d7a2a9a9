/// The part a process plays.
public enum Role: String, Sendable, Hashable, Codable, CaseIterable {
    case learner
    case rewardServer
    case rolloutWorker
    /// Passes weights on.
    case relay
    /// A person or a script: asks, never works.
    case `operator`
}

/// Introduces a process to the learner or the reward server.
public struct Hello: WireRequest {
    public typealias Reply = Welcome
    public static let kind = MessageKind.hello

    /// What the sender is.
    public var role: Role
    /// Its name, unique in the run and stable across restarts, such as "worker-3".
    public var name: String
    /// Host name.
    public var host: String
    /// Process id on that host.
    public var processID: Int
    /// Processor model, as it decides which numbers are bit-identical.
    public var processor: String
    /// Compute engine.
    public var engine: String
    /// "fp32" or "bf16".
    public var precision: String
    /// Digest of the settings both sides must agree on.
    public var settingsDigest: String
    /// Digests of the models that the sender has loaded, by their part of the run: `model/transformer`, `rewardBackbone`, ...
    public var models: [String: String]

    /// Makes the message.
    public init(
        role: Role, name: String, host: String, processID: Int, processor: String, engine: String, precision: String,
        settingsDigest: String, models: [String: String]
    ) {
        self.role = role
        self.name = name
        self.host = host
        self.processID = processID
        self.processor = processor
        self.engine = engine
        self.precision = precision
        self.settingsDigest = settingsDigest
        self.models = models
    }

    /// Texts are not too long; there are at most 64 models.
    public func validate() throws(WireError) {
        try Check.name(name, "name")
        for (text, field) in [
            (host, "host"), (processor, "processor"), (engine, "engine"), (precision, "precision"),
            (settingsDigest, "settingsDigest"),
        ] { try Check.text(text, field, 0...256) }
        try Check.notNegative(processID, "processID")
        try Check.models(models)
    }
}

/// Admits a process and names the run; the answer to `Hello`.
public struct Welcome: WireMessage {
    public static let kind = MessageKind.welcome

    /// The run all further messages belong to.
    public var runID: RunID
    /// The policy the learner publishes now; nil from the reward server.
    public var policyVersion: PolicyVersion?
    /// Digest of those weights; nil from the reward server.
    public var weightsDigest: WeightsDigest?
    /// The discriminator in service; from the learner the one that scores the current epoch.
    public var discriminatorVersion: DiscriminatorVersion?
    /// The epoch whose groups are scored, once one is open; nil from the learner.
    public var epoch: Int?

    /// Makes the message.
    public init(
        runID: RunID, policyVersion: PolicyVersion? = nil, weightsDigest: WeightsDigest? = nil,
        discriminatorVersion: DiscriminatorVersion? = nil, epoch: Int? = nil
    ) {
        self.epoch = epoch
        self.runID = runID
        self.policyVersion = policyVersion
        self.weightsDigest = weightsDigest
        self.discriminatorVersion = discriminatorVersion
    }
}
