import Protocol
import Runtime
import Transport

/// Requests that need the compute thread, in order of arrival, at most `capacity` of them.
final class JobQueue: Sendable {
    /// Most requests that wait.
    let capacity: Int
    private let waiting = Monitor<[Request]>([])

    init(capacity: Int) { self.capacity = capacity }

    /// Puts a request at the end, or answers it with `busy`.
    func add(_ request: Request) {
        let isAdded = waiting.withLock { requests in
            guard requests.count < capacity else { return false }
            requests.append(request)
            return true
        }
        if !isAdded {
            request.fail(
                Failure(
                    code: "busy", message: "the reward server has \(capacity) requests waiting",
                    remedy: "try again later"))
        }
    }

    /// The first request; nil after `limit`.
    func next(limit: Duration) -> Request? {
        waiting.wait(for: "a request", limit: limit) { $0.isEmpty ? nil : $0.removeFirst() }
    }

    var count: Int { waiting.withLock { $0.count } }
}
