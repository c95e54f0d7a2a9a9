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

    /// Time from a request's arrival to its reply, over the recent past.
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
    /// Resident memory.
    public var memoryBytes: Int
    /// Requests waiting for their turn.
    public var queueDepth: Int
    /// Totals since start, by name.
    public var counters: [String: Double]
    /// Nil before the first request.
    public var latency: Latency?
    /// Anything else worth knowing.
    public var detail: JSONValue

    /// Makes the message.
    public init(
        role: Role, serving: Bool, reason: String, runID: RunID?, version: Int?, uptimeSeconds: Double,
        memoryBytes: Int,
        queueDepth: Int, counters: [String: Double] = [:], latency: Latency? = nil, detail: JSONValue = [:]
    ) {
        self.role = role
        self.serving = serving
        self.reason = reason
        self.runID = runID
        self.version = version
        self.uptimeSeconds = uptimeSeconds
        self.memoryBytes = memoryBytes
        self.queueDepth = queueDepth
        self.counters = counters
        self.latency = latency
        self.detail = detail
    }

    /// Times and sizes are finite and not negative.
    public func validate() throws(WireError) {
        try Check.seconds(uptimeSeconds, "uptimeSeconds")
        try Check.notNegative(memoryBytes, "memoryBytes")
        try Check.notNegative(queueDepth, "queueDepth")
        try Check.text(reason, "reason", Check.sentence)
        try Check.names(counters.keys, "counters", limit: 1024)
        for (name, value) in counters { try Check.finite(value, "counters.\(name)") }
        if let latency {
            try Check.seconds(latency.p50Milliseconds, "latency.p50Milliseconds")
            try Check.seconds(latency.p99Milliseconds, "latency.p99Milliseconds")
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
