import CZeroMQ
import LibC
import SafeTensors

/// One libzmq socket. It belongs to the thread that made it and is closed when its owner lets go of it.
struct Socket: ~Copyable {
    private let pointer: UnsafeMutableRawPointer

    /// - Parameters:
    ///   - type: `ZMQ_ROUTER`, `ZMQ_DEALER`, ...
    ///   - lingerMilliseconds: how long queued messages may still be sent after closing.
    init(_ context: ContextPointer, type: Int32, lingerMilliseconds: Int32) throws(TransportError) {
        guard let socket = zmq_socket(context.pointer, type) else {
            throw TransportError(.system, "libzmq cannot make a socket: \(zeroMQMessage())")
        }
        var linger = lingerMilliseconds
        zmq_setsockopt(socket, ZMQ_LINGER, &linger, MemoryLayout<Int32>.size)
        pointer = socket
    }

    deinit { zmq_close(pointer) }

    /// Becomes readable when the socket has news (ZMQ_FD). It tells them once, to the next use of the socket, whatever that
    /// is; so before it is waited for, `has` must have said that nothing is there.
    var descriptor: Int32 { option(ZMQ_FD) }

    /// Whether something can be received (ZMQ_POLLIN) or sent (ZMQ_POLLOUT) now.
    func has(_ events: Int32) -> Bool { option(ZMQ_EVENTS) & events != 0 }

    private func option(_ option: Int32) -> Int32 {
        var value: Int32 = 0
        var count = MemoryLayout<Int32>.size
        // Neither of the two can be refused while the socket is open.
        zmq_getsockopt(pointer, option, &value, &count)
        return value
    }

    func set(_ option: Int32, _ value: Int32) throws(TransportError) {
        var value = value
        try check(zmq_setsockopt(pointer, option, &value, MemoryLayout<Int32>.size), "option \(option) = \(value)")
    }

    func set(_ option: Int32, _ value: Int64) throws(TransportError) {
        var value = value
        try check(zmq_setsockopt(pointer, option, &value, MemoryLayout<Int64>.size), "option \(option) = \(value)")
    }

    func set(_ option: Int32, _ text: String) throws(TransportError) {
        try check(zmq_setsockopt(pointer, option, text, text.utf8.count), "option \(option)")
    }

    /// Binds.
    ///
    /// - Returns: nil, or the `errno` of the refusal.
    func bind(_ endpoint: String) -> Int32? { zmq_bind(pointer, endpoint) == 0 ? nil : zmq_errno() }

    func connect(_ endpoint: String) throws(TransportError) {
        try check(zmq_connect(pointer, endpoint), "connecting to \(endpoint)")
    }

    /// Where the socket is bound, with the port that was chosen.
    var lastEndpoint: String {
        var buffer = [UInt8](repeating: 0, count: 1024)
        var count = buffer.count
        guard zmq_getsockopt(pointer, ZMQ_LAST_ENDPOINT, &buffer, &count) == 0 else { return "" }
        return String(decoding: buffer[..<count].prefix { $0 != 0 }, as: UTF8.self)
    }

    /// Starts reporting `events` to a PAIR socket that connects to `endpoint`.
    func monitor(_ events: Int32, at endpoint: String) throws(TransportError) {
        try check(zmq_socket_monitor(pointer, endpoint, events), "monitor")
    }

    /// Stops reporting.
    ///
    /// To be called before the PAIR socket or this one is closed: libzmq's I/O thread would wait for ever to hand a report
    /// to a PAIR without a peer, and with it every connection of the process (libzmq 4.3.4, `socket_base_t::monitor_event`).
    func stopMonitor() { zmq_socket_monitor(pointer, nil, 0) }

    /// What became of a message to be sent.
    enum SendResult { case sent, full, unreachable }

    /// Sends all frames as one message, or nothing, without waiting.
    func send(_ frames: [SharedBytes]) -> SendResult {
        for (position, frame) in frames.enumerated() {
            let flags = ZMQ_DONTWAIT | (position + 1 < frames.count ? ZMQ_SNDMORE : 0)
            // Only the first frame can be refused: libzmq takes or drops the rest of a message that has begun.
            if let error = OutgoingFrame.send(frame, on: pointer, flags: flags) {
                return error == EAGAIN ? .full : .unreachable
            }
        }
        return .sent
    }

    /// Receives one message without waiting; nil when there is none.
    ///
    /// - Returns: its first `maximumFrameCount` frames, and how many there were; the others are read and dropped.
    func receive(maximumFrameCount: Int) -> (frames: [SharedBytes], frameCount: Int, properties: PeerProperties)? {
        var frames: [SharedBytes] = []
        var frameCount = 0
        while let frame = IncomingFrame.receive(from: pointer, flags: ZMQ_DONTWAIT) {
            frameCount += 1
            if frameCount <= maximumFrameCount { frames.append(frame.bytes()) }
            if !frame.hasMore { return (frames, frameCount, frame.properties) }
        }
        return nil
    }

    private func check(_ status: Int32, _ what: String) throws(TransportError) {
        guard status == 0 else { throw TransportError(.system, "libzmq refuses \(what): \(zeroMQMessage())") }
    }
}

/// What libzmq knows about the sender of a message.
struct PeerProperties {
    /// Network address, for `ipc` as `peerAddress` writes it; empty for `inproc`.
    var address = ""
    /// What the authenticator called it; empty without CURVE.
    var userID = ""
    /// The connection's descriptor; nil for `inproc`.
    var descriptor: Int32?

    /// What is proven of the sender: the name of its key, else its address.
    var peer: String { userID.isEmpty ? address.isEmpty ? "this process" : address : userID }
}
