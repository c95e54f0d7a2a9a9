import CZeroMQ

/// What a client's connection does, from libzmq's own reports.
struct ConnectionMonitor: ~Copyable {
    /// The last thing known, for error texts.
    enum State: Equatable {
        case neverConnected
        case connected
        case lost
        case refused
    }

    private(set) var state: State
    /// Counts connections that were established.
    private(set) var generation = 0
    private let events: SocketEvents

    private static let kinds =
        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH

    /// Watches `watched`, which must not be connected yet.
    ///
    /// - Parameters:
    ///   - name: unique in the process.
    ///   - earlier: what was known of the peer through an earlier socket.
    init(
        watching watched: borrowing Socket, context: ContextPointer, name: String, earlier: State = .neverConnected
    ) throws(TransportError) {
        state = earlier == .connected ? .lost : earlier
        events = try SocketEvents(of: watched, Self.kinds, context: context, name: name)
    }

    /// `SocketEvents.descriptor`; may be waited for after `update`.
    var descriptor: Int32 { events.descriptor }

    /// Reads what has been reported.
    mutating func update() {
        while let (event, _) = events.next() {
            switch event {
            case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
                state = .connected
                generation += 1
            case ZMQ_EVENT_DISCONNECTED:
                // After a refused handshake the connection is also reported as lost: the refusal says more.
                if state == .connected { state = .lost }
            default: state = .refused
            }
        }
    }
}
