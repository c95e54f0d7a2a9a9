import CZeroMQ
import LibC
import SafeTensors

/// Sending: small frames are copied, large ones are lent to libzmq until it has sent them.
enum OutgoingFrame {
    /// From this size on, lending costs less than copying.
    static let zeroCopyByteCount = 64 << 10

    /// - Returns: nil, or the `errno` of the refusal.
    static func send(_ bytes: SharedBytes, on socket: UnsafeMutableRawPointer, flags: Int32) -> Int32? {
        var message = zmq_msg_t()
        let (memory, owner) = bytes.retained
        if bytes.count >= zeroCopyByteCount, let owner, let start = memory.baseAddress {
            // Released by libzmq on its I/O thread, or below when the frame is refused. The memory is only read.
            let hint = Unmanaged.passRetained(owner as AnyObject).toOpaque()
            let release: @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Void = { _, hint in
                if let hint { Unmanaged<AnyObject>.fromOpaque(hint).release() }
            }
            guard zmq_msg_init_data(&message, UnsafeMutableRawPointer(mutating: start), bytes.count, release, hint) == 0
            else {
                Unmanaged<AnyObject>.fromOpaque(hint).release()
                return ENOMEM
            }
        } else {
            guard zmq_msg_init_size(&message, bytes.count) == 0 else { return ENOMEM }
            if bytes.count > 0 {
                UnsafeMutableRawBufferPointer(start: zmq_msg_data(&message), count: bytes.count).copyMemory(
                    from: memory)
            }
        }
        while zmq_msg_send(&message, socket, flags) < 0 {
            let error = zmq_errno()
            if error == EINTR { continue }
            zmq_msg_close(&message)
            return error
        }
        return nil
    }
}

/// A received frame; its bytes stay where libzmq put them and are freed with the last `SharedBytes`.
final class IncomingFrame: @unchecked Sendable {
    // Sendable: after `receive` the message is only read, and closed once, by deinit, from whatever thread; libzmq counts
    // references to shared content atomically.
    private let message: UnsafeMutablePointer<zmq_msg_t>

    /// Below this size a copy is cheaper than keeping libzmq's receive buffer alive.
    private static let copyByteCount = 8 << 10

    private init(_ message: UnsafeMutablePointer<zmq_msg_t>) { self.message = message }

    deinit {
        zmq_msg_close(message)
        message.deallocate()
    }

    /// The next frame, or nil when there is none.
    static func receive(from socket: UnsafeMutableRawPointer, flags: Int32) -> IncomingFrame? {
        let message = UnsafeMutablePointer<zmq_msg_t>.allocate(capacity: 1)
        message.initialize(to: zmq_msg_t())
        zmq_msg_init(message)
        let frame = IncomingFrame(message)
        while zmq_msg_recv(message, socket, flags) < 0 {
            if zmq_errno() != EINTR { return nil }
        }
        return frame
    }

    /// Whether further frames belong to the same message.
    var hasMore: Bool { zmq_msg_more(message) != 0 }

    /// What libzmq knows about the sender.
    var properties: PeerProperties {
        // "__fd" is what libzmq's own ZMQ_SRCFD reads.
        PeerProperties(
            address: property("Peer-Address"), userID: property("User-Id"), descriptor: Int32(property("__fd")))
    }

    /// The contents.
    func bytes() -> SharedBytes {
        let memory = UnsafeRawBufferPointer(start: zmq_msg_data(message), count: zmq_msg_size(message))
        return memory.count < Self.copyByteCount
            ? SharedBytes(copying: memory) : SharedBytes(unsafe: memory, owner: self)
    }

    private func property(_ name: String) -> String { zmq_msg_gets(message, name).map { String(cString: $0) } ?? "" }
}
