internal import DequeModule
import Protocol
import SafeTensors

/// What a server remembers of requests, so that a repetition is answered and not done again, and what that costs whom.
///
/// Requests in progress and kept replies are shared fairly among peers (`FairShare`): a request beyond its sender's limit is
/// not taken; a reply beyond it pushes out the oldest of its own receiver. The oldest of all go while less than a quarter of the
/// room is free, so that what is kept for those who have left gives way. Requests must therefore also be idempotent in what they
/// do, which every message of the protocol is.
struct ReplyCache: ~Copyable {
    /// Names a request over all its repetitions.
    struct Key: Hashable {
        let client: String
        let requestID: UInt64
    }

    private enum Entry {
        case inProgress(kind: MessageKind, route: [SharedBytes], payer: [String], FairShare.Account, Load)
        case finished(kind: MessageKind, EncodedMessage, FairShare.Account, serial: Int)
    }

    /// What to do with a request that has come in.
    enum Verdict {
        /// Handle it.
        case new
        /// It is being handled; the reply will go to where the repetition came from.
        case inProgress
        /// It has been handled: this was the reply.
        case finished(EncodedMessage)
        /// The id belongs to a request of another kind.
        case conflict
    }

    /// Requests in progress and their bytes.
    let requests: FairShare
    /// Kept replies and their bytes.
    let replies: FairShare
    private var entries: [Key: Entry] = [:]
    /// Finished ones, oldest first; those that were forgotten out of turn are still named.
    private var finished: Deque<(key: Key, serial: Int)> = []
    /// The same by who they were for, without the forgotten.
    private var finishedByPayer: [ObjectIdentifier: Deque<Key>] = [:]
    private var serial = 0

    init(requests: Load, replies: Load) {
        self.requests = FairShare(capacity: requests)
        self.replies = FairShare(capacity: replies)
    }

    /// Looks a request up; a repetition in progress moves its reply to `route`.
    mutating func look(_ key: Key, kind: MessageKind, route: [SharedBytes]) -> Verdict {
        switch entries[key] {
        case nil: return .new
        case .inProgress(kind, _, let payer, let account, let load):
            entries[key] = .inProgress(kind: kind, route: route, payer: payer, account, load)
            return .inProgress
        case .finished(kind, let reply, _, _): return .finished(reply)
        default: return .conflict
        }
    }

    /// Notes that a new request is being handled.
    ///
    /// - Parameter payer: the peer and its connection.
    /// - Returns: false when it would be more than the peer may have in progress; nothing is noted then.
    mutating func begin(
        _ key: Key, kind: MessageKind, route: [SharedBytes], byteCount: Int, payer: [String]
    ) -> Bool {
        let load = Load(count: 1, byteCount: byteCount)
        guard let account = requests.admit(load, to: payer) else { return false }
        entries[key] = .inProgress(kind: kind, route: route, payer: payer, account, load)
        return true
    }

    /// Notes the reply, or forgets the request when its reply is not to be kept.
    ///
    /// - Returns: where to send it.
    mutating func finish(_ key: Key, _ reply: EncodedMessage, isKept: Bool = true) -> [SharedBytes] {
        guard case .inProgress(let kind, let route, let payer, let account, let load) = entries[key] else { return [] }
        requests.remove(load, from: account)
        guard isKept else {
            entries[key] = nil
            return route
        }
        let holder = replies.add(Self.load(of: reply), to: payer)
        serial += 1
        entries[key] = .finished(kind: kind, reply, holder, serial: serial)
        finished.append((key, serial))
        finishedByPayer[ObjectIdentifier(holder), default: []].append(key)
        while !replies.isWithinLimit(holder), let oldest = finishedByPayer[ObjectIdentifier(holder)]?.first {
            forget(oldest)
        }
        while !replies.held.fits(in: replies.capacity - replies.capacity / 4), let oldest = finished.popFirst() {
            if Self.isKept(oldest, in: entries) { forget(oldest.key) }
        }
        // The names of those that were forgotten out of turn go now and then rather than each time.
        if finished.count > 2 * replies.held.count + 64 {
            let entries = entries
            finished.removeAll { !Self.isKept($0, in: entries) }
        }
        return route
    }

    private static func load(of reply: EncodedMessage) -> Load {
        Load(count: 1, byteCount: reply.header.count + reply.data.count)
    }

    private static func isKept(_ name: (key: Key, serial: Int), in entries: [Key: Entry]) -> Bool {
        if case .finished(_, _, _, name.serial) = entries[name.key] { true } else { false }
    }

    private mutating func forget(_ key: Key) {
        guard case .finished(_, let reply, let holder, _) = entries.removeValue(forKey: key) else { return }
        // The oldest of all is the oldest of its holder, too.
        let id = ObjectIdentifier(holder)
        finishedByPayer[id]?.removeFirst()
        if finishedByPayer[id]?.isEmpty == true { finishedByPayer[id] = nil }
        replies.remove(Self.load(of: reply), from: holder)
    }
}
