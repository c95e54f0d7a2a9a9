import Protocol
import Runtime
import Transport

/// Requests that need the compute thread: every peer's in order of arrival, the peers in turn, so that one with many does not
/// keep the others waiting. How many wait is bounded by what the server lets each peer have in progress.
final class JobQueue: Sendable {
    private struct Waiting {
        var requests: [Request.Peer: [Request]] = [:]
        /// Peers with requests; the first one's turn is next.
        var turns: [Request.Peer] = []
    }

    private let waiting = Monitor(Waiting())

    /// Puts a request behind its peer's others.
    func add(_ request: Request) {
        waiting.withLock { waiting in
            if waiting.requests[request.peer] == nil { waiting.turns.append(request.peer) }
            waiting.requests[request.peer, default: []].append(request)
        }
    }

    /// The next request; nil after `limit`.
    func next(limit: Duration) -> Request? {
        waiting.wait(for: "a request", limit: limit) { waiting in
            guard let peer = waiting.turns.first, let request = waiting.requests[peer]?.removeFirst() else {
                return nil
            }
            waiting.turns.removeFirst()
            if waiting.requests[peer]?.isEmpty == true {
                waiting.requests[peer] = nil
            } else {
                waiting.turns.append(peer)
            }
            return request
        }
    }

    /// Requests that wait.
    var count: Int { waiting.withLock { $0.requests.values.reduce(0) { $0 + $1.count } } }
}
