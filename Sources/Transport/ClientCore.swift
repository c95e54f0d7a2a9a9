import CZeroMQ
import Protocol
import SafeTensors

/// The part of a `Client` that lives on the loop's thread: a DEALER socket and the requests that wait for replies.
///
/// Nothing is lost for good: a request is sent again after a new connection, after a while without a reply, and, when the
/// peer stays silent, through a new socket (the Guide's "lazy pirate"). The server recognises repetitions. A reply that has
/// arrived counts, whatever becomes of its connection: a server that ends may close it right behind its last replies.
final class ClientCore: LoopParticipant {
    typealias Completion = @Sendable (Result<ReceivedMessage, TransportError>) -> Void

    private struct Pending {
        var message: EncodedMessage
        let begin: ContinuousClock.Instant
        let deadline: ContinuousClock.Instant
        let completion: Completion
        var resend: ContinuousClock.Instant
        var interval: Duration
        var generation = -1
    }

    private(set) var descriptors: [Int32]
    private let context: ContextPointer
    private let endpoint: Endpoint
    private let options: ClientOptions
    private let name: String
    private var socket: Socket
    private var monitor: ConnectionMonitor
    private var pending: [UInt64: Pending] = [:]
    private var unsent: [UInt64] = []
    private var isFull = false
    private var socketCount = 1
    private var seenGeneration = 0
    /// Since when nothing was heard although something had been asked; nil when all that was asked is answered. A request
    /// that failed at its deadline leaves it: else requests of short deadlines would never leave a half-open connection.
    private var quietSince: ContinuousClock.Instant?
    /// New sockets since the last connection.
    private var attemptCount = 0
    private var nextCheck: ContinuousClock.Instant?

    init(
        context: ContextPointer, endpoint: Endpoint, options: ClientOptions, name: String
    ) throws(TransportError) {
        self.context = context
        self.endpoint = endpoint
        self.options = options
        self.name = name
        let socket = try ClientSocket.make(context, endpoint, options)
        monitor = try ConnectionMonitor(watching: socket, context: context, name: "\(name)-1")
        // A long path's folder may be made later, by the server: the socket after this one finds it then.
        if let text = try? endpoint.connectText() { try socket.connect(text) }
        descriptors = [socket.descriptor, monitor.descriptor]
        self.socket = socket
    }

    /// Takes a request over; `completion` is called once, on this thread.
    func send(
        _ message: EncodedMessage, begin: ContinuousClock.Instant, deadline: ContinuousClock.Instant,
        resendInterval: Duration, completion: @escaping Completion
    ) {
        guard pending.count < options.maximumPendingCount else {
            completion(
                .failure(
                    TransportError(
                        .tooManyRequests, "\(pending.count) requests to \(endpoint) wait for replies already",
                        remedy: "wait for some of them before sending more")))
            return
        }
        if quietSince == nil { quietSince = .now }
        let id = message.envelope.requestID
        let resend = ContinuousClock.now + resendInterval
        pending[id] = Pending(
            message: message, begin: begin, deadline: deadline, completion: completion, resend: resend,
            interval: resendInterval)
        unsent.append(id)
        let due = min(deadline, resend)
        nextCheck = nextCheck.map { min($0, due) } ?? due
    }

    /// Forgets a request whose caller has gone.
    func cancel(_ id: UInt64) { pending[id] = nil }

    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        monitor.update()
        if monitor.generation != seenGeneration {
            seenGeneration = monitor.generation
            attemptCount = 0
            // What went out over an earlier connection may be lost.
            queue(pending.filter { $0.value.generation >= 0 && $0.value.generation != seenGeneration }.keys)
        }
        receive()
        if let check = nextCheck, check <= now { checkTimes(now) }
        if let end = silenceEnd, end <= now { reconnect() }
        flush(now)
        if socket.has(isFull ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN) { return now }
        return [nextCheck, silenceEnd].compactMap(\.self).min()
    }

    /// When a silent peer is tried through a new socket; nil while nobody waits for it.
    ///
    /// A connection that is known to have ended gets less patience: libzmq does not try again after bytes that break its
    /// protocol. The patience doubles with every try, so that a handshake over a slow link comes to its end.
    private var silenceEnd: ContinuousClock.Instant? {
        guard !pending.isEmpty, let quietSince else { return nil }
        let hasEnded = monitor.state == .lost || monitor.state == .refused
        return quietSince + options.resendInterval * (hasEnded ? min(1 << min(attemptCount, 3), 5) : 5)
    }

    func close() {
        socket.stopMonitor()
        for (_, request) in pending {
            request.completion(.failure(TransportError(.closed, "the connection to \(endpoint) was closed")))
        }
        pending = [:]
    }

    private func receive() {
        var hasHeard = false
        defer { if hasHeard { quietSince = pending.isEmpty ? nil : .now } }
        // Bounded, so that a fast peer cannot keep the loop from other work.
        for _ in 0..<256 {
            guard let frames = socket.receive(maximumFrameCount: 16)?.frames else { return }
            hasHeard = true
            // A malformed reply is dropped like a lost one: the request is sent again, and fails at its deadline at last.
            guard let reply = try? ReceivedMessage(frames: frames.suffix(3), limits: options.limits),
                reply.envelope.isReply, let request = pending.removeValue(forKey: reply.envelope.requestID)
            else { continue }
            request.completion(.success(reply))
        }
    }

    private func queue(_ ids: some Sequence<UInt64>) {
        let waiting = Set(unsent)
        unsent += ids.filter { !waiting.contains($0) }.sorted()
    }

    /// Fails what is late, repeats what got no reply, and computes when to look again.
    private func checkTimes(_ now: ContinuousClock.Instant) {
        var repeated: [UInt64] = []
        for (id, request) in pending {
            if request.deadline <= now {
                pending[id] = nil
                request.completion(.failure(deadlineError(request)))
            } else if request.resend <= now {
                let interval = min(request.interval * 2, options.resendInterval * 10)
                pending[id]?.interval = interval
                pending[id]?.resend = now + interval
                repeated.append(id)
            }
        }
        queue(repeated)
        nextCheck = pending.values.lazy.map { min($0.deadline, $0.resend) }.min()
    }

    /// Whether what is sent goes over a living connection and not into a queue: `unsent` is the queue. Within a process there are
    /// no reports, and no connections that could be lost.
    var isConnected: Bool {
        if case .inproc = endpoint.address { return true }
        return monitor.state == .connected
    }

    private func flush(_ now: ContinuousClock.Instant) {
        isFull = false
        guard isConnected else { return }
        var sent = 0
        for id in unsent {
            guard var request = pending[id] else {
                sent += 1
                continue
            }
            request.message.envelope.deadlineMilliseconds = milliseconds(request.deadline - now)
            guard socket.send(request.message.frames) == .sent else {
                isFull = true
                break
            }
            pending[id]?.generation = monitor.generation
            sent += 1
        }
        unsent.removeFirst(sent)
    }

    /// A new socket; the old one is closed with what it had queued, which is in `pending` still.
    private func reconnect() {
        quietSince = .now
        attemptCount += 1
        do throws(TransportError) {
            let fresh = try ClientSocket.make(context, endpoint, options)
            socketCount += 1
            let freshMonitor = try ConnectionMonitor(
                watching: fresh, context: context, name: "\(name)-\(socketCount)", earlier: monitor.state)
            try fresh.connect(endpoint.connectText())
            socket.stopMonitor()
            socket = fresh
            monitor = freshMonitor
            descriptors = [socket.descriptor, monitor.descriptor]
            seenGeneration = 0
            for id in pending.keys { pending[id]?.generation = -1 }
            queue(pending.keys)
        } catch {
            // No socket to be had now: the old one stays, and the next silence tries again.
        }
    }

    private func deadlineError(_ request: Pending) -> TransportError {
        let wait = (request.deadline - request.begin) / .milliseconds(1)
        let (state, remedy): (String, String) =
            switch monitor.state {
            case .neverConnected:
                ("nobody has answered there yet", "check that the server runs and the endpoint is right")
            case .connected: ("it is connected but has not replied", "see its log, or ask for its health")
            case .lost: ("the connection was lost", "check that the server still runs")
            case .refused:
                ("it refused the connection", "check the server's public key and that it allows this client's key")
            }
        return TransportError(
            .deadlineExceeded,
            "no reply to \(request.message.envelope.kind) from \(endpoint) within \(Int(wait.rounded())) ms: \(state)",
            remedy: remedy)
    }
}

/// A remaining time as the envelope holds it.
private func milliseconds(_ duration: Duration) -> UInt32 {
    UInt32(clamping: Int(clamping: Int64((duration / .milliseconds(1)).rounded())))
}
