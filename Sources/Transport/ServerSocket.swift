import CZeroMQ
import LibC

/// How a server's socket is made and bound.
enum ServerSocket {
    /// A ROUTER socket with its options, docs/transport.md says why these; not bound yet.
    ///
    /// - Parameter domain: under which the authenticator asks about it.
    static func make(
        _ context: ContextPointer, _ endpoint: Endpoint, _ options: ServerOptions, domain: String
    ) throws(TransportError) -> Socket {
        // LINGER 3 s: the last replies of a process that ends still leave, also from a busy machine, and its end is not
        // held up for long by a peer that does not read.
        let socket = try Socket(context, type: ZMQ_ROUTER, lingerMilliseconds: 3000)
        try socket.set(ZMQ_ROUTER_MANDATORY, Int32(1))
        // A peer's replies: as many as a client may wait for, so that a client that reads never loses one here.
        try socket.set(ZMQ_SNDHWM, Int32(1024))
        try socket.set(ZMQ_RCVHWM, Int32(64))
        try socket.setCommonOptions(endpoint: endpoint, limits: options.limits)
        // A thousand workers may connect at once; the system cuts this to its own limit.
        try socket.set(ZMQ_BACKLOG, Int32(1024))
        try socket.set(ZMQ_ZAP_DOMAIN, domain)
        if case .curve(let keys, _) = options.security {
            try socket.set(ZMQ_CURVE_SERVER, Int32(1))
            try socket.set(ZMQ_CURVE_SECRETKEY, keys.secretKey.text)
        }
        return socket
    }

    /// - Throws: `addressInUse`, `system`, naming the endpoint and what to do.
    static func bind(_ socket: borrowing Socket, _ endpoint: Endpoint) throws(TransportError) {
        guard let error = socket.bind(try endpoint.bindText()) else { return }
        if error == EADDRINUSE {
            throw TransportError(
                .addressInUse, "\(endpoint) is in use by another server",
                remedy: "stop it, or choose another endpoint")
        }
        let remedy =
            if case .ipc = endpoint.address {
                "not every file system takes sockets: listen at an ipc:// path below a local folder of your own, "
                    + "$XDG_RUNTIME_DIR for example, or at tcp://127.0.0.1:PORT"
            } else {
                "servers bind a numeric address of this machine, or * for all"
            }
        throw TransportError(
            .system, "\(endpoint) cannot be bound: \(String(cString: zmq_strerror(error)))", remedy: remedy)
    }
}

/// A server's place with the authenticator, as long as the server lives.
final class GateRegistration {
    private let authenticator: Authenticator
    private let domain: String

    init(_ gate: @escaping Authenticator.Gate, domain: String) throws(TransportError) {
        self.domain = domain
        authenticator = try Context.authenticator()
        authenticator.ask(gate, about: domain)
    }

    deinit { authenticator.forget(domain) }
}
