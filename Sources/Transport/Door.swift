import CZeroMQ
internal import DequeModule

/// Who is connected to a server, and who may connect.
///
/// A connection counts for its address from when it is let in, and for its key, if it showed one, from its first message on;
/// `FairShare` says how many a peer may have. Lives on the loop's thread, where the authenticator has its questions answered.
///
/// libzmq does not say which connection a question is about. It is taken to be the address's oldest that has not been decided on;
/// where two change places, their first messages or their age put it right.
struct Door: ~Copyable {
    /// What becomes of a connection.
    enum Decision: Sendable, Equatable {
        /// It is let in under this name, which is empty without keys.
        case admitted(user: String)
        /// It is not, because of this.
        case refused(peer: String, reason: String)
    }

    private struct Connection {
        /// Descriptors are used again, serial numbers are not.
        let serial: Int
        let address: String
        let since: ContinuousClock.Instant
        var isDecided = false
        /// For whom it counts, once it does.
        var payer: (peer: String, account: FairShare.Account)?
    }

    /// After this time libzmq has ended every connection that was not let in (ZMQ_HANDSHAKE_IVL is five seconds).
    private static let longestHandshake = Duration.seconds(10)
    private let allowed: CurveAllowList?
    private let connections: FairShare
    private var live: [Int32: Connection] = [:]
    /// In order of arrival; some have been decided on or have gone.
    private var undecided: Deque<(descriptor: Int32, serial: Int)> = []
    private var serial = 0
    private let events: SocketEvents

    /// Watches a server's socket, which must not be bound yet.
    ///
    /// - Parameters:
    ///   - allowed: who may connect; nil: anybody.
    ///   - capacity: connections of all peers together.
    init(
        of socket: borrowing Socket, context: ContextPointer, name: String, allowed: CurveAllowList?, capacity: Int
    ) throws(TransportError) {
        self.allowed = allowed
        connections = FairShare(capacity: Load(count: capacity))
        events = try SocketEvents(
            of: socket, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED, context: context, name: name)
    }

    /// `SocketEvents.descriptor`; may be waited for after `update`.
    var descriptor: Int32 { events.descriptor }

    /// Notes who has come and gone.
    mutating func update() {
        while let (event, descriptor) = events.next() {
            if let payer = live.removeValue(forKey: descriptor)?.payer {
                connections.remove(Load(count: 1), from: payer.account)
            }
            // One that is gone already has no address any more.
            guard event == ZMQ_EVENT_ACCEPTED, let address = peerAddress(of: descriptor) else { continue }
            serial += 1
            live[descriptor] = Connection(serial: serial, address: address, since: .now)
            undecided.append((descriptor, serial))
            forgetDecided()
        }
    }

    /// A message of `peer` came over a connection: from now on it counts for the peer.
    mutating func heard(_ peer: String, over descriptor: Int32) {
        guard let connection = live[descriptor], connection.payer?.peer != peer else { return }
        count(descriptor, for: peer)
    }

    /// Whether the address's oldest undecided connection is let in.
    ///
    /// - Parameter key: what it showed; nil without CURVE.
    mutating func decide(address: String, key: CurveKey?) -> Decision {
        update()
        let descriptor = nextUndecided(address)
        let user = key.flatMap { allowed?.name(ofKey: $0) }
        if allowed != nil && user == nil {
            return .refused(peer: address, reason: "its key is not in the allow-list")
        }
        for peer in [address, user].compactMap(\.self) where !connections.hasRoom(for: Load(count: 1), to: [peer]) {
            let count = connections.held(by: [peer]).count
            return .refused(
                peer: peer, reason: "a connection too many: it has \(count) of \(connections.held.count)")
        }
        if let descriptor { count(descriptor, for: address) }
        return .admitted(user: user ?? "")
    }

    /// The address's oldest connection that has not been decided on.
    private mutating func nextUndecided(_ address: String) -> Int32? {
        forgetDecided()
        let next = undecided.first { isUndecided($0) && live[$0.descriptor]?.address == address }
        if let next { live[next.descriptor]?.isDecided = true }
        return next?.descriptor
    }

    private func isUndecided(_ name: (descriptor: Int32, serial: Int)) -> Bool {
        guard let connection = live[name.descriptor] else { return false }
        return connection.serial == name.serial && !connection.isDecided && connection.payer == nil
    }

    /// Forgets the oldest names until one is undecided; what must have been let in by now is counted.
    private mutating func forgetDecided() {
        while let oldest = undecided.first {
            if isUndecided(oldest), let connection = live[oldest.descriptor] {
                if .now - connection.since < Self.longestHandshake { return }
                count(oldest.descriptor, for: connection.address)
            }
            undecided.removeFirst()
        }
    }

    private mutating func count(_ descriptor: Int32, for peer: String) {
        if let payer = live[descriptor]?.payer { connections.remove(Load(count: 1), from: payer.account) }
        live[descriptor]?.payer = (peer, connections.add(Load(count: 1), to: [peer]))
    }
}
