import CZeroMQ

/// Who is connected to a server, and who may connect.
///
/// A connection counts for its address from when it is let in, and for its key, if it showed one, from its first message on;
/// `FairShare` says how many a peer may have. Lives on the loop's thread, where the authenticator has its questions answered.
///
/// libzmq does not say which connection a question is about, and handshakes overtake one another. So of an address's
/// connections that have said nothing yet, only the number of those let in is known: it grows with every admission, falls when
/// one speaks, and is never larger than the number of those that are there. That is never too small, and right when no
/// handshake is under way.
struct Admission: ~Copyable {
    /// What becomes of a connection.
    enum Decision: Sendable, Equatable {
        /// It is let in under this name, which is empty without keys.
        case admitted(user: String)
        /// It is not, because of this.
        case refused(peer: String, reason: String)
    }

    private struct Connection {
        let address: String
        let since: ContinuousClock.Instant
        /// For whom it counts, once it has spoken.
        var payer: (peer: String, account: FairShare.Account)?
    }

    /// The connections of an address that have said nothing yet.
    private struct Silent {
        /// Those that are there: let in, to be decided on, or refused and not closed yet.
        var count = 0
        /// An account for each of those let in; they count for the address.
        var admitted: [FairShare.Account] = []
    }

    /// After this time libzmq has ended every connection that was not let in (ZMQ_HANDSHAKE_IVL is five seconds).
    private static let longestHandshake = Duration.seconds(10)
    private let allowed: CurveAllowList?
    private let connections: FairShare
    private var live: [Int32: Connection] = [:]
    private var silent: [String: Silent] = [:]
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
            if let gone = live.removeValue(forKey: descriptor) {
                settle(gone, wasAdmitted: .now - gone.since > Self.longestHandshake)
            }
            // One that is gone already has no address any more.
            guard event == ZMQ_EVENT_ACCEPTED, let address = peerAddress(of: descriptor) else { continue }
            live[descriptor] = Connection(address: address, since: .now)
            silent[address, default: Silent()].count += 1
        }
    }

    /// A message of `peer` came over a connection: from now on it counts for the peer.
    mutating func heard(_ peer: String, over descriptor: Int32) {
        guard let connection = live[descriptor], connection.payer?.peer != peer else { return }
        settle(connection, wasAdmitted: true)
        live[descriptor]?.payer = (peer, connections.add(Load(count: 1), to: [peer]))
    }

    /// Whether a connection of an address is let in.
    ///
    /// - Parameter key: what it showed; nil without CURVE.
    mutating func decide(address: String, key: CurveKey?) -> Decision {
        update()
        let user = key.flatMap { allowed?.owner(ofKey: $0)?.name }
        if allowed != nil && user == nil {
            return .refused(peer: address, reason: "its key is not in the allow-list")
        }
        for peer in [address, user].compactMap(\.self) where !connections.hasRoom(for: Load(count: 1), to: [peer]) {
            let count = connections.held(by: [peer]).count
            return .refused(
                peer: peer, reason: "a connection too many: it has \(count) of \(connections.held.count)")
        }
        // One that is gone already is not there to be counted.
        if var group = silent[address], group.admitted.count < group.count {
            group.admitted.append(connections.add(Load(count: 1), to: [address]))
            silent[address] = group
        }
        return .admitted(user: user ?? "")
    }

    /// A connection does not count any more as it did.
    ///
    /// - Parameter wasAdmitted: whether one that has said nothing is known to have been let in.
    private mutating func settle(_ connection: Connection, wasAdmitted: Bool) {
        if let payer = connection.payer { return connections.remove(Load(count: 1), from: payer.account) }
        guard var group = silent[connection.address] else { return }
        group.count -= 1
        let admittedCount = min(group.admitted.count - (wasAdmitted ? 1 : 0), group.count)
        while group.admitted.count > max(0, admittedCount), let account = group.admitted.popLast() {
            connections.remove(Load(count: 1), from: account)
        }
        silent[connection.address] = group.count == 0 ? nil : group
    }
}
