import Platform
import Processes
import Protocol
import Synchronization
import Transport

/// Tells the learner twice a second what this worker does, from a thread of its own, so that a long computation does not look
/// like a death.
final class WorkerReporter: Sendable {
    private struct State {
        var state = Heartbeat.State.starting
        var group: GroupID?
        /// The group that the learner said is not this worker's any more.
        var lost: GroupID?
        var isRunning = false
        var runID: RunID?
        var version: PolicyVersion?
        var delivered = 0
        var failed = 0
    }

    private let name: String
    private let learner: Client
    /// Where the worker's time goes.
    let clock = RoleClock(Heartbeat.State.starting)
    private let state = Mutex(State())
    private let interval = Duration.milliseconds(500)

    init(name: String, learner: Client) {
        self.name = name
        self.learner = learner
    }

    /// What the worker does from now on.
    func enter(_ activity: Heartbeat.State, group: GroupID? = nil) {
        clock.enter(activity)
        state.withLock {
            $0.state = activity
            if $0.group != group { $0.lost = nil }
            $0.group = group
        }
    }

    /// Whether the learner has said that a group is not this worker's any more.
    func hasLost(_ group: GroupID) -> Bool { state.withLock { $0.lost == group } }

    /// The run this worker has joined.
    func joined(_ runID: RunID) { state.withLock { $0.runID = runID } }

    /// The policy version it samples with.
    func holds(_ version: PolicyVersion?) { state.withLock { $0.version = version } }

    /// A group was delivered, or could not be made.
    func count(delivered: Int = 0, failed: Int = 0) {
        state.withLock {
            $0.delivered += delivered
            $0.failed += failed
        }
    }

    /// What `advgrpo health` shows.
    func health() -> RoleHealth {
        let state = state.withLock { $0 }
        return RoleHealth(
            serving: state.runID != nil,
            reason: state.state.rawValue + (state.group.map { " group \($0)" } ?? ""), runID: state.runID,
            version: state.version?.rawValue,
            counters: ["groupsDelivered": Double(state.delivered), "groupsFailed": Double(state.failed)])
    }

    /// Begins to report; does nothing when it has begun.
    func start() {
        let wasRunning = state.withLock { state in
            defer { state.isRunning = true }
            return state.isRunning
        }
        if wasRunning { return }
        OSThread.start("heartbeat") { [self] in
            while state.withLock({ $0.isRunning }) {
                // A lost heartbeat is made up for by the next one.
                let answer = try? learner.requestBlocking(heartbeat(), deadline: interval * 4)
                if let answer { state.withLock { $0.lost = answer.lost } }
                sleepBriefly(answer?.nextInMilliseconds.map { .milliseconds($0) } ?? interval)
            }
        }
    }

    func stop() { state.withLock { $0.isRunning = false } }

    private func heartbeat() -> Heartbeat {
        let (activity, group) = state.withLock { ($0.state, $0.group) }
        return Heartbeat(worker: name, state: activity, group: group, seconds: clock.seconds())
    }
}
