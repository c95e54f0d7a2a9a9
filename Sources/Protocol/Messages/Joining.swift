/// The part a process plays.
public enum Role: String, Sendable, Hashable, Codable, CaseIterable {
    case learner
    case rewardServer
    case rolloutWorker
    /// Passes weights on.
    case relay
    /// A person or a script: asks, never works.
    case `operator`
    /// Gives a reward of one's own: answers the reward server, asks nobody.
    case rewardProcess
}

/// A process and the machine it runs on.
public struct ProcessDescription: Sendable, Equatable, Codable {
    /// Host name.
    public var host: String
    /// Process id on that host: another one under the same name is another process.
    public var processID: Int
    /// Processor model, as it decides which numbers are bit-identical.
    public var processor: String
    /// Compute engine.
    public var engine: String
    /// Version of the program.
    public var program: String

    /// Makes a description.
    public init(host: String, processID: Int, processor: String, engine: String, program: String) {
        self.host = host
        self.processID = processID
        self.processor = processor
        self.engine = engine
        self.program = program
    }

    /// Texts are not too long.
    func validate() throws(WireError) {
        for (text, field) in [(host, "host"), (processor, "processor"), (engine, "engine"), (program, "program")] {
            try Check.text(text, "process.\(field)", 0...256)
        }
        try Check.notNegative(processID, "process.processID")
    }
}

/// Introduces a process to the learner or the reward server.
public struct Hello: WireRequest {
    public typealias Reply = Welcome
    public static let kind = MessageKind.hello

    /// What the sender is.
    public var role: Role
    /// Its name, unique in the run and stable across restarts, such as "worker-3".
    public var name: String
    /// Where it runs, and what.
    public var process: ProcessDescription
    /// Digest of the settings both sides must agree on.
    public var settingsDigest: String
    /// Digests of the models that the sender has loaded, by their part of the run: `model/transformer`, `rewardBackbone`, ...
    public var models: [String: String]

    /// Makes the message.
    public init(
        role: Role, name: String, process: ProcessDescription, settingsDigest: String, models: [String: String]
    ) {
        self.role = role
        self.name = name
        self.process = process
        self.settingsDigest = settingsDigest
        self.models = models
    }

    /// Texts are not too long; there are at most 64 models.
    public func validate() throws(WireError) {
        try Check.name(name, "name")
        try process.validate()
        try Check.text(settingsDigest, "settingsDigest", 0...256)
        try Check.models(models)
    }
}

/// Admits a process and names the run; the answer to `Hello`.
public struct Welcome: WireMessage {
    public static let kind = MessageKind.welcome

    /// The run all further messages belong to.
    public var runID: RunID
    /// Version of the program that answers.
    public var program: String
    /// The discriminator in service; nil from the learner.
    public var discriminatorVersion: DiscriminatorVersion?
    /// The epoch whose groups are scored, once one is open; nil from the learner.
    public var epoch: Int?

    /// Makes the message.
    public init(
        runID: RunID, program: String, discriminatorVersion: DiscriminatorVersion? = nil, epoch: Int? = nil
    ) {
        self.runID = runID
        self.program = program
        self.discriminatorVersion = discriminatorVersion
        self.epoch = epoch
    }

    /// The text is not too long.
    public func validate() throws(WireError) { try Check.text(program, "program", 0...256) }
}
