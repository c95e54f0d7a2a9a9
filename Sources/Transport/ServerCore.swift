import CZeroMQ
import Protocol
import SafeTensors
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

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
    /// Routing frames of a few proxies, and the message's three.
    private static let maximumFrameCount = 16
    private let socket: Socket
    private let ipcGuard: IPCGuard?
    private let options: ServerOptions
    private let shared: ServerShared
    private let handler: @Sendable (Request) -> Void
    private let submitReply: @Sendable (ReplyCache.Key, EncodedMessage, Bool) -> Void
    private let admission: Admission
    private var cache: ReplyCache
    private var arrivals: [ReplyCache.Key: ContinuousClock.Instant] = [:]
    private var reportedPeers: Set<String> = []
    /// The same, oldest first, in a ring of at most `reportedPeersKept`.
    private var reportedOrder: [String] = []
    private var oldestReported = 0
    private static let reportedPeersKept = 4096

    init(
        context: ContextPointer, endpoint: Endpoint, options: ServerOptions, shared: ServerShared, domain: String,
        handler: @escaping @Sendable (Request) -> Void,
        submitReply: @escaping @Sendable (ReplyCache.Key, EncodedMessage, _ isKept: Bool) -> Void
    ) throws(TransportError) {
        // LINGER 3 s: the last replies of a process that ends still leave, also from a busy machine, and its end is not
        // held up for long by a peer that does not read.
        let socket = try Socket(context, type: ZMQ_ROUTER, lingerMilliseconds: 3000)
        try socket.set(ZMQ_ROUTER_MANDATORY, Int32(1))
        // A peer's replies: as many as a client may wait for, so that a client that reads never loses one here.
        try socket.set(ZMQ_SNDHWM, Int32(1024))
        try socket.set(ZMQ_RCVHWM, Int32(64))
        try socket.setCommonOptions(endpoint: endpoint, limits: options.limits)
        if case .curve(let keys, _) = options.security {
            try socket.set(ZMQ_ZAP_DOMAIN, domain)
            try socket.set(ZMQ_CURVE_SERVER, Int32(1))
            try socket.set(ZMQ_CURVE_SECRETKEY, keys.secretKey.text)
        }
        if case .ipc(let path) = endpoint.address { ipcGuard = try IPCGuard(path: path) } else { ipcGuard = nil }
        // Admitted before listening: libzmq does not try again when a handshake has been refused.
        admission = try Admission(options.security, domain: domain)
        if let error = socket.bind(endpoint.bindText) { throw bindError(error, endpoint) }
        try ipcGuard?.protectSocketFile()
        boundEndpoint = socket.lastEndpoint
        self.socket = socket
        self.options = options
        self.shared = shared
        self.handler = handler
        self.submitReply = submitReply
        cache = ReplyCache(maximumCount: options.maximumCachedCount, maximumByteCount: options.maximumCachedByteCount)
    }

    func addPollItems(to items: inout [zmq_pollitem_t]) { items.append(socket.pollItem(events: ZMQ_POLLIN)) }

    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        // Bounded, so that fast peers cannot keep the loop from other work; what is left wakes the next poll at once.
        for _ in 0..<256 {
            guard let message = socket.receive(maximumFrameCount: Self.maximumFrameCount) else { break }
            accept(message.frames, message.frameCount, message.properties, now)
        }
        return nil
    }

    func close() {}

    /// Sends a reply and, if it is to be kept, remembers it.
    func finish(_ key: ReplyCache.Key, _ reply: EncodedMessage, isKept: Bool) {
        let route = cache.finish(key, reply, isKept: isKept)
        let begin = arrivals.removeValue(forKey: key)
        shared.statistics.withLock { statistics in
            statistics.inProgressCount = cache.inProgressCount
            if let begin { statistics.add(latency: ContinuousClock.now - begin) }
        }
        if !route.isEmpty { send(reply, to: route) }
    }

    private func accept(
        _ frames: [SharedBytes], _ frameCount: Int, _ properties: PeerProperties, _ now: ContinuousClock.Instant
    ) {
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
                refuse(requestID, Failure(error), route)
            }
            return
        }
        let peer = Request.Peer(
            id: message.clientID?.rawValue ?? connectionName(route[0]),
            user: properties.userID.isEmpty ? nil : properties.userID, address: properties.address)
        guard !message.envelope.isReply else { return reject("a reply came to a server", peer.id, properties) }
        let byteCount = frames.suffix(2).reduce(0) { $0 + $1.count }
        shared.statistics.withLock { $0.receivedByteCount += byteCount }
        // With keys, a name is only as good as the key it came with.
        let key = ReplyCache.Key(
            client: "\(peer.user ?? "")/\(peer.id)", requestID: message.envelope.requestID)
        decide(message, key, peer, route, byteCount, now)
    }

    private func decide(
        _ message: ReceivedMessage, _ key: ReplyCache.Key, _ peer: Request.Peer, _ route: [SharedBytes],
        _ byteCount: Int,
        _ now: ContinuousClock.Instant
    ) {
        let kind = message.envelope.kind
        switch cache.look(key, kind: kind, route: route) {
        case .inProgress: shared.statistics.withLock { $0.repetitionCount += 1 }
        case .finished(let reply):
            shared.statistics.withLock { $0.repetitionCount += 1 }
            send(reply, to: route)
        case .conflict:
            let failure = Failure(
                code: "badFraming", message: "request id \(key.requestID) was used before, for another kind of request",
                remedy: "use every id once")
            refuse(key.requestID, failure, route)
        case .new:
            let runID = shared.runID.withLock { $0 }
            if let failure = wrongRun(message, runID) { return refuse(key.requestID, failure, route) }
            guard cache.inProgressCount < options.maximumInProgressCount,
                cache.inProgressByteCount + byteCount <= options.maximumInProgressByteCount
            else {
                shared.statistics.withLock { $0.busyCount += 1 }
                let failure = Failure(
                    code: "busy", message: "\(cache.inProgressCount) requests are in progress",
                    remedy: "ask again later")
                return refuse(key.requestID, failure, route)
            }
            cache.begin(key, kind: kind, route: route, byteCount: byteCount)
            arrivals[key] = now
            shared.statistics.withLock { statistics in
                statistics.requestCount += 1
                statistics.inProgressCount = cache.inProgressCount
            }
            let submitReply = submitReply
            handler(
                Request(message: message, peer: peer, arrival: now, runID: runID, limits: options.limits) {
                    submitReply(key, $0, $1)
                })
        }
    }

    private func wrongRun(_ message: ReceivedMessage, _ own: RunID?) -> Failure? {
        guard let own, let other = message.runID, own != other,
            ![.hello, .healthRequest, .statusRequest, .stopRequest, .discriminatorRestore].contains(
                message.envelope.kind)
        else { return nil }
        return Failure(
            code: "wrongRun", message: "this server belongs to run \(own), the request to run \(other)",
            remedy: "restart the sender, or connect it to its own run")
    }

    private func refuse(_ requestID: UInt64, _ failure: Failure, _ route: [SharedBytes]) {
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

    private func reject(_ reason: String, _ peer: String, _ properties: PeerProperties) {
        shared.statistics.withLock { $0.rejectedCount += 1 }
        guard reportedPeers.insert(peer).inserted else { return }
        // Connections come and go: the memory of them is bounded by forgetting the oldest.
        if reportedOrder.count < Self.reportedPeersKept {
            reportedOrder.append(peer)
        } else {
            reportedPeers.remove(reportedOrder[oldestReported])
            reportedOrder[oldestReported] = peer
            oldestReported = (oldestReported + 1) % Self.reportedPeersKept
        }
        options.onRejection(Rejection(peer: peer, address: properties.address, reason: reason))
    }

    /// Name of a connection: its routing id.
    private func connectionName(_ route: SharedBytes) -> String {
        "connection " + route.array.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}

/// The keys a server admits, known to the authenticator as long as the server lives.
private final class Admission {
    private let authenticator: Authenticator?
    private let domain: String

    init(_ security: ServerSecurity, domain: String) throws(TransportError) {
        self.domain = domain
        if case .curve(_, let allowed) = security {
            let authenticator = try Context.authenticator()
            authenticator.admit(allowed, to: domain)
            self.authenticator = authenticator
        } else {
            authenticator = nil
        }
    }

    deinit { authenticator?.forget(domain) }
}

private func bindError(_ error: Int32, _ endpoint: Endpoint) -> TransportError {
    let text = String(cString: zmq_strerror(error))
    return error == EADDRINUSE
        ? TransportError(
            .addressInUse, "\(endpoint) is in use by another server", remedy: "stop it, or choose another endpoint")
        : TransportError(
            .system, "\(endpoint) cannot be bound: \(text)",
            remedy: "servers bind a numeric address of this machine, or * for all")
}
