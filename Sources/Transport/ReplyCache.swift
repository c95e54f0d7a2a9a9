import Protocol
import SafeTensors

/// What a server remembers of requests, so that a repetition is answered and not done again.
///
/// Finished ones are kept oldest first, up to a number and a sum of bytes; requests must therefore also be idempotent in
/// what they do, which every message of the protocol is.
struct ReplyCache {
    /// Names a request over all its repetitions.
    struct Key: Hashable {
        let client: String
        let requestID: UInt64
    }

    private enum Entry {
        case inProgress(kind: MessageKind, route: [SharedBytes], byteCount: Int)
        case finished(kind: MessageKind, EncodedMessage)
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

    private let maximumCount: Int
    private let maximumByteCount: Int
    private var entries: [Key: Entry] = [:]
    private var finished: [Key] = []
    private var firstFinished = 0
    private var finishedByteCount = 0
    /// Number of requests in progress.
    private(set) var inProgressCount = 0
    /// Bytes of requests in progress.
    private(set) var inProgressByteCount = 0

    init(maximumCount: Int, maximumByteCount: Int) {
        self.maximumCount = maximumCount
        self.maximumByteCount = maximumByteCount
    }

    /// Looks a request up; a repetition in progress moves its reply to `route`.
    mutating func look(_ key: Key, kind: MessageKind, route: [SharedBytes]) -> Verdict {
        switch entries[key] {
        case nil: return .new
        case .inProgress(kind, _, let byteCount):
            entries[key] = .inProgress(kind: kind, route: route, byteCount: byteCount)
            return .inProgress
        case .finished(kind, let reply): return .finished(reply)
        default: return .conflict
        }
    }

    /// Notes that a new request is being handled.
    mutating func begin(_ key: Key, kind: MessageKind, route: [SharedBytes], byteCount: Int) {
        entries[key] = .inProgress(kind: kind, route: route, byteCount: byteCount)
        inProgressCount += 1
        inProgressByteCount += byteCount
    }

    /// Notes the reply, or forgets the request when its reply is not to be kept.
    ///
    /// - Returns: where to send it.
    mutating func finish(_ key: Key, _ reply: EncodedMessage, isKept: Bool = true) -> [SharedBytes] {
        guard case .inProgress(let kind, let route, let byteCount) = entries[key] else { return [] }
        inProgressCount -= 1
        inProgressByteCount -= byteCount
        guard isKept else {
            entries[key] = nil
            return route
        }
        entries[key] = .finished(kind: kind, reply)
        finished.append(key)
        finishedByteCount += reply.header.count + reply.data.count
        while finished.count - firstFinished > maximumCount || finishedByteCount > maximumByteCount { evict() }
        return route
    }

    private mutating func evict() {
        let oldest = finished[firstFinished]
        firstFinished += 1
        if case .finished(_, let reply) = entries.removeValue(forKey: oldest) {
            finishedByteCount -= reply.header.count + reply.data.count
        }
        // The consumed front is given back now and then rather than each time.
        if firstFinished > 1024 {
            finished.removeFirst(firstFinished)
            firstFinished = 0
        }
    }
}
