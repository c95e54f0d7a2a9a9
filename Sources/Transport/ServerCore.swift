import CZeroMQ
import Protocol
import SafeTensors
import Synchronization

/// What other threads may read of a server.
final class ServerShared: Sendable {
    let statistics = Mutex(ServerStatistics())
    let runID: Mutex<RunID?>
    init(runID: RunID?) { self.runID = Mutex(runID) }
}

/// What a server's core calls, on the loop's thread.
struct ServerCalls: Sendable {
    /// Has a new request carried out.
    var handle: @Sendable (Request) -> Void
    /// Brings a reply to the loop's thread; the code is that of the failure it is.
    var submitReply: @Sendable (ReplyCache.Key, EncodedMessage, _ isKept: Bool, _ code: FailureCode?) -> Void
    /// Brings the authenticator's question there.
    var decide: Authenticator.Gate
}

/// The part of a `Server` that lives on the loop's thread: a ROUTER socket and what is known of its requests.
///
/// Consumes requests, hands each new one to the handler once, sends replies where the last repetition came from. A reply
/// that cannot be delivered is dropped: whoever still wants it asks again and gets it from the cache.
final class ServerCore: LoopParticipant {
    /// A message and where it came from.
    private struct Arrival {
        let message: ReceivedMessage
        /// Frames that lead back to the sender.
        let route: [SharedBytes]
        let peer: Request.Peer
        /// Who is charged for it: the peer and its connection.
        let payer: [String]
        let byteCount: Int
        let time: ContinuousClock.Instant

        /// With keys, a name is only as good as the key it came with.
        var key: ReplyCache.Key {
            ReplyCache.Key(client: "\(peer.user ?? "")/\(peer.id)", requestID: message.envelope.requestID)
        }
    }

    /// Where the server listens, with the port that was chosen.
    let boundEndpoint: String
    let descriptors: [Int32]
    /// Routing frames of a few proxies, and the message's three.
    private static let maximumFrameCount = 16
    private let socket: Socket
    private let ipcGuard: IPCGuard?
    private let options: ServerOptions
    private let shared: ServerShared
    private let calls: ServerCalls
    private let registration: GateRegistration
    private var cache: ReplyCache
    private var arrivals: [ReplyCache.Key: (kind: MessageKind, time: ContinuousClock.Instant)] = [:]
    /// The begin of a round that left requests at the socket: they came during it at the latest.
    private var leftSince: ContinuousClock.Instant?
    private var admission: Admission
    private var reports = ReportLimit()

    /// Listens.
    ///
    /// - Parameter domain: under which the authenticator asks about this server.
    init(
        context: ContextPointer, endpoint: Endpoint, options: ServerOptions, shared: ServerShared, domain: String,
        calls: ServerCalls
    ) throws(TransportError) {
        let socket = try ServerSocket.make(context, endpoint, options, domain: domain)
        if case .ipc(let path) = endpoint.address { ipcGuard = try IPCGuard(path: path) } else { ipcGuard = nil }
        // Before listening: libzmq does not try again when a handshake has been refused.
        registration = try GateRegistration(calls.decide, domain: domain)
        let admission = try Admission(
            of: socket, context: context, name: domain, allowed: options.security.allowed,
            capacity: options.maximumConnectionCount)
        do throws(TransportError) {
            try ServerSocket.bind(socket, endpoint)
            try ipcGuard?.protectSocketFile()
        } catch {
            socket.stopMonitor()
            throw error
        }
        boundEndpoint = ipcGuard == nil ? socket.lastEndpoint : endpoint.description
        descriptors = [socket.descriptor, admission.descriptor]
        self.admission = admission
        self.socket = socket
        self.options = options
        self.shared = shared
        self.calls = calls
        cache = ReplyCache(
            requests: Load(count: options.maximumInProgressCount, byteCount: options.maximumInProgressByteCount),
            replies: Load(count: options.maximumCachedCount, byteCount: options.maximumCachedByteCount))
    }

    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        admission.update()
        let arrival = leftSince ?? now
        // Bounded, so that fast peers cannot keep the loop from other work: replies, for one, leave after the round.
        for _ in 0..<32 {
            guard let message = socket.receive(maximumFrameCount: Self.maximumFrameCount) else { break }
            accept(message.frames, message.frameCount, message.properties, arrival)
        }
        leftSince = socket.has(ZMQ_POLLIN) ? now : nil
        return leftSince
    }

    func close() { socket.stopMonitor() }

    /// Whether somebody may connect.
    func decide(address: String, key: CurveKey?) -> Admission.Decision {
        let decision = admission.decide(address: address, key: key)
        if case .refused(let peer, let reason) = decision {
            shared.statistics.withLock { $0.refusedConnectionCount += 1 }
            report(reason, "a new connection", peer: peer, address: address)
        }
        return decision
    }

    /// Sends a reply and, if it is to be kept, remembers it.
    func finish(_ key: ReplyCache.Key, _ reply: EncodedMessage, isKept: Bool, _ code: FailureCode?) {
        let route = cache.finish(key, reply, isKept: isKept)
        let arrival = arrivals.removeValue(forKey: key)
        shared.statistics.withLock { statistics in
            statistics.inProgressCount = cache.requests.held.count
            if let arrival {
                statistics.kinds[arrival.kind, default: KindStatistics()].count(
                    code, latency: ContinuousClock.now - arrival.time)
            }
        }
        if !route.isEmpty { send(reply, to: route) }
    }

    private func accept(
        _ frames: [SharedBytes], _ frameCount: Int, _ properties: PeerProperties, _ now: ContinuousClock.Instant
    ) {
        if let descriptor = properties.descriptor { admission.heard(properties.peer, over: descriptor) }
        // The first frame is always there: it is the ROUTER's own.
        let connection = connectionName(frames[0])
        guard (4...Self.maximumFrameCount).contains(frameCount) else {
            return reject(
                "expected envelope, header and data, got \(frameCount - 1) frames", connection, properties)
        }
        let route = Array(frames.dropLast(3))
        let message: ReceivedMessage
        do {
            message = try ReceivedMessage(frames: Array(frames.suffix(3)), limits: options.limits)
        } catch {
            reject(error.description, connection, properties)
            // A peer that speaks our protocol, if badly, is told; anything else is not worth an answer.
            if let requestID = Envelope.requestID(ofUnsupported: frames[frames.count - 3]) {
                refuse(requestID, nil, Failure(error), route)
            }
            return
        }
        let peer = Request.Peer(message, properties, connection: connection, security: options.security)
        if let failure = peer.contradiction(to: message.sender) {
            return refuse(message.envelope.requestID, message.envelope.kind, failure, route)
        }
        guard !message.envelope.isReply else { return reject("a reply came to a server", peer.id, properties) }
        let byteCount = frames.suffix(2).reduce(0) { $0 + $1.count }
        shared.statistics.withLock { $0.receivedByteCount += byteCount }
        decide(
            Arrival(
                message: message, route: route, peer: peer, payer: [properties.peer, connection], byteCount: byteCount,
                time: now))
    }

    private func decide(_ arrival: Arrival) {
        let (key, kind) = (arrival.key, arrival.message.envelope.kind)
        switch cache.look(key, kind: kind, route: arrival.route) {
        case .inProgress: shared.statistics.withLock { $0.repetitionCount += 1 }
        case .finished(let reply):
            shared.statistics.withLock { $0.repetitionCount += 1 }
            send(reply, to: arrival.route)
        case .conflict:
            let failure = Failure(
                code: .badFraming, message: "request id \(key.requestID) was used before, for another kind of request",
                remedy: "use every id once")
            refuse(key.requestID, kind, failure, arrival.route)
        case .new: begin(arrival, key)
        }
    }

    /// Has a new request carried out, if there is room for it.
    private func begin(_ arrival: Arrival, _ key: ReplyCache.Key) {
        let kind = arrival.message.envelope.kind
        if let failure = wrongRun(arrival.message, shared.runID.withLock { $0 }) {
            return refuse(key.requestID, kind, failure, arrival.route)
        }
        let isTaken = cache.begin(
            key, kind: kind, route: arrival.route, byteCount: arrival.byteCount, payer: arrival.payer)
        guard isTaken else { return refuseBusy(arrival) }
        arrivals[key] = (kind, arrival.time)
        shared.statistics.withLock { statistics in
            statistics.requestCount += 1
            statistics.inProgressCount = cache.requests.held.count
        }
        let submitReply = calls.submitReply
        calls.handle(
            Request(
                message: arrival.message, peer: arrival.peer, arrival: arrival.time, shared: shared,
                limits: options.limits
            ) { submitReply(key, $0, $1, $2) })
    }

    private func refuseBusy(_ arrival: Arrival) {
        let requests = cache.requests
        let payer = arrival.payer
        let reason =
            "a request too many: \(requests.held(by: payer).count) of this connection, \(requests.held(by: [payer[0]]).count) "
            + "of this peer and \(requests.held.count) of all are in progress"
        report(reason, arrival.peer.id, peer: payer[0], address: arrival.peer.address)
        refuse(
            arrival.message.envelope.requestID, arrival.message.envelope.kind,
            Failure(code: .busy, message: reason, remedy: "ask again later"), arrival.route)
    }

    private func wrongRun(_ message: ReceivedMessage, _ own: RunID?) -> Failure? {
        guard let own, let other = message.runID, own != other, message.envelope.kind.belongsToRun else { return nil }
        return Failure(
            code: .wrongRun, message: "this server belongs to run \(own), the request to run \(other)",
            remedy: "restart the sender, or connect it to its own run")
    }

    /// Answers a request that no handler sees.
    ///
    /// - Parameter kind: nil where it could not be read; it has been counted then.
    private func refuse(_ requestID: UInt64, _ kind: MessageKind?, _ failure: Failure, _ route: [SharedBytes]) {
        if let kind {
            shared.statistics.withLock {
                $0.kinds[kind, default: KindStatistics()].count(failure.code, latency: nil)
            }
        }
        let runID = shared.runID.withLock { $0 }
        guard
            let reply = try? EncodedMessage(
                failure, runID: runID, requestID: requestID, isReply: true, limits: options.limits)
        else { return }
        send(reply, to: route)
    }

    private func send(_ reply: EncodedMessage, to route: [SharedBytes]) {
        let isSent = socket.send(route + reply.frames) == .sent
        shared.statistics.withLock { statistics in
            if isSent {
                statistics.replyCount += 1
                statistics.sentByteCount += reply.header.count + reply.data.count
            } else {
                statistics.undeliverableCount += 1
            }
        }
    }

    private func reject(_ reason: String, _ name: String, _ properties: PeerProperties) {
        shared.statistics.withLock { $0.rejectedCount += 1 }
        report(reason, name, peer: properties.peer, address: properties.address)
    }

    private func report(_ reason: String, _ name: String, peer: String, address: String) {
        guard let unreported = reports.note(peer, at: .now) else { return }
        options.onRejection(
            Rejection(peer: peer, name: name, address: address, reason: reason, unreportedCount: unreported))
    }
}
