public import Protocol

/// What became of the requests of one kind that came since a server was opened.
public struct KindStatistics: Sendable, Equatable {
    /// Requests that got the reply they asked for.
    public internal(set) var answeredCount = 0
    /// Requests turned away because too much was in progress, or the server was about to end.
    public internal(set) var busyCount = 0
    /// Requests refused with any other failure: not allowed, of another run, not possible now, not done.
    public internal(set) var refusedCount = 0
    /// Requests refused because they break the protocol.
    public internal(set) var rejectedCount = 0
    /// From arrival at the socket to the reply, waiting for one's turn included, of those that were answered or refused.
    public internal(set) var latencies = RecentLatencies()

    /// Counts a request by the code of the failure that answered it.
    ///
    /// - Parameters:
    ///   - code: nil for one that was answered.
    ///   - latency: nil for one that nobody was asked to do.
    mutating func count(_ code: FailureCode?, latency: Duration?) {
        switch code {
        case nil: answeredCount += 1
        case .busy?: return busyCount += 1
        case let code? where FailureCode.ofBrokenProtocol.contains(code): return rejectedCount += 1
        default: refusedCount += 1
        }
        if let latency { latencies.record(latency) }
    }
}

extension FailureCode {
    /// What says that a request is not as the protocol wants it, whatever the server's state.
    static let ofBrokenProtocol: Set<FailureCode> = [
        .badFraming, .unsupportedVersion, .unknownKind, .malformedTensors, .malformedFields, .invalidValue,
        .limitExceeded,
    ]
}

/// What a server has done since it was opened.
public struct ServerStatistics: Sendable, Equatable {
    /// Requests handed to the handler.
    public internal(set) var requestCount = 0
    /// Repetitions of known requests.
    public internal(set) var repetitionCount = 0
    /// Replies sent, repetitions included.
    public internal(set) var replyCount = 0
    /// Requests by what they ask; those in progress are not counted yet.
    public internal(set) var kinds: [MessageKind: KindStatistics] = [:]
    /// Connections refused because of their key, or because their peer had too many.
    public internal(set) var refusedConnectionCount = 0
    /// Messages that could not be read as a request of any kind.
    public internal(set) var rejectedCount = 0
    /// Replies that could not be sent because the peer had gone or does not read; it asks again if it still wants them.
    public internal(set) var undeliverableCount = 0
    /// Requests in progress now.
    public internal(set) var inProgressCount = 0
    /// Bytes received in requests.
    public internal(set) var receivedByteCount = 0
    /// Bytes sent in replies.
    public internal(set) var sentByteCount = 0

    /// Requests turned away because too much was in progress.
    public var busyCount: Int { kinds.values.reduce(0) { $0 + $1.busyCount } }
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
