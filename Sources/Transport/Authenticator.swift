import CZeroMQ
import LibC
import Platform
import SafeTensors
import Synchronization

/// Answers libzmq's question whether somebody may connect to a server (ZAP, ZeroMQ RFC 27), on a thread of its own.
///
/// Every server has its own domain, and decides itself; an unknown domain or mechanism is refused.
struct Authenticator: Sendable {
    /// A server's answer for an address and, with CURVE, a key; may block for a moment.
    typealias Gate = @Sendable (_ address: String, _ key: CurveKey?) -> Admission.Decision

    private let gates: Gates
    private let thread: OSThread

    /// Starts the thread; it ends when the context does.
    ///
    /// - Throws: `system`.
    init(context: ContextPointer) throws(TransportError) {
        let gates = Gates()
        // The socket is handed over to the thread before anybody else could use it, with pthread_create as the barrier
        // that libzmq asks for.
        guard let pointer = zmq_socket(context.pointer, ZMQ_REP), zmq_bind(pointer, "inproc://zeromq.zap.01") == 0
        else {
            throw TransportError(.system, "libzmq has no place for the authenticator: \(zeroMQMessage())")
        }
        let address = UInt(bitPattern: pointer)
        do throws(ThreadError) {
            thread = try OSThread(name: "zmq-zap") {
                guard let socket = UnsafeMutableRawPointer(bitPattern: address) else { return }
                Self.serve(socket, gates)
            }
        } catch {
            throw TransportError(error)
        }
        self.gates = gates
    }

    /// Has the questions about a domain answered by `gate`.
    func ask(_ gate: @escaping Gate, about domain: String) { gates.byDomain.withLock { $0[domain] = gate } }

    /// Forgets a domain.
    func forget(_ domain: String) { gates.byDomain.withLock { $0[domain] = nil } }

    /// Waits for the thread, after the context has ended.
    func join() { thread.join() }

    private final class Gates: Sendable {
        let byDomain = Mutex<[String: Gate]>([:])
    }

    private static func serve(_ socket: UnsafeMutableRawPointer, _ gates: Gates) {
        defer { zmq_close(socket) }
        while let request = receive(from: socket) {
            let reply = answer(to: request, gates)
            for (position, frame) in reply.enumerated() {
                let flags = position + 1 < reply.count ? ZMQ_SNDMORE : 0
                _ = OutgoingFrame.send(SharedBytes(copying: frame), on: socket, flags: flags)
            }
        }
    }

    /// The next question, or nil when the context ends.
    private static func receive(from socket: UnsafeMutableRawPointer) -> [[UInt8]]? {
        var frames: [[UInt8]] = []
        while let frame = IncomingFrame.receive(from: socket, flags: 0) {
            frames.append(frame.bytes().array)
            if !frame.hasMore { return frames }
        }
        return nil
    }

    /// Question: version, request id, domain, address, identity, mechanism, credentials. Answer: version, request id,
    /// status code, status text, user id, metadata.
    private static func answer(to request: [[UInt8]], _ gates: Gates) -> [[UInt8]] {
        let requestID = request.count > 1 ? request[1] : []
        let (code, text, user) =
            switch decision(on: request, gates) {
            case .admitted(let user): ("200", "OK", user)
            case .refused(_, let reason): ("400", reason, "")
            }
        return [Array("1.0".utf8), requestID, Array(code.utf8), Array(text.utf8), Array(user.utf8), []]
    }

    private static func decision(on request: [[UInt8]], _ gates: Gates) -> Admission.Decision {
        func text(_ index: Int) -> String { String(decoding: request[index], as: UTF8.self) }
        guard request.count >= 6, text(0) == "1.0", let gate = gates.byDomain.withLock({ $0[text(2)] }) else {
            return .refused(peer: "", reason: "unknown server")
        }
        switch (text(5), request.count) {
        case ("NULL", _): return gate(text(3), nil)
        case ("CURVE", 7) where request[6].count == 32: return gate(text(3), CurveKey(bytes: request[6]))
        default: return .refused(peer: text(3), reason: "unknown mechanism")
        }
    }
}
