public import Protocol

/// One task and what has become of it.
extension Ledger {
    /// Where a task stands.
    public enum State: Sendable, Equatable {
        /// Waits for a worker.
        case open
        /// A worker has it until a time.
        case leased(worker: String, lease: LeaseID, until: Int)
        /// Its result is here.
        case done(worker: String)
        /// Its result was used: a group has entered an update, a gradient was added to its step's.
        case closed
        /// It failed too often and is left out.
        case quarantined(cause: String)
    }

    /// One task.
    public struct Entry: Sendable, Equatable {
        public let task: TaskID
        public let prompt: String
        /// Who would do it fastest, as it holds what the task is made of; nil: all alike.
        public let preferred: String?
        public private(set) var state = State.open
        /// Leases given.
        public fileprivate(set) var leaseCount = 0
        /// Causes of the leases that ended in a failure, the last `causesKept` of them.
        public private(set) var failures: [String] = []
        /// When the state last changed.
        public private(set) var since: Int
        /// Workers whose lease of this round ended without a result, for whatever reason.
        private(set) var triedBy: Set<String> = []
        /// Workers that reported a failure, in any round.
        private var failedBy: Set<String> = []
        /// Rounds in which somebody reported a failure.
        private(set) var failedRounds = 0
        private(set) var hasFailedThisRound = false
        /// When the next round may begin.
        private(set) var roundFrom = 0

        init(task: TaskID, prompt: String, preferred: String?, since: Int) {
            (self.task, self.prompt, self.preferred, self.since) = (task, prompt, preferred, since)
        }

        /// Workers that failed it, or rounds that did, whichever are more.
        var failureCount: Int { max(failedRounds, failedBy.count) }

        var isDone: Bool { if case .done = state { true } else { false } }

        var isClosed: Bool {
            switch state {
            case .closed, .quarantined: true
            default: false
            }
        }

        /// Whether its result is still to come.
        var isUnfinished: Bool { !isDone && !isClosed }

        mutating func set(_ state: State, now: Int) {
            self.state = state
            since = now
        }

        /// The same lease, to end at another time.
        mutating func prolong(worker: String, lease: LeaseID, until: Int) {
            state = .leased(worker: worker, lease: lease, until: until)
        }

        mutating func lease(to worker: String, _ lease: LeaseID, until: Int, now: Int) {
            if triedBy.contains(worker) {
                triedBy = []
                hasFailedThisRound = false
            }
            leaseCount += 1
            set(.leased(worker: worker, lease: lease, until: until), now: now)
        }

        mutating func note(tryOf worker: String, roundFrom: Int) {
            // Names are a stranger's to choose: what is remembered of them is bounded by starting over.
            if triedBy.count >= 1024 { triedBy = [] }
            triedBy.insert(worker)
            self.roundFrom = roundFrom
        }

        mutating func note(failure cause: String, of worker: String) {
            failures.append(cause)
            if failures.count > Ledger.causesKept { failures.removeFirst() }
            // No more than the failure limit, at which the task is quarantined.
            failedBy.insert(worker)
            if !hasFailedThisRound { failedRounds += 1 }
            hasFailedThisRound = true
        }
    }
}

/// The tasks of one kind that were opened together, in order.
struct TaskBatch: Sendable, Equatable {
    private(set) var entries: [Ledger.Entry]
    /// How far beyond the first task that is not closed one may be given out.
    private let window: Int
    private let places: [TaskID: Int]
    // What the entries say anyway, so that nobody searches thousands of them for every message.
    private(set) var unfinishedCount: Int
    /// Entries that are open.
    private(set) var openCount: Int
    /// No entry before this one is open.
    private var firstOpen = 0
    /// All entries before this one are closed.
    private var firstUnclosed = 0

    /// A batch of open tasks.
    init(_ entries: [Ledger.Entry] = [], window: Int = .max) {
        self.entries = entries
        self.window = window
        places = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.task, $0) })
        (unfinishedCount, openCount) = (entries.count, entries.count)
    }

    subscript(task: TaskID) -> Ledger.Entry? { places[task].map { entries[$0] } }

    /// Changes an entry.
    mutating func change(_ task: TaskID, _ change: (inout Ledger.Entry) -> Void) {
        guard let index = places[task] else { return }
        unfinishedCount -= entries[index].isUnfinished ? 1 : 0
        openCount -= entries[index].state == .open ? 1 : 0
        change(&entries[index])
        unfinishedCount += entries[index].isUnfinished ? 1 : 0
        openCount += entries[index].state == .open ? 1 : 0
        if entries[index].state == .open { firstOpen = min(firstOpen, index) }
        while firstUnclosed < entries.count, entries[firstUnclosed].isClosed { firstUnclosed += 1 }
    }

    /// What a worker is to do of this batch: the first task that it does best, or the first that nobody who is idle does better.
    mutating func next(
        for worker: String, now: Int, isIdle: (String) -> Bool, othersCanTry: (Set<String>) -> Bool
    ) -> TaskID? {
        guard openCount > 0 else { return nil }
        while firstOpen < entries.count, entries[firstOpen].state != .open { firstOpen += 1 }
        let end = window < entries.count ? min(entries.count, firstUnclosed + window) : entries.count
        var other: TaskID?
        for index in firstOpen..<max(firstOpen, end) {
            let entry = entries[index]
            guard entry.state == .open,
                !entry.triedBy.contains(worker) || now >= entry.roundFrom && !othersCanTry(entry.triedBy)
            else { continue }
            guard let preferred = entry.preferred, preferred != worker else { return entry.task }
            if other == nil, !isIdle(preferred) || entry.triedBy.contains(preferred) { other = entry.task }
        }
        return other
    }
}
