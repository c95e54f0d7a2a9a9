import Processes
import Protocol
import Transport

/// What the compute thread does for a requester.
struct Job: Sendable {
    /// Who waits for an answer.
    let request: Request
    /// Makes the answer; nil where it comes later, from elsewhere.
    let work: @Sendable (inout CurrentDiscriminator) throws -> (any WireMessage)?
}

/// Requests that need the compute thread: every peer's in order of arrival, the peers in turn, so that one with many does not
/// keep the others waiting. How many wait is bounded by what the server lets each peer have in progress.
final class JobQueue: Sendable {
    private struct Waiting {
        var jobs: [Request.Peer: [Job]] = [:]
        /// Peers with jobs; the first one's turn is next.
        var turns: [Request.Peer] = []
        /// What everybody is told once nothing is worked on any more.
        var ending: Failure?
    }

    private let waiting = SharedState(Waiting())

    /// Puts a job behind its peer's others, or refuses it when the queue is closed.
    func add(_ job: Job) {
        let peer = job.request.peer
        let ending = waiting.withLock { waiting in
            if waiting.ending == nil {
                if waiting.jobs[peer] == nil { waiting.turns.append(peer) }
                waiting.jobs[peer, default: []].append(job)
            }
            return waiting.ending
        }
        if let ending { job.request.fail(ending) }
    }

    /// Refuses all that wait, and whatever comes from now on.
    func close(_ failure: Failure) {
        let left = waiting.withLock { waiting in
            waiting.ending = failure
            waiting.turns = []
            defer { waiting.jobs = [:] }
            return waiting.jobs.values.flatMap { $0 }
        }
        for job in left { job.request.fail(failure) }
    }

    /// The next job; nil after `limit`.
    func next(limit: Duration) -> Job? {
        waiting.wait(for: "a request", limit: limit) { waiting in
            guard let peer = waiting.turns.first, let job = waiting.jobs[peer]?.removeFirst() else { return nil }
            waiting.turns.removeFirst()
            if waiting.jobs[peer]?.isEmpty == true {
                waiting.jobs[peer] = nil
            } else {
                waiting.turns.append(peer)
            }
            return job
        }
    }

    /// Jobs that wait.
    var count: Int { waiting.withLock { $0.jobs.values.reduce(0) { $0 + $1.count } } }
}
