import CZeroMQ
import Foundation
import Processes
import Protocol
import SafeTensors
import WeightsTransfer

/// libzmq alone: a ROUTER that copies and sends.
enum BareSender {
    /// - Parameters:
    ///   - frames: lengths of the messages, in order.
    ///   - digests: whether receivers take the digest of each.
    /// - Returns: seconds until the last receiver had everything.
    static func send(_ bytes: SharedBytes, frames: [Int], digests: Bool) throws -> Double {
        let context = zmq_ctx_new()
        defer { zmq_ctx_term(context) }
        let socket = zmq_socket(context, ZMQ_ROUTER)
        defer { zmq_close(socket) }
        // Waits for a peer that has this many messages before it, rather than drop them.
        set(socket, ZMQ_ROUTER_MANDATORY, 1)
        set(socket, ZMQ_SNDHWM, Int32(8))
        guard zmq_bind(socket, "tcp://127.0.0.1:*") == 0 else { fatalError("no port") }
        var endpoint = [UInt8](repeating: 0, count: 256)
        var length = endpoint.count
        zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, &endpoint, &length)
        let receivers = try Receivers(
            [
                "receive-bare", String(decoding: endpoint.prefix { $0 != 0 }, as: UTF8.self), "\(bytes.count)",
                digests ? "digested" : "dropped",
            ])
        let peers = (0..<PublishingBench.receiverCount).map { _ in receive(socket) }
        let begin = ContinuousClock.now
        bytes.withUnsafeBytes { memory in
            var offset = 0
            for count in frames {
                for peer in peers {
                    zmq_send(socket, peer, peer.count, ZMQ_SNDMORE)
                    var message = zmq_msg_t()
                    zmq_msg_init_size(&message, count)
                    memcpy(zmq_msg_data(&message), memory.baseAddress! + offset, count)
                    guard zmq_msg_send(&message, socket, 0) >= 0 else { fatalError("not sent") }
                }
                offset += count
            }
        }
        for _ in peers { _ = receive(socket) }
        let seconds = (ContinuousClock.now - begin).seconds
        receivers.end()
        return seconds
    }

    /// One message of a peer; its name.
    private static func receive(_ socket: UnsafeMutableRawPointer?) -> [UInt8] {
        var name = [UInt8](repeating: 0, count: 64)
        let count = zmq_recv(socket, &name, name.count, 0)
        guard count > 0 else { fatalError("no name of a peer") }
        var text: UInt8 = 0
        zmq_recv(socket, &text, 1, 0)
        return Array(name.prefix(Int(count)))
    }

    static func set(_ socket: UnsafeMutableRawPointer?, _ option: Int32, _ value: Int32) {
        var value = value
        zmq_setsockopt(socket, option, &value, MemoryLayout<Int32>.size)
    }
}

/// libzmq alone: a DEALER that receives and drops.
enum BareReceiver {
    static func run(endpoint: String, byteCount: Int, digests: Bool) {
        let context = zmq_ctx_new()
        let socket = zmq_socket(context, ZMQ_DEALER)
        BareSender.set(socket, ZMQ_RCVHWM, 8)
        guard zmq_connect(socket, endpoint) == 0 else { fatalError("cannot connect to \(endpoint)") }
        zmq_send(socket, "r", 1, 0)
        var received = 0
        var message = zmq_msg_t()
        while received < byteCount {
            zmq_msg_init(&message)
            guard zmq_msg_recv(&message, socket, 0) >= 0 else { fatalError("nothing received") }
            let memory = UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message))
            if digests { _ = PieceDigest(of: SharedBytes(unsafe: memory, owner: Nobody())) }
            received += memory.count
            zmq_msg_close(&message)
        }
        zmq_send(socket, "d", 1, 0)
        zmq_close(socket)
        zmq_ctx_term(context)
    }

    /// The message itself owns the bytes while they are digested.
    private final class Nobody: Sendable {}
}
