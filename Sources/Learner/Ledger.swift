public import Protocol

/// Who works on which task, and what has become of it.
///
/// A pure value: events in (a lease is asked for, a result arrives, time passes), decisions out. It reads no clock, opens no
/// socket and holds no tensor, so every interleaving can be replayed in a test. A task is
/// `open -> leased -> done -> closed`, back to `open` when a lease ends without a result, and `quarantined` when too many
/// leases failed. Times are milliseconds on the caller's monotonic clock.
///
/// There is one batch of tasks of each kind at a time: an epoch's groups to roll out, an optimiser step's gradients. What comes first
/// in `TaskKind` is given out first. A worker holds one task at a time. A task whose lease ended without a result is tried in
/// rounds: everybody who can gets one try before anybody gets the next, and a round after a failure waits, longer each time, for
/// workers to come. So one bad worker can neither hold a task up nor have it quarantined.
public struct Ledger: Sendable, Equatable {
    /// What becomes of a delivered result.
    public enum Verdict: Sendable, Equatable {
        /// It is the task's first and is kept.
        case accepted
        /// The task is done already; the delivery is acknowledged and dropped.
        case duplicate
        /// It does not belong here.
        case refused(String)
    }

    /// A group whose gradient is to be made.
    public struct GradientTask: Sendable, Equatable {
        public let group: GroupID
        public let prompt: String
        /// Who sampled the group, and holds its trajectory.
        public let preferred: String?

        public init(group: GroupID, prompt: String, preferred: String?) {
            self.group = group
            self.prompt = prompt
            self.preferred = preferred
        }
    }

    /// Totals of tasks of one kind; a gradient that was added counts as trained.
    public struct Counters: Sendable, Equatable, Codable {
        public var leased = 0
        public var expired = 0
        public var failed = 0
        public var accepted = 0
        public var duplicates = 0
        public var refused = 0
        public var trained = 0
        public var quarantined = 0
        public init() {}
    }

    /// How many of a task's failures keep their cause.
    public static let causesKept = 8
    /// How long a worker keeps a task without a sign of life.
    public let leaseMilliseconds: Int
    /// How long it keeps a task however often it says that it lives: a stuck computation lives too.
    public let longestLeaseMilliseconds: Int
    /// Failed rounds, or workers that failed it, after which a task is quarantined.
    public let failureLimit: Int
    /// Totals of rollouts since the run began.
    public private(set) var counters: Counters
    /// Totals of gradients since the learner began or went back to a snapshot.
    public private(set) var gradientCounters = Counters()
    private var batches: [TaskKind: TaskBatch] = [:]
    private var nextLease: Int
    private var heldBy: [String: TaskID] = [:]
    /// No lease ends before this time.
    private var earliestEnd = Int.max

    /// An empty ledger.
    ///
    /// - Parameters:
    ///   - leaseMilliseconds: at least 1; heartbeats prolong a lease up to ten times this.
    ///   - failureLimit: at least 1.
    ///   - firstLease: number of the first lease. A learner that is started again must not give a number a second time:
    ///     what was sent under the old lease may still arrive.
    ///   - counters: totals of the run so far, from a snapshot.
    public init(
        leaseMilliseconds: Int, failureLimit: Int = 5, firstLease: Int = 1, counters: Counters = Counters()
    ) {
        precondition(leaseMilliseconds >= 1 && failureLimit >= 1, "ledger: \(leaseMilliseconds) ms, \(failureLimit)")
        self.leaseMilliseconds = leaseMilliseconds
        longestLeaseMilliseconds = 10 * leaseMilliseconds
        self.failureLimit = failureLimit
        self.counters = counters
        nextLease = firstLease
    }

    // MARK: Batches

    /// Opens an epoch's groups. Those of the epoch before must be closed.
    public mutating func open(epoch: Int, prompts: [String], now: Int) {
        open(
            .rollout,
            prompts.enumerated().map { index, prompt in
                Entry(
                    task: .rollout(GroupID(epoch: epoch, index: index)), prompt: prompt, preferred: nil, since: now)
            })
    }

    /// Opens the gradients of an optimiser step. Those of the step before must be closed.
    ///
    /// - Parameters:
    ///   - update: which of the epoch's steps.
    ///   - groups: in the order in which they are added up.
    ///   - window: how many of them may be out or wait to be added up at a time, at least 1.
    public mutating func open(update: Int, of groups: [GradientTask], window: Int, now: Int) {
        precondition(window >= 1, "ledger: a window of \(window)")
        open(
            .gradient,
            groups.map {
                Entry(
                    task: .gradient($0.group, update: update), prompt: $0.prompt, preferred: $0.preferred, since: now)
            }, window: window)
    }

    private mutating func open(_ kind: TaskKind, _ entries: [Entry], window: Int = .max) {
        precondition(
            self.entries(of: kind).allSatisfy(\.isClosed), "ledger: a batch was opened over unfinished tasks")
        batches[kind] = TaskBatch(entries, window: window)
    }

    /// Goes back to a snapshot: its totals, and no tasks. A group of an epoch that is run again counts once.
    ///
    /// Leases go on counting, so that none of an abandoned epoch has the number of one given later.
    public mutating func restore(_ counters: Counters) {
        (batches, heldBy, earliestEnd) = ([:], [:], .max)
        self.counters = counters
        gradientCounters = Counters()
    }

    /// Those of the batch that was opened last, in order.
    public func entries(of kind: TaskKind) -> [Entry] { batches[kind]?.entries ?? [] }

    /// A task of a batch that is open; nil when there is no such.
    public subscript(task: TaskID) -> Entry? { batches[task.kind]?[task] }

    /// Whether nothing is left to do: every task is done, closed or quarantined.
    public func isComplete(_ kind: TaskKind) -> Bool { batches[kind].map { $0.unfinishedCount == 0 } ?? true }

    /// Whether some task waits for a worker.
    public var hasOpen: Bool { batches.values.contains { $0.openCount > 0 } }

    /// Groups whose results are here and that have not entered an update yet, in order.
    public var scoredGroups: [GroupID] { entries(of: .rollout).filter(\.isDone).map(\.task.group) }

    /// Tasks left out.
    public func quarantined(_ kind: TaskKind) -> [Entry] {
        entries(of: kind).filter { if case .quarantined = $0.state { true } else { false } }
    }

    // MARK: Leases

    /// Gives the first open task to a worker, or nil when none is open that it should try.
    ///
    /// A worker that holds a task gets the same lease again, as it lost the answer or asked twice; a lease time after it got
    /// the task, it has given it up.
    ///
    /// - Parameters:
    ///   - worker: its name.
    ///   - now: the caller's monotonic clock, in milliseconds.
    ///   - isIdle: whether another worker waits for work as well.
    ///   - othersCanTry: whether some other worker, none of those named, could take a task.
    public mutating func lease(
        to worker: String, now: Int, isIdle: (String) -> Bool = { _ in false },
        othersCanTry: (Set<String>) -> Bool = { _ in false }
    ) -> (entry: Entry, lease: LeaseID)? {
        expire(now: now)
        if let task = heldBy[worker], let entry = self[task], case .leased(_, let lease, _) = entry.state {
            if now < entry.since + leaseMilliseconds { return (entry, lease) }
            count(task) { $0.expired += 1 }
            reopen(task, triedBy: worker, now: now)
        }
        for kind in TaskKind.allCases {
            guard
                let task = batches[kind]?.next(for: worker, now: now, isIdle: isIdle, othersCanTry: othersCanTry)
            else { continue }
            let lease = LeaseID(rawValue: nextLease)
            nextLease += 1
            count(task) { $0.leased += 1 }
            let until = now + leaseMilliseconds
            change(task) { $0.lease(to: worker, lease, until: until, now: now) }
            heldBy[worker] = task
            earliestEnd = min(earliestEnd, until)
            return self[task].map { ($0, lease) }
        }
        return nil
    }

    /// Prolongs the lease a live worker holds on a task, within `longestLeaseMilliseconds` of its beginning.
    ///
    /// - Returns: whether the worker holds one.
    @discardableResult
    public mutating func renew(worker: String, task: TaskID, now: Int) -> Bool {
        guard let entry = self[task], case .leased(worker, let lease, let until) = entry.state, now < until else {
            return false
        }
        let end = min(now + leaseMilliseconds, entry.since + longestLeaseMilliseconds)
        change(task) { $0.prolong(worker: worker, lease: lease, until: max(until, end)) }
        return true
    }

    /// Opens every task whose lease has ended and returns them with the worker that held them.
    @discardableResult
    public mutating func expire(now: Int) -> [(task: TaskID, worker: String)] {
        guard earliestEnd <= now else { return [] }
        var ended: [(TaskID, String)] = []
        earliestEnd = .max
        for task in heldBy.values.sorted(by: { ($0.kind.rawValue, $0.group) < ($1.kind.rawValue, $1.group) }) {
            guard case .leased(let worker, _, let until) = self[task]?.state else { continue }
            if until > now {
                earliestEnd = min(earliestEnd, until)
            } else {
                count(task) { $0.expired += 1 }
                ended.append((task, worker))
                reopen(task, triedBy: worker, now: now)
            }
        }
        return ended
    }

    /// Opens the task that a departed worker held.
    public mutating func release(worker: String, now: Int) {
        if let task = heldBy[worker] { reopen(task, triedBy: worker, now: now) }
    }

    // MARK: Results

    /// A result arrives. A late one, whose lease has ended, counts as long as nobody else delivered the task: it is
    /// the same bits.
    public mutating func deliver(_ task: TaskID, worker: String, now: Int) -> Verdict {
        guard let entry = self[task] else {
            count(task) { $0.refused += 1 }
            return .refused("\(task) is not open in this epoch")
        }
        switch entry.state {
        case .open, .leased:
            count(task) { $0.accepted += 1 }
            set(task, .done(worker: worker), now: now)
            return .accepted
        case .done, .closed:
            count(task) { $0.duplicates += 1 }
            return .duplicate
        case .quarantined(let cause):
            count(task) { $0.refused += 1 }
            return .refused("\(task) is quarantined: \(cause)")
        }
    }

    /// A delivery that must not count: wrong weights, another run, another discriminator version.
    ///
    /// The task is open again if the worker holds it under this lease; a late delivery under another changes nothing.
    public mutating func refuse(_ task: TaskID, worker: String, lease: LeaseID, now: Int) {
        count(task) { $0.refused += 1 }
        guard case .leased(worker, lease, _) = self[task]?.state else { return }
        reopen(task, triedBy: worker, now: now)
    }

    /// A worker reports that it cannot do a task. A report on a lease that has ended changes nothing.
    ///
    /// The task is quarantined when `failureLimit` workers, or somebody in `failureLimit` rounds, have failed it.
    public mutating func fail(_ task: TaskID, worker: String, lease: LeaseID, cause: String, now: Int) {
        guard case .leased(worker, lease, _) = self[task]?.state else { return }
        count(task) { $0.failed += 1 }
        change(task) { $0.note(failure: cause, of: worker) }
        if self[task]?.failureCount ?? 0 >= failureLimit {
            count(task) { $0.quarantined += 1 }
            set(task, .quarantined(cause: cause), now: now)
        } else {
            reopen(task, triedBy: worker, now: now)
        }
    }

    /// The epoch's scored groups have entered an update.
    public mutating func train(now: Int) {
        precondition(isComplete(.rollout), "ledger: trained before every group was scored")
        for group in scoredGroups { close(.rollout(group), now: now) }
    }

    /// A result was used.
    public mutating func close(_ task: TaskID, now: Int) {
        precondition(self[task]?.isDone == true, "ledger: \(task) was closed before it was done")
        count(task) { $0.trained += 1 }
        set(task, .closed, now: now)
    }

    /// How long the round after this one waits: a sixteenth of a lease after the first that failed, twice as long each time,
    /// a lease at most. Five failed rounds take about one lease.
    private func pause(after entry: Entry) -> Int {
        entry.hasFailedThisRound ? leaseMilliseconds << min(entry.failedRounds, 5) / 32 : 0
    }

    private mutating func count(_ task: TaskID, _ change: (inout Counters) -> Void) {
        switch task.kind {
        case .rollout: change(&counters)
        case .gradient: change(&gradientCounters)
        }
    }

    private mutating func change(_ task: TaskID, _ change: (inout Entry) -> Void) {
        batches[task.kind]?.change(task, change)
    }

    private mutating func set(_ task: TaskID, _ state: State, now: Int) {
        if case .leased(let worker, _, _) = self[task]?.state { heldBy[worker] = nil }
        change(task) { $0.set(state, now: now) }
    }

    private mutating func reopen(_ task: TaskID, triedBy worker: String, now: Int) {
        let pause = self[task].map(pause) ?? 0
        change(task) { $0.note(tryOf: worker, roundFrom: now + pause) }
        set(task, .open, now: now)
    }
}
