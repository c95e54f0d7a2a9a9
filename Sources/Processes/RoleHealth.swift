public import Protocol
internal import Transport

/// What a role says of itself when it is asked how it is; its door adds what is the same for all roles.
public struct RoleHealth: Sendable {
    /// Whether it does its work.
    public var serving: Bool
    /// Why it does not, or what it does.
    public var reason: String
    /// The run it belongs to, once it knows.
    public var runID: RunID?
    /// The policy or discriminator in service, by role.
    public var version: Int?
    /// Requests waiting for their turn.
    public var queueDepth: Int
    /// Totals since start, by name.
    public var counters: [String: Double]
    /// Anything else worth knowing.
    public var detail: JSONValue

    /// Makes an account.
    public init(
        serving: Bool, reason: String, runID: RunID? = nil, version: Int? = nil, queueDepth: Int = 0,
        counters: [String: Double] = [:], detail: JSONValue = [:]
    ) {
        self.serving = serving
        self.reason = reason
        self.runID = runID
        self.version = version
        self.queueDepth = queueDepth
        self.counters = counters
        self.detail = detail
    }

    /// The whole answer.
    ///
    /// - Parameters:
    ///   - seconds: of the role's clock; they make its uptime.
    ///   - statistics: of the socket that the question came to.
    func answer(of role: Role, seconds: [String: Double], _ statistics: ServerStatistics) -> Health {
        Health(
            role: role, serving: serving, reason: reason, runID: runID, version: version,
            uptimeSeconds: seconds.values.reduce(0, +), memoryBytes: ProcessMemory.residentByteCount,
            queueDepth: queueDepth, seconds: seconds, counters: counters,
            requests: Dictionary(
                uniqueKeysWithValues: statistics.kinds.map { ("\($0.key)", Health.Requests($0.value)) }),
            unreadableMessages: statistics.rejectedCount, refusedConnections: statistics.refusedConnectionCount,
            detail: detail)
    }
}

extension Health.Requests {
    init(_ statistics: KindStatistics) {
        let latencies = statistics.latencies
        self.init(
            answered: statistics.answeredCount, busy: statistics.busyCount, refused: statistics.refusedCount,
            rejected: statistics.rejectedCount,
            latency: latencies.p50.flatMap { p50 in
                latencies.p99.map {
                    .init(p50Milliseconds: p50 / .milliseconds(1), p99Milliseconds: $0 / .milliseconds(1))
                }
            })
    }
}
