import CZeroMQ
import LibC
import Protocol
import SafeTensors
import Synchronization

/// What other threads may read of a server.
final class ServerShared: Sendable {
    let statistics = Mutex(ServerStatistics())
    let runID: Mutex<RunID?>
    init(runID: RunID?) { self.runID = Mutex(runID) }
}

/// The part of a `Server` that lives on the loop's thread: a ROUTER socket and what is known of its requests.
///
/// Consumes requests, hands each new one to the handler once, sends replies where the last repetition came from. A reply
/// that cannot be delivered is dropped: whoever still wants it asks again and gets it from the cache.
final class ServerCore: LoopParticipant {
    /// Where the server listens, with the port that was chosen.
    let boundEndpoint: String
    let descriptors: [Int32]
    /// Routing frames of a few proxies, and the message's three.
    private static let maximumFrameCount = 16
    private let socket: Socket
    private let ipcGuard: IPCGuard?
    private let options: ServerOptions
    private let shared: ServerShared
    private let handler: @Sendable (Request) -> Void
    private let submitReply: SubmitReply
    private let admission: Admission
    private var cache: ReplyCache
    private var arrivals: [ReplyCache.Key: (kind: MessageKind, time: ContinuousClock.Instant)] = [:]
    /// The begin of a round that left requests at the socket: they came during it at the latest.
    private var leftSince: ContinuousClock.Instant?
    private var door: Door
    private var reports = ReportLimit()

    /// Has a reply sent from the loop's thread; the code is that of the failure it is.
    typealias SubmitReply =
        @Sendable (
            _ key: ReplyCache.Key, _ reply: EncodedMessage, _ isKept: Bool, _ code: FailureCode?
        ) -> Void

    init(
        context: ContextPointer, endpoint: Endpoint, options: ServerOptions, shared: ServerShared, domain: String,
        handler: @escaping @Sendable (Request) -> Void,
        submitReply: @escaping SubmitReply,
        gate: @escaping Authenticator.Gate
    ) throws(TransportError) {
        // LINGER 3 s: the last replies of a process that ends still leave, also from a busy machine, and its end is not
        // held up for long by a peer that does not read.
        let socket = try Socket(context, type: ZMQ_ROUTER, lingerMilliseconds: 3000)
        try socket.set(ZMQ_ROUTER_MANDATORY, Int32(1))
        // A peer's replies: as many as a client may wait for, so that a client that reads never loses one here.
        try socket.set(ZMQ_SNDHWM, Int32(1024))
        try socket.set(ZMQ_RCVHWM, Int32(64))
        try socket.setCommonOptions(endpoint: endpoint, limits: options.limits)
        // A thousand workers may connect at once; the system cuts this to its own limit.
        try socket.set(ZMQ_BACKLOG, Int32(1024))
        try socket.set(ZMQ_ZAP_DOMAIN, domain)
        var allowed: CurveAllowList?
        if case .curve(let keys, let list) = options.security {
            allowed = list
            try socket.set(ZMQ_CURVE_SERVER, Int32(1))
            try socket.set(ZMQ_CURVE_SECRETKEY, keys.secretKey.text)
        }
        if case .ipc(let path) = endpoint.address { ipcGuard = try IPCGuard(path: path) } else { ipcGuard = nil }
        // Before listening: libzmq does not try again when a handshake has been refused.
        admission = try Admission(gate, domain: domain)
        let door = try Door(
            of: socket, context: context, name: domain, allowed: allowed, capacity: options.maximumConnectionCount)
        do throws(TransportError) {
            if let error = socket.bind(try endpoint.bindText()) { throw bindError(error, endpoint) }
            try ipcGuard?.protectSocketFile()
        } catch {
            socket.stopMonitor()
            throw error
        }
        boundEndpoint = ipcGuard == nil ? socket.lastEndpoint : endpoint.description
        descriptors = [socket.descriptor, door.descriptor]
        self.door = door
        self.socket = socket
        self.options = options
        self.shared = shared
        self.handler = handler
        self.submitReply = submitReply
        cache = ReplyCache(
            requests: Load(count: options.maximumInProgressCount, byteCount: options.maximumInProgressByteCount),
            replies: Load(count: options.maximumCachedCount, byteCount: options.maximumCachedByteCount))
    }

    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        door.update()
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
    func decide(address: String, key: CurveKey?) -> Door.Decision {
        let decision = door.decide(address: address, key: key)
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
        if let descriptor = properties.descriptor { door.heard(properties.peer, over: descriptor) }
        guard (4...Self.maximumFrameCount).contains(frameCount) else {
            // The first frame is always there: it is the ROUTER's own.
            return reject(
                "expected envelope, header and data, got \(frameCount - 1) frames", connectionName(frames[0]),
                properties)
        }
        let route = Array(frames.dropLast(3))
        let message: ReceivedMessage
        do {
            message = try ReceivedMessage(frames: Array(frames.suffix(3)), limits: options.limits)
        } catch {
            reject(error.description, connectionName(route[0]), properties)
            // A peer that speaks our protocol, if badly, is told; anything else is not worth an answer.
            if let requestID = Envelope.requestID(ofUnsupported: frames[frames.count - 3]) {
                refuse(requestID, nil, Failure(error), route)
            }
            return
        }
        let user = properties.userID.isEmpty ? nil : properties.userID
        let known = user.flatMap { options.security.role(of: $0) }
        let peer = Request.Peer(
            id: message.clientID?.rawValue ?? connectionName(route[0]), user: user,
            role: known ?? message.sender ?? .operator, address: properties.address)
        if let said = message.sender, said != peer.role {
            let failure = Failure(
                code: .notAllowed,
                message:
                    "the request says it comes from a \(said.rawValue), its key is that of a \(peer.role.rawValue)",
                remedy: "use the key that `advgrpo keygen` made for the role")
            return refuse(message.envelope.requestID, message.envelope.kind, failure, route)
        }
        guard !message.envelope.isReply else { return reject("a reply came to a server", peer.id, properties) }
        let byteCount = frames.suffix(2).reduce(0) { $0 + $1.count }
        shared.statistics.withLock { $0.receivedByteCount += byteCount }
        // With keys, a name is only as good as the key it came with.
        let key = ReplyCache.Key(
            client: "\(peer.user ?? "")/\(peer.id)", requestID: message.envelope.requestID)
        decide(message, key, peer, properties, route, byteCount, now)
    }

    private func decide(
        _ message: ReceivedMessage, _ key: ReplyCache.Key, _ peer: Request.Peer, _ properties: PeerProperties,
        _ route: [SharedBytes], _ byteCount: Int, _ now: ContinuousClock.Instant
    ) {
        let kind = message.envelope.kind
        switch cache.look(key, kind: kind, route: route) {
        case .inProgress: shared.statistics.withLock { $0.repetitionCount += 1 }
        case .finished(let reply):
            shared.statistics.withLock { $0.repetitionCount += 1 }
            send(reply, to: route)
        case .conflict:
            let failure = Failure(
                code: .badFraming, message: "request id \(key.requestID) was used before, for another kind of request",
                remedy: "use every id once")
            refuse(key.requestID, kind, failure, route)
        case .new:
            let runID = shared.runID.withLock { $0 }
            if let failure = wrongRun(message, runID) { return refuse(key.requestID, kind, failure, route) }
            let payer = [properties.peer, connectionName(route[0])]
            guard cache.begin(key, kind: kind, route: route, byteCount: byteCount, payer: payer) else {
                return refuseBusy(key.requestID, kind, peer, payer, properties, route)
            }
            arrivals[key] = (kind, now)
            shared.statistics.withLock { statistics in
                statistics.requestCount += 1
                statistics.inProgressCount = cache.requests.held.count
            }
            let submitReply = submitReply
            handler(
                Request(message: message, peer: peer, arrival: now, shared: shared, limits: options.limits) {
                    submitReply(key, $0, $1, $2)
                })
        }
    }

    private func refuseBusy(
        _ requestID: UInt64, _ kind: MessageKind, _ peer: Request.Peer, _ payer: [String],
        _ properties: PeerProperties, _ route: [SharedBytes]
    ) {
        let requests = cache.requests
        let reason =
            "a request too many: \(requests.held(by: payer).count) of this connection, \(requests.held(by: [payer[0]]).count) "
            + "of this peer and \(requests.held.count) of all are in progress"
        report(reason, peer.id, peer: properties.peer, address: properties.address)
        refuse(requestID, kind, Failure(code: .busy, message: reason, remedy: "ask again later"), route)
    }

    private func wrongRun(_ message: ReceivedMessage, _ own: RunID?) -> Failure? {
        guard let own, let other = message.runID, own != other,
            ![.hello, .healthRequest, .statusRequest, .stopRequest, .discriminatorRestore].contains(
                message.envelope.kind)
        else { return nil }
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

    /// Name of a connection: its routing id.
    private func connectionName(_ route: SharedBytes) -> String {
        let digits = Array("0123456789abcdef".utf8)
        let name = "connection "
        return String(unsafeUninitializedCapacity: name.utf8.count + 2 * route.count) { buffer in
            var end = buffer.initialize(fromContentsOf: name.utf8)
            route.withUnsafeBytes { bytes in
                for byte in bytes {
                    buffer.initializeElement(at: end, to: digits[Int(byte >> 4)])
                    buffer.initializeElement(at: end + 1, to: digits[Int(byte & 15)])
                    end += 2
                }
            }
            return end
        }
    }
}

/// A server's place with the authenticator, as long as the server lives.
private final class Admission {
    private let authenticator: Authenticator
    private let domain: String

    init(_ gate: @escaping Authenticator.Gate, domain: String) throws(TransportError) {
        self.domain = domain
        authenticator = try Context.authenticator()
        authenticator.ask(gate, about: domain)
    }

    deinit { authenticator.forget(domain) }
}

private func bindError(_ error: Int32, _ endpoint: Endpoint) -> TransportError {
    let text = String(cString: zmq_strerror(error))
    if case .ipc = endpoint.address, error != EADDRINUSE {
        return TransportError(
            .system, "\(endpoint) cannot be bound: \(text)",
            remedy: "not every file system takes sockets: listen at an ipc:// path below a local folder of your own, "
                + "$XDG_RUNTIME_DIR for example, or at tcp://127.0.0.1:PORT")
    }
    return error == EADDRINUSE
        ? TransportError(
            .addressInUse, "\(endpoint) is in use by another server", remedy: "stop it, or choose another endpoint")
        : TransportError(
            .system, "\(endpoint) cannot be bound: \(text)",
            remedy: "servers bind a numeric address of this machine, or * for all")
}
