public import Protocol

/// Who works on which group, and what has become of it.
///
/// A pure value: events in (a lease is asked for, a result arrives, time passes), decisions out. It reads no clock, opens no
/// socket and holds no tensor, so every interleaving can be replayed in a test. A group is
/// `open -> leased -> scored -> trained`, back to `open` when a lease ends without a result, and `quarantined` when too many
/// leases failed. Times are milliseconds on the caller's monotonic clock.
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
        public fileprivate(set) var state: State
        /// Leases given so far.
        public fileprivate(set) var leaseCount: Int
        /// Leases that ended in a failure, with the last cause.
        public fileprivate(set) var failures: [String]
        /// When the state last changed.
        public fileprivate(set) var since: Int
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

    /// How long a worker keeps a group.
    public let leaseMilliseconds: Int
    /// Failed leases after which a group is quarantined.
    public let failureLimit: Int
    /// The groups of the current epoch, in index order.
    public private(set) var entries: [Entry] = []
    /// Totals since the run began.
    public private(set) var counters: Counters
    private var nextLease = 1

    /// An empty ledger.
    ///
    /// - Parameters:
    ///   - leaseMilliseconds: at least 1.
    ///   - failureLimit: at least 1.
    ///   - counters: totals of the run so far, from a snapshot.
    public init(leaseMilliseconds: Int, failureLimit: Int = 5, counters: Counters = Counters()) {
        precondition(
            leaseMilliseconds >= 1 && failureLimit >= 1, "ledger: lease \(leaseMilliseconds), limit \(failureLimit)")
        self.leaseMilliseconds = leaseMilliseconds
        self.failureLimit = failureLimit
        self.counters = counters
    }

    /// Opens an epoch's groups. The epoch before must be closed.
    public mutating func open(epoch: Int, prompts: [String], now: Int) {
        precondition(entries.allSatisfy(\.isClosed), "ledger: epoch \(epoch) opened over unfinished groups")
        entries = prompts.enumerated().map { index, prompt in
            Entry(
                group: GroupID(epoch: epoch, index: index), prompt: prompt, state: .open, leaseCount: 0, failures: [],
                since: now)
        }
    }

    /// Goes back to a snapshot: its totals, and no groups. A group of an epoch that is run again counts once.
    ///
    /// Leases go on counting, so that none of an abandoned epoch has the number of one given later.
    public mutating func restore(_ counters: Counters) {
        entries = []
        self.counters = counters
    }

    /// Gives the first open group to a worker, or nil when none is open.
    public mutating func lease(to worker: String, now: Int) -> (entry: Entry, lease: LeaseID)? {
        expire(now: now)
        guard let index = entries.firstIndex(where: { $0.state == .open }) else { return nil }
        let lease = LeaseID(rawValue: nextLease)
        nextLease += 1
        counters.leased += 1
        entries[index].leaseCount += 1
        entries[index].set(.leased(worker: worker, lease: lease, until: now + leaseMilliseconds), now: now)
        return (entries[index], lease)
    }

    /// Prolongs the lease a live worker holds on a group.
    public mutating func renew(worker: String, group: GroupID, now: Int) {
        guard let index = index(of: group), case .leased(worker, let lease, _) = entries[index].state else { return }
        entries[index].state = .leased(worker: worker, lease: lease, until: now + leaseMilliseconds)
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
            entries[index].set(.scored(worker: worker), now: now)
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
    public mutating func refuse(_ group: GroupID, worker: String, now: Int) {
        counters.refused += 1
        reopen(group, heldBy: worker, now: now)
    }

    /// A worker reports that it cannot make a group. After `failureLimit` failures the group is quarantined.
    public mutating func fail(_ group: GroupID, worker: String, cause: String, now: Int) {
        guard let index = index(of: group), case .leased(worker, _, _) = entries[index].state else { return }
        counters.failed += 1
        entries[index].failures.append(cause)
        if entries[index].failures.count >= failureLimit {
            counters.quarantined += 1
            entries[index].set(.quarantined(cause: cause), now: now)
        } else {
            entries[index].set(.open, now: now)
        }
    }

    /// Opens every group whose lease has ended and returns them with the worker that held them.
    @discardableResult
    public mutating func expire(now: Int) -> [(group: GroupID, worker: String)] {
        var ended: [(GroupID, String)] = []
        for index in entries.indices {
            guard case .leased(let worker, _, let until) = entries[index].state, until <= now else { continue }
            counters.expired += 1
            ended.append((entries[index].group, worker))
            entries[index].set(.open, now: now)
        }
        return ended
    }

    /// Opens every group a departed worker held.
    public mutating func release(worker: String, now: Int) {
        for entry in entries { reopen(entry.group, heldBy: worker, now: now) }
    }

    /// The epoch's scored groups have entered an update.
    public mutating func train(now: Int) {
        precondition(isComplete, "ledger: trained before every group was scored")
        for index in entries.indices {
            guard case .scored = entries[index].state else { continue }
            counters.trained += 1
            entries[index].set(.trained, now: now)
        }
    }

    /// Whether nothing is left to sample: every group is scored, trained or quarantined.
    public var isComplete: Bool { entries.allSatisfy { $0.isScored || $0.isClosed } }

    /// Groups whose results are here and not yet trained, in index order.
    public var scoredGroups: [GroupID] { entries.filter(\.isScored).map(\.group) }

    /// Groups left out.
    public var quarantined: [Entry] {
        entries.filter { if case .quarantined = $0.state { true } else { false } }
    }

    private func index(of group: GroupID) -> Int? {
        guard entries.indices.contains(group.index), entries[group.index].group == group else { return nil }
        return group.index
    }

    private mutating func reopen(_ group: GroupID, heldBy worker: String, now: Int) {
        guard let index = index(of: group), case .leased(worker, _, _) = entries[index].state else { return }
        entries[index].set(.open, now: now)
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
}
