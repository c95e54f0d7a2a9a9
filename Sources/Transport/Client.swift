public import Protocol
import Synchronization

/// Asks one server, from any thread or task.
///
/// A request is sent again with the same id until its deadline, over as many connections as it takes; servers answer
/// repetitions without doing the work twice. So an error means "no reply in time", never "done twice".
public final class Client: Sendable {
    /// Whom it asks.
    public let endpoint: Endpoint
    /// Its name over all connections.
    public let id: ClientID
    private let loop: SocketLoop
    private let options: ClientOptions
    private let coreID: Int
    private let state: Mutex<State>

    private struct State {
        var nextRequestID = UInt64.random(in: 0...UInt64.max)
        var runID: RunID?
    }

    /// Starts connecting; the server need not run yet.
    ///
    /// - Throws: `closed`, `system`.
    public init(_ endpoint: Endpoint, on loop: SocketLoop, options: ClientOptions = ClientOptions())
        throws(TransportError)
    {
        let name =
            "c-" + String(UInt64.random(in: 0 ... .max), radix: 36) + String(UInt64.random(in: 0 ... .max), radix: 36)
        // At most 2 + 26 letters and digits.
        id = ClientID(rawValue: name)!
        self.endpoint = endpoint
        self.loop = loop
        self.options = options
        state = Mutex(State(runID: options.runID))
        coreID = try loop.perform { (thread) throws(TransportError) in
            let id = thread.makeID()
            thread.add(try ClientCore(context: thread.context, endpoint: endpoint, options: options, name: name), id)
            return id
        }
    }

    deinit { close() }

    /// Whether a server is connected now; with keys, one that has the right one.
    ///
    /// - Throws: `closed`.
    public func isConnected() throws(TransportError) -> Bool {
        let coreID = coreID
        return try loop.perform { (thread) throws(TransportError) in
            thread.participant(coreID, as: ClientCore.self)?.isConnected ?? false
        }
    }

    /// Makes all further requests belong to a run.
    public func join(_ runID: RunID) { state.withLock { $0.runID = runID } }

    /// Fails the requests in progress with `closed` and closes the socket.
    public func close() {
        let coreID = coreID
        loop.submit { $0.remove(coreID) }
    }

    /// Sends a request and waits for its reply, without blocking a thread. Cancelling the task stops waiting.
    ///
    /// - Throws: `Failure` as the server replied, `TransportError` (`deadlineExceeded`, `tooManyRequests`, `closed`),
    ///   `WireError` for a request or reply that breaks the rules, `CancellationError`.
    public func request<Request: WireRequest>(
        _ message: Request, deadline: Duration
    ) async throws -> Request.Reply {
        try Self.reply(to: Request.self, try await exchange(try encode(message), deadline: deadline))
    }

    /// Sends an encoded request and waits for whatever is replied.
    func exchange(_ encoded: EncodedMessage, deadline: Duration) async throws -> ReceivedMessage {
        let requestID = encoded.envelope.requestID
        let once = Once()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation {
                (continuation: CheckedContinuation<Result<ReceivedMessage, any Error>, Never>) in
                once.set { continuation.resume(returning: $0) }
                start(encoded, deadline: deadline) { result in once.call(result.mapError { $0 }) }
            }
        } onCancel: {
            once.call(.failure(CancellationError()))
            let coreID = coreID
            loop.submit { $0.participant(coreID, as: ClientCore.self)?.cancel(requestID) }
        }
        return try result.get()
    }

    /// `request` for threads that may block, such as compute threads; never for the loop's own thread.
    ///
    /// - Throws: as `request`.
    public func requestBlocking<Request: WireRequest>(
        _ message: Request, deadline: Duration
    ) throws -> Request.Reply {
        try begin(message, deadline: deadline).wait()
    }

    /// Sends a request whose reply is waited for later: for threads that may block and want several on their way at a time.
    ///
    /// - Parameters:
    ///   - message: the request.
    ///   - deadline: how long the reply may take, repetitions included.
    ///   - resendInterval: instead of the options'; for replies that are large, and slow to arrive for that alone.
    /// - Throws: `WireError` for a request that breaks the rules.
    public func begin<Request: WireRequest>(
        _ message: Request, deadline: Duration, resendInterval: Duration? = nil
    ) throws -> PendingReply<Request> {
        let encoded = try encode(message)
        let outcome = Outcome<Result<ReceivedMessage, TransportError>>()
        start(encoded, deadline: deadline, resendInterval: resendInterval) { outcome.set($0) }
        let requestID = encoded.envelope.requestID
        return PendingReply(outcome: outcome) { [loop, coreID] in
            loop.submit { $0.participant(coreID, as: ClientCore.self)?.cancel(requestID) }
        }
    }

    private func encode(_ message: some WireRequest) throws(WireError) -> EncodedMessage {
        let (requestID, runID) = state.withLock { state in
            defer { state.nextRequestID &+= 1 }
            return (state.nextRequestID, state.runID)
        }
        return try EncodedMessage(
            message, runID: runID, clientID: id, sender: options.role == .operator ? nil : options.role,
            requestID: requestID, limits: options.limits)
    }

    private func start(
        _ message: EncodedMessage, deadline: Duration, resendInterval: Duration? = nil,
        completion: @escaping ClientCore.Completion
    ) {
        let begin = ContinuousClock.now
        let closed = TransportError(.closed, "the connection to \(endpoint) was closed")
        let coreID = coreID
        let resendInterval = resendInterval ?? options.resendInterval
        let isAccepted = loop.submit { thread in
            guard let core = thread.participant(coreID, as: ClientCore.self) else {
                return completion(.failure(closed))
            }
            core.send(
                message, begin: begin, deadline: begin + deadline, resendInterval: resendInterval,
                completion: completion)
        }
        if !isAccepted { completion(.failure(closed)) }
    }

    fileprivate static func reply<Request: WireRequest>(
        to request: Request.Type, _ reply: ReceivedMessage
    ) throws -> Request.Reply {
        if reply.envelope.kind == .failure { throw try reply.decoded(as: Failure.self) }
        return try reply.decoded(as: Request.Reply.self)
    }
}

/// A request on its way. One that nobody waits for any more is forgotten.
public final class PendingReply<Request: WireRequest>: Sendable {
    private let outcome: Outcome<Result<ReceivedMessage, TransportError>>
    private let cancel: @Sendable () -> Void
    private let isTaken = Atomic(false)

    init(outcome: Outcome<Result<ReceivedMessage, TransportError>>, cancel: @escaping @Sendable () -> Void) {
        self.outcome = outcome
        self.cancel = cancel
    }

    deinit { if !isTaken.load(ordering: .relaxed) { cancel() } }

    /// Blocks the thread until the reply is there. To be called once.
    ///
    /// - Throws: as `Client.request`.
    public func wait() throws -> Request.Reply {
        isTaken.store(true, ordering: .relaxed)
        return try Client.reply(to: Request.self, try outcome.wait().get())
    }
}

/// Calls a continuation at most once, whoever comes first: the reply or the cancellation.
private final class Once: Sendable {
    typealias Action = @Sendable (Result<ReceivedMessage, any Error>) -> Void

    private enum State {
        case empty
        case waiting(Action)
        case early(Result<ReceivedMessage, any Error>)
        case done
    }

    private let state = Mutex(State.empty)

    func set(_ action: @escaping Action) {
        let early: Result<ReceivedMessage, any Error>? = state.withLock { state in
            if case .early(let result) = state {
                state = .done
                return result
            }
            state = .waiting(action)
            return nil
        }
        if let early { action(early) }
    }

    func call(_ result: Result<ReceivedMessage, any Error>) {
        let action: Action? = state.withLock { state in
            switch state {
            case .empty:
                state = .early(result)
                return nil
            case .waiting(let action):
                state = .done
                return action
            case .early, .done: return nil
            }
        }
        action?(result)
    }
}
