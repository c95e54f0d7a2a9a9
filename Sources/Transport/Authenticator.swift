import CZeroMQ
import Platform
import SafeTensors
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Answers libzmq's question whether a public key may talk to a server (ZAP, ZeroMQ RFC 27), on a thread of its own.
///
/// Every CURVE server has its own domain and allow-list; an unknown domain, mechanism or key is refused.
struct Authenticator: Sendable {
    private let lists: AllowLists
    private let thread: OSThread

    /// Starts the thread; it ends when the context does.
    ///
    /// - Throws: `system`.
    init(context: ContextPointer) throws(TransportError) {
        let lists = AllowLists()
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
                Self.serve(socket, lists)
            }
        } catch {
            throw TransportError(error)
        }
        self.lists = lists
    }

    /// Admits the keys of `list` to the servers of `domain`.
    func admit(_ list: CurveAllowList, to domain: String) { lists.byDomain.withLock { $0[domain] = list } }

    /// Forgets a domain.
    func forget(_ domain: String) { lists.byDomain.withLock { $0[domain] = nil } }

    /// Waits for the thread, after the context has ended.
    func join() { thread.join() }

    private final class AllowLists: Sendable {
        let byDomain = Mutex<[String: CurveAllowList]>([:])
    }

    private static func serve(_ socket: UnsafeMutableRawPointer, _ lists: AllowLists) {
        defer { zmq_close(socket) }
        while let request = receive(from: socket) {
            let reply = answer(to: request, lists)
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
    private static func answer(to request: [[UInt8]], _ lists: AllowLists) -> [[UInt8]] {
        let requestID = request.count > 1 ? request[1] : []
        var user: String?
        if request.count == 7, request[0] == Array("1.0".utf8), request[5] == Array("CURVE".utf8),
            request[6].count == 32
        {
            let domain = String(decoding: request[2], as: UTF8.self)
            user = lists.byDomain.withLock { $0[domain] }?.name(ofKey: CurveKey(bytes: request[6]))
        }
        let (code, text) = user == nil ? ("400", "key not allowed") : ("200", "OK")
        return [Array("1.0".utf8), requestID, Array(code.utf8), Array(text.utf8), Array((user ?? "").utf8), []]
    }
}
