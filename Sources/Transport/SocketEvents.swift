import CZeroMQ
import SafeTensors

/// What libzmq reports of a socket's connections.
struct SocketEvents: ~Copyable {
    private let socket: Socket

    /// Watches `watched`, which must not be bound or connected yet, until `Socket.stopMonitor`.
    ///
    /// - Parameters:
    ///   - events: `ZMQ_EVENT_...`, or-ed.
    ///   - name: unique in the process.
    init(
        of watched: borrowing Socket, _ events: Int32, context: ContextPointer, name: String
    ) throws(TransportError) {
        let endpoint = "inproc://monitor-\(name)"
        try watched.monitor(events, at: endpoint)
        do throws(TransportError) {
            let socket = try Socket(context, type: ZMQ_PAIR, lingerMilliseconds: 0)
            // Unlimited: libzmq's I/O thread would wait for room with the lock held that `stopMonitor` needs. What is queued is
            // bounded by the connections that can be made while the loop does something else.
            try socket.set(ZMQ_RCVHWM, Int32(0))
            try socket.connect(endpoint)
            self.socket = socket
        } catch {
            watched.stopMonitor()
            throw error
        }
    }

    /// `Socket.descriptor`; may be waited for once `next` has returned nil.
    var descriptor: Int32 { socket.descriptor }

    /// The next report, or nil when there is none: the event and its number, for most a descriptor.
    func next() -> (event: Int32, value: Int32)? {
        while let report = socket.receive(maximumFrameCount: 2) {
            guard let frame = report.frames.first, frame.count >= 6 else { continue }
            return frame.withUnsafeBytes {
                (Int32($0.loadUnaligned(as: UInt16.self)), $0.loadUnaligned(fromByteOffset: 2, as: Int32.self))
            }
        }
        return nil
    }
}
