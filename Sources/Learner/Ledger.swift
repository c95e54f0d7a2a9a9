public import Protocol

/// Who works on which group, and what has become of it.
///
/// A pure value: events in (a lease is asked for, a result arrives, time passes), decisions out. It reads no clock, opens no
/// socket and holds no tensor, so every interleaving can be replayed in a test. A group is
/// `open -> leased -> scored -> trained`, back to `open` when a lease ends without a result, and `quarantined` when too many
/// leases failed. Times are milliseconds on the caller's monotonic clock.
///
/// A worker holds one group at a time. A group whose lease ended without a result is tried in rounds: everybody who can gets
/// one try before anybody gets the next, and a round after a failure waits, longer each time, for workers to come. So one bad
/// worker can neither hold a group up nor have it quarantined.
public struct Ledger: Sendable, Equatable {
    /// Where a group stands.
    public enum State: Sendable, Equatable {
        /// Waits for a worker.
        case open
        /// A worker has it until a time.
        case leased(worker: String, lease: LeaseID, until: Int)
        /// Its result is here.
        case scored(worker: String)
        /// It has entered an update.
        case trained
        /// It failed too often and is left out.
        case quarantined(cause: String)
    }

    /// One group of an epoch.
    public struct Entry: Sendable, Equatable {
        public let group: GroupID
        public let prompt: String
        public fileprivate(set) var state = State.open
        /// Leases given.
        public fileprivate(set) var leaseCount = 0
        /// Causes of the leases that ended in a failure, the last `causesKept` of them.
        public fileprivate(set) var failures: [String] = []
        /// When the state last changed.
        public fileprivate(set) var since: Int
        /// Workers whose lease of this round ended without a result, for whatever reason.
        fileprivate var triedBy: Set<String> = []
        /// Workers that reported a failure, in any round.
        fileprivate var failedBy: Set<String> = []
        /// Rounds in which somebody reported a failure.
        fileprivate var failedRounds = 0
        fileprivate var hasFailedThisRound = false
        /// When the next round may begin.
        fileprivate var roundFrom = 0

        fileprivate init(group: GroupID, prompt: String, since: Int) {
            (self.group, self.prompt, self.since) = (group, prompt, since)
        }
    }

    /// What becomes of a delivered result.
    public enum Verdict: Sendable, Equatable {
        /// It is the group's first and is kept.
        case accepted
        /// The group is scored already; the delivery is acknowledged and dropped.
        case duplicate
        /// It does not belong here.
        case refused(String)
    }

    /// Totals since the run began.
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

    /// How many of a group's failures keep their cause.
    public static let causesKept = 8
    /// How long a worker keeps a group without a sign of life.
    public let leaseMilliseconds: Int
    /// How long it keeps a group however often it says that it lives: a stuck computation lives too.
    public let longestLeaseMilliseconds: Int
    /// Failed rounds, or workers that failed it, after which a group is quarantined.
    public let failureLimit: Int
    /// The groups of the current epoch, in index order.
    public private(set) var entries: [Entry] = []
    /// Totals since the run began.
    public private(set) var counters: Counters
    private var nextLease: Int
    // What the entries say anyway, so that nobody searches thousands of them for every message.
    private var unfinishedCount = 0
    private var heldBy: [String: Int] = [:]
    /// No entry before this one is open.
    private var firstOpen = 0
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

    /// Opens an epoch's groups. The epoch before must be closed.
    public mutating func open(epoch: Int, prompts: [String], now: Int) {
        precondition(entries.allSatisfy(\.isClosed), "ledger: epoch \(epoch) opened over unfinished groups")
        entries = prompts.enumerated().map { index, prompt in
            Entry(group: GroupID(epoch: epoch, index: index), prompt: prompt, since: now)
        }
        reindex()
    }

    /// Goes back to a snapshot: its totals, and no groups. A group of an epoch that is run again counts once.
    ///
    /// Leases go on counting, so that none of an abandoned epoch has the number of one given later.
    public mutating func restore(_ counters: Counters) {
        entries = []
        self.counters = counters
        reindex()
    }

    /// Of entries that are all open.
    private mutating func reindex() {
        (unfinishedCount, heldBy, firstOpen, earliestEnd) = (entries.count, [:], 0, .max)
    }

    /// Gives the first open group to a worker, or nil when none is open that it should try.
    ///
    /// A worker that holds a group gets the same lease again, as it lost the answer or asked twice; a lease time after it got
    /// the group, it has given it up.
    ///
    /// - Parameters:
    ///   - worker: its name.
    ///   - now: the caller's monotonic clock, in milliseconds.
    ///   - othersCanTry: whether some other worker, none of those named, could take a group.
    public mutating func lease(
        to worker: String, now: Int, othersCanTry: (Set<String>) -> Bool = { _ in false }
    ) -> (entry: Entry, lease: LeaseID)? {
        expire(now: now)
        if let index = heldBy[worker], case .leased(_, let lease, _) = entries[index].state {
            if now < entries[index].since + leaseMilliseconds { return (entries[index], lease) }
            counters.expired += 1
            reopen(index, triedBy: worker, now: now)
        }
        while firstOpen < entries.count, entries[firstOpen].state != .open { firstOpen += 1 }
        let index = entries[firstOpen...].firstIndex { entry in
            entry.state == .open
                && (!entry.triedBy.contains(worker) || now >= entry.roundFrom && !othersCanTry(entry.triedBy))
        }
        guard let index else { return nil }
        if entries[index].triedBy.contains(worker) { entries[index].beginRound() }
        let lease = LeaseID(rawValue: nextLease)
        nextLease += 1
        counters.leased += 1
        entries[index].leaseCount += 1
        set(index, .leased(worker: worker, lease: lease, until: now + leaseMilliseconds), now: now)
        return (entries[index], lease)
    }

    /// Prolongs the lease a live worker holds on a group, within `longestLeaseMilliseconds` of its beginning.
    ///
    /// - Returns: whether the worker holds one.
    @discardableResult
    public mutating func renew(worker: String, group: GroupID, now: Int) -> Bool {
        guard let index = index(of: group), case .leased(worker, let lease, let until) = entries[index].state,
            now < until
        else { return false }
        let end = min(now + leaseMilliseconds, entries[index].since + longestLeaseMilliseconds)
        entries[index].state = .leased(worker: worker, lease: lease, until: max(until, end))
        return true
    }

    /// A result arrives. A late one, whose lease has ended, counts as long as nobody else delivered the group: its images
    /// are the same bits.
    public mutating func deliver(_ group: GroupID, worker: String, now: Int) -> Verdict {
        guard let index = index(of: group) else {
            counters.refused += 1
            return .refused("group \(group) is not open in this epoch")
        }
        switch entries[index].state {
        case .open, .leased:
            counters.accepted += 1
            set(index, .scored(worker: worker), now: now)
            return .accepted
        case .scored, .trained:
            counters.duplicates += 1
            return .duplicate
        case .quarantined(let cause):
            counters.refused += 1
            return .refused("group \(group) is quarantined: \(cause)")
        }
    }

    /// A delivery that must not count: wrong weights, another run, another discriminator version.
    ///
    /// The group is open again if the worker holds it under this lease; a late delivery under another changes nothing.
    public mutating func refuse(_ group: GroupID, worker: String, lease: LeaseID, now: Int) {
        counters.refused += 1
        guard let index = index(of: group), case .leased(worker, lease, _) = entries[index].state else { return }
        reopen(index, triedBy: worker, now: now)
    }

    /// A worker reports that it cannot make a group. A report on a lease that has ended changes nothing.
    ///
    /// The group is quarantined when `failureLimit` workers, or somebody in `failureLimit` rounds, have failed it.
    public mutating func fail(_ group: GroupID, worker: String, lease: LeaseID, cause: String, now: Int) {
        guard let index = index(of: group), case .leased(worker, lease, _) = entries[index].state else { return }
        counters.failed += 1
        entries[index].note(failure: cause, of: worker)
        if max(entries[index].failedRounds, entries[index].failedBy.count) >= failureLimit {
            counters.quarantined += 1
            set(index, .quarantined(cause: cause), now: now)
        } else {
            reopen(index, triedBy: worker, now: now)
        }
    }

    /// Opens every group whose lease has ended and returns them with the worker that held them.
    @discardableResult
    public mutating func expire(now: Int) -> [(group: GroupID, worker: String)] {
        guard earliestEnd <= now else { return [] }
        var ended: [(GroupID, String)] = []
        earliestEnd = .max
        for index in entries.indices {
            guard case .leased(let worker, _, let until) = entries[index].state else { continue }
            if until > now {
                earliestEnd = min(earliestEnd, until)
            } else {
                counters.expired += 1
                ended.append((entries[index].group, worker))
                reopen(index, triedBy: worker, now: now)
            }
        }
        return ended
    }

    /// Opens every group a departed worker held.
    public mutating func release(worker: String, now: Int) {
        if let index = heldBy[worker] { reopen(index, triedBy: worker, now: now) }
    }

    /// The epoch's scored groups have entered an update.
    public mutating func train(now: Int) {
        precondition(isComplete, "ledger: trained before every group was scored")
        for index in entries.indices {
            guard case .scored = entries[index].state else { continue }
            counters.trained += 1
            set(index, .trained, now: now)
        }
    }

    /// Whether nothing is left to sample: every group is scored, trained or quarantined.
    public var isComplete: Bool { unfinishedCount == 0 }

    /// Groups whose results are here and not yet trained, in index order.
    public var scoredGroups: [GroupID] { entries.filter(\.isScored).map(\.group) }

    /// Groups left out.
    public var quarantined: [Entry] {
        entries.filter { if case .quarantined = $0.state { true } else { false } }
    }

    /// How long the round after this one waits: a sixteenth of a lease after the first that failed, twice as long each time,
    /// a lease at most. Five failed rounds take about one lease.
    private func pause(after entry: Entry) -> Int {
        entry.hasFailedThisRound ? leaseMilliseconds << min(entry.failedRounds, 5) / 32 : 0
    }

    private mutating func set(_ index: Int, _ state: State, now: Int) {
        if case .leased(let worker, _, _) = entries[index].state { heldBy[worker] = nil }
        if case .leased(let worker, _, let until) = state {
            heldBy[worker] = index
            earliestEnd = min(earliestEnd, until)
        }
        if state == .open { firstOpen = min(firstOpen, index) }
        unfinishedCount -= entries[index].isUnfinished ? 1 : 0
        entries[index].set(state, now: now)
        unfinishedCount += entries[index].isUnfinished ? 1 : 0
    }

    private mutating func reopen(_ index: Int, triedBy worker: String, now: Int) {
        entries[index].note(tryOf: worker, roundFrom: now + pause(after: entries[index]))
        set(index, .open, now: now)
    }

    /// The prompt of a group of the epoch; nil when it has no such group.
    public func prompt(of group: GroupID) -> String? { index(of: group).map { entries[$0].prompt } }

    private func index(of group: GroupID) -> Int? {
        guard entries.indices.contains(group.index), entries[group.index].group == group else { return nil }
        return group.index
    }
}

extension Ledger.Entry {
    var isScored: Bool { if case .scored = state { true } else { false } }

    var isClosed: Bool {
        switch state {
        case .trained, .quarantined: true
        default: false
        }
    }

    fileprivate mutating func set(_ state: Ledger.State, now: Int) {
        self.state = state
        since = now
    }

    /// Whether its result is still to come.
    fileprivate var isUnfinished: Bool { !isScored && !isClosed }

    fileprivate mutating func note(tryOf worker: String, roundFrom: Int) {
        // Names are a stranger's to choose: what is remembered of them is bounded by starting over.
        if triedBy.count >= 1024 { triedBy = [] }
        triedBy.insert(worker)
        self.roundFrom = roundFrom
    }

    fileprivate mutating func note(failure cause: String, of worker: String) {
        failures.append(cause)
        if failures.count > Ledger.causesKept { failures.removeFirst() }
        // No more than the failure limit, at which the group is quarantined.
        failedBy.insert(worker)
        if !hasFailedThisRound { failedRounds += 1 }
        hasFailedThisRound = true
    }

    fileprivate mutating func beginRound() {
        triedBy = []
        hasFailedThisRound = false
    }
}
