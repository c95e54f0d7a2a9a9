/// Asks any role how it is.
public struct HealthRequest: WireRequest {
    public typealias Reply = Health
    public static let kind = MessageKind.healthRequest
    /// Makes the message.
    public init() {}
}

/// How a process is.
public struct Health: WireMessage {
    public static let kind = MessageKind.health

    /// Time from a request's arrival at the socket to its reply, waiting for one's turn included, over the recent past.
    public struct Latency: Sendable, Equatable, Codable {
        /// Half of the requests were answered within this time.
        public var p50Milliseconds: Double
        /// 99 of 100 requests were answered within this time.
        public var p99Milliseconds: Double

        /// Makes a latency.
        public init(p50Milliseconds: Double, p99Milliseconds: Double) {
            self.p50Milliseconds = p50Milliseconds
            self.p99Milliseconds = p99Milliseconds
        }
    }

    /// What became of the requests of one kind since the start.
    public struct Requests: Sendable, Equatable, Codable {
        /// Got the reply they asked for.
        public var answered: Int
        /// Were too many at a time, or came when the role was about to end.
        public var busy: Int
        /// Were refused with any other failure, for example `notAllowed`.
        public var refused: Int
        /// Break the protocol.
        public var rejected: Int
        /// Of those that were answered or refused; nil before the first.
        public var latency: Latency?

        /// Makes the counts.
        public init(answered: Int = 0, busy: Int = 0, refused: Int = 0, rejected: Int = 0, latency: Latency? = nil) {
            self.answered = answered
            self.busy = busy
            self.refused = refused
            self.rejected = rejected
            self.latency = latency
        }
    }

    /// What the process is.
    public var role: Role
    /// Whether it does its work.
    public var serving: Bool
    /// Why it does not, or what it does.
    public var reason: String
    /// The run it belongs to, once it knows.
    public var runID: RunID?
    /// The policy or discriminator in service, by role.
    public var version: Int?
    /// Seconds since start.
    public var uptimeSeconds: Double
    /// These seconds by what was done in them; they add up to `uptimeSeconds`.
    public var seconds: [String: Double]
    /// Resident memory.
    public var memoryBytes: Int
    /// Requests waiting for their turn.
    public var queueDepth: Int
    /// Totals since start, by name.
    public var counters: [String: Double]
    /// What became of the requests since start, by the name of their kind.
    public var requests: [String: Requests]
    /// Messages since start that could not be read as a request of any kind.
    public var unreadableMessages: Int
    /// Connections since start that were not let in.
    public var refusedConnections: Int
    /// Anything else worth knowing.
    public var detail: JSONValue

    /// Makes the message.
    public init(
        role: Role, serving: Bool, reason: String, runID: RunID?, version: Int?, uptimeSeconds: Double,
        memoryBytes: Int, queueDepth: Int, seconds: [String: Double] = [:], counters: [String: Double] = [:],
        requests: [String: Requests] = [:], unreadableMessages: Int = 0, refusedConnections: Int = 0,
        detail: JSONValue = [:]
    ) {
        self.role = role
        self.serving = serving
        self.reason = reason
        self.runID = runID
        self.version = version
        self.uptimeSeconds = uptimeSeconds
        self.memoryBytes = memoryBytes
        self.queueDepth = queueDepth
        self.seconds = seconds
        self.counters = counters
        self.requests = requests
        self.unreadableMessages = unreadableMessages
        self.refusedConnections = refusedConnections
        self.detail = detail
    }

    /// Times, sizes and counts are finite and not negative.
    public func validate() throws(WireError) {
        try Check.seconds(uptimeSeconds, "uptimeSeconds")
        try Check.notNegative(memoryBytes, "memoryBytes")
        try Check.notNegative(queueDepth, "queueDepth")
        try Check.text(reason, "reason", Check.sentence)
        try Check.names(counters.keys, "counters", limit: 1024)
        for (name, value) in counters { try Check.finite(value, "counters.\(name)") }
        try Check.activities(seconds, "seconds")
        try Check.names(requests.keys, "requests", limit: 256)
        for (kind, requests) in requests { try requests.validate("requests.\(kind)") }
        try Check.notNegative(unreadableMessages, "unreadableMessages")
        try Check.notNegative(refusedConnections, "refusedConnections")
    }
}

extension Health.Requests {
    fileprivate func validate(_ field: String) throws(WireError) {
        try Check.notNegative(answered, "\(field).answered")
        try Check.notNegative(busy, "\(field).busy")
        try Check.notNegative(refused, "\(field).refused")
        try Check.notNegative(rejected, "\(field).rejected")
        if let latency {
            try Check.seconds(latency.p50Milliseconds, "\(field).latency.p50Milliseconds")
            try Check.seconds(latency.p99Milliseconds, "\(field).latency.p99Milliseconds")
        }
    }
}

/// Asks the learner for its whole view of the run.
public struct StatusRequest: WireRequest {
    public typealias Reply = Status
    public static let kind = MessageKind.statusRequest
    /// Makes the message.
    public init() {}
}

/// The learner's view: roles, ledger, versions, who waits for whom.
public struct Status: WireMessage {
    public static let kind = MessageKind.status

    /// The document; its members are specified by the learner.
    public var document: JSONValue

    /// Makes the message.
    public init(document: JSONValue) { self.document = document }
}

/// Asks a process to end.
public struct StopRequest: WireRequest {
    public typealias Reply = StopAcknowledgement
    public static let kind = MessageKind.stopRequest

    /// Whether work in progress is finished first.
    public var drain: Bool
    /// Who asks and why, for the log.
    public var reason: String

    /// Makes the message.
    public init(drain: Bool, reason: String) {
        self.drain = drain
        self.reason = reason
    }

    /// The reason fits a line of a log.
    public func validate() throws(WireError) { try Check.text(reason, "reason", 0...1024) }
}

/// The process ends after this reply.
public struct StopAcknowledgement: WireMessage {
    public static let kind = MessageKind.stopAcknowledgement
    /// Makes the message.
    public init() {}
}

/// The reply to any request that could not be carried out; the requester's call throws it.
public struct Failure: WireMessage, Error, CustomStringConvertible {
    public static let kind = MessageKind.failure

    /// The kind of failure, which programs may compare.
    public var code: FailureCode
    /// What was expected and what came instead.
    public var message: String
    /// What to do about it.
    public var remedy: String?

    /// Makes the message.
    public init(code: FailureCode, message: String, remedy: String? = nil) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    /// The same failure, told to the peer.
    public init(_ error: WireError) {
        self.init(code: error.code, message: error.message, remedy: error.remedy)
    }

    /// One sentence.
    public var description: String { "\(code): \(message)" + (remedy.map { "; \($0)" } ?? "") }
}
