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
        var task: TaskID?
        /// The task that the learner said is not this worker's any more.
        var lost: TaskID?
        /// How long a lease lasts without an answered heartbeat, and when this one ends.
        var lease: (duration: Duration, end: ContinuousClock.Instant)?
        var isRunning = false
        var runID: RunID?
        var version: PolicyVersion?
        var delivered = 0
        var failed = 0

        /// An answer to a heartbeat on the task that the worker is still at prolongs its lease, or says that it is lost.
        mutating func note(
            _ answer: HeartbeatAcknowledgement, to heartbeat: Heartbeat, sent: ContinuousClock.Instant
        ) {
            guard heartbeat.task == task else { return }
            lost = answer.lost
            if lost == nil, let duration = lease?.duration { lease?.end = sent + duration }
        }
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
    func enter(_ activity: Heartbeat.State, _ task: TaskID? = nil) {
        clock.enter(activity)
        state.withLock {
            $0.state = activity
            if $0.task != task { ($0.lost, $0.lease) = (nil, nil) }
            $0.task = task
        }
    }

    /// The worker begins to do a task.
    func begin(_ lease: Lease) {
        enter(lease.gradient == nil ? .rollingOut : .training, lease.task)
        let duration = Duration.milliseconds(lease.expiresInMilliseconds)
        state.withLock { $0.lease = (duration, .now + duration) }
    }

    /// Whether a task is not this worker's any more: the learner has said so, or has not answered for as long as a lease lasts.
    func hasLost(_ task: TaskID) -> Bool {
        state.withLock { $0.lost == task || $0.task == task && $0.lease.map { $0.end < .now } ?? false }
    }

    /// The run this worker has joined.
    func joined(_ runID: RunID) { state.withLock { $0.runID = runID } }

    /// The policy version it samples with.
    func holds(_ version: PolicyVersion?) { state.withLock { $0.version = version } }

    /// A task was delivered, or could not be done.
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
            reason: state.state.rawValue + (state.task.map { " \($0)" } ?? ""), runID: state.runID,
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
                let begin = ContinuousClock.now
                let heartbeat = heartbeat()
                // A lost heartbeat is made up for by the next one.
                let answer = try? learner.requestBlocking(heartbeat, deadline: interval * 4)
                if let answer { state.withLock { $0.note(answer, to: heartbeat, sent: begin) } }
                sleepBriefly(answer?.nextInMilliseconds.map { .milliseconds($0) } ?? interval)
            }
        }
    }

    func stop() { state.withLock { $0.isRunning = false } }

    private func heartbeat() -> Heartbeat {
        let (activity, task) = state.withLock { ($0.state, $0.task) }
        return Heartbeat(worker: name, state: activity, task: task, seconds: clock.seconds())
    }
}
