public import Protocol
import SafeTensors
import Synchronization

/// A request that has arrived at a server and waits for its one reply.
///
/// It may be kept, handed to other threads and answered from any of them. A request that is let go without a reply is
/// answered with a `Failure`, so that nobody waits in vain.
public final class Request: Sendable {
    /// Who asks.
    public struct Peer: Sendable, Hashable {
        /// Name over all its connections, or of this connection when the client gives none.
        public let id: String
        /// The name of its key in the allow-list; nil without CURVE. The only part that is proven.
        public let user: String?
        /// What it is: its key's role or, without CURVE, the one that it says it plays; who says nothing is an operator.
        public let role: Role
        /// Network address, for `ipc` with the peer's process; empty for `inproc`.
        public let address: String
    }

    /// The message; its framing and tensors are valid, its fields are read by `decoded`.
    public let message: ReceivedMessage
    /// Who asks.
    public let peer: Peer
    /// When it arrived.
    public let arrival: ContinuousClock.Instant
    private let runID: RunID?
    private let limits: WireLimits
    private let isAnswered = Atomic(false)
    private let shared: ServerShared
    private let answer: Answer

    /// Takes an encoded reply, whether it is kept, and the code of the failure that it is.
    typealias Answer = @Sendable (_ reply: EncodedMessage, _ isKept: Bool, _ code: FailureCode?) -> Void

    init(
        message: ReceivedMessage, peer: Peer, arrival: ContinuousClock.Instant, shared: ServerShared,
        limits: WireLimits, answer: @escaping Answer
    ) {
        self.message = message
        self.peer = peer
        self.arrival = arrival
        self.shared = shared
        runID = shared.runID.withLock { $0 }
        self.limits = limits
        self.answer = answer
    }

    deinit {
        fail(Failure(code: .internal, message: "the server dropped \(kind) without an answer", remedy: "see its log"))
    }

    /// What is asked.
    public var kind: MessageKind { message.envelope.kind }

    /// What the server it came to has done so far.
    public var serverStatistics: ServerStatistics { shared.statistics.withLock { $0 } }

    /// Whether the requester has stopped waiting.
    public var isExpired: Bool {
        let wait = message.envelope.deadlineMilliseconds
        return wait > 0 && ContinuousClock.now - arrival > .milliseconds(Int64(wait))
    }

    /// The request with its fields checked.
    ///
    /// - Throws: `malformedFields`, `invalidValue`, `unknownKind`.
    public func decoded<Message: WireRequest>(as type: Message.Type = Message.self) throws(WireError) -> Message {
        try message.decoded(as: type)
    }

    /// Answers. Encoding happens on the calling thread; of several answers the first counts.
    ///
    /// - Parameters:
    ///   - reply: the answer.
    ///   - isKept: whether the reply is kept for repetitions of the request; else they are handled again. False for
    ///     large replies that are made at no cost.
    public func reply(_ reply: some WireMessage, isKept: Bool = true) {
        guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
        do {
            answer(try encoded(reply), isKept, nil)
        } catch {
            send(Failure(error))
        }
    }

    /// Answers with a failure.
    public func fail(_ failure: Failure) {
        guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
        send(failure)
    }

    private func send(_ failure: Failure) {
        // A failure has no tensors and no rules; only a text beyond the header limit could be refused, so it is cut.
        let short = Failure(
            code: FailureCode(rawValue: String(failure.code.rawValue.prefix(64))),
            message: String(failure.message.prefix(4096)),
            remedy: failure.remedy.map { String($0.prefix(4096)) })
        if let encoded = try? encoded(short) { answer(encoded, true, short.code) }
    }

    private func encoded(_ message: some WireMessage) throws(WireError) -> EncodedMessage {
        try EncodedMessage(
            message, runID: runID, requestID: self.message.envelope.requestID, isReply: true, limits: limits)
    }
}
