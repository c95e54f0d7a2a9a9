/// What a server has done since it was opened.
public struct ServerStatistics: Sendable, Equatable {
    /// Requests handed to the handler.
    public internal(set) var requestCount = 0
    /// Repetitions of known requests.
    public internal(set) var repetitionCount = 0
    /// Replies sent, repetitions included.
    public internal(set) var replyCount = 0
    /// Requests refused because their peer had too many in progress.
    public internal(set) var busyCount = 0
    /// Connections refused because of their key, or because their peer had too many.
    public internal(set) var refusedConnectionCount = 0
    /// Messages dropped or refused because they break the protocol.
    public internal(set) var rejectedCount = 0
    /// Replies that could not be sent because the peer had gone or does not read; it asks again if it still wants them.
    public internal(set) var undeliverableCount = 0
    /// Requests in progress now.
    public internal(set) var inProgressCount = 0
    /// Bytes received in requests.
    public internal(set) var receivedByteCount = 0
    /// Bytes sent in replies.
    public internal(set) var sentByteCount = 0
    private var latencies: [Double] = []
    private var nextLatency = 0

    /// Times from arrival to reply in milliseconds, of the last 1024 requests at most: the time half of them took, and the
    /// time 99 of 100 took. Nil before the first reply.
    public var latencyMilliseconds: (p50: Double, p99: Double)? {
        guard !latencies.isEmpty else { return nil }
        let sorted = latencies.sorted()
        func quantile(_ share: Double) -> Double { sorted[Int((Double(sorted.count - 1) * share).rounded())] }
        return (quantile(0.5), quantile(0.99))
    }

    mutating func add(latency: Duration) {
        let milliseconds = latency / .milliseconds(1)
        if latencies.count < 1024 {
            latencies.append(milliseconds)
        } else {
            latencies[nextLatency] = milliseconds
            nextLatency = (nextLatency + 1) % 1024
        }
    }
}

/// A message or connection that a server did not accept.
public struct Rejection: Sendable, Equatable, CustomStringConvertible {
    /// Who it came from, as far as that is proven: the name of its key, else its address.
    public let peer: String
    /// What it calls itself, else its connection.
    public let name: String
    /// Network address, for `ipc` with the peer's process; empty for `inproc`.
    public let address: String
    /// What is wrong with it.
    public let reason: String
    /// Rejections, of whomever, that were only counted since the last report.
    public let unreportedCount: Int

    /// One line.
    public var description: String {
        let origin = peer == address || address.isEmpty ? name : "\(name), \(address)"
        let others = unreportedCount > 0 ? "; \(unreportedCount) more since the last such line" : ""
        return "refused \(peer) (\(origin)): \(reason)\(others)"
    }
}
