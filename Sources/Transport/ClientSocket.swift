import CZeroMQ
import Protocol

/// How a client's socket is made.
enum ClientSocket {
    /// A DEALER socket with its options, docs/transport.md says why these; not connected yet.
    static func make(
        _ context: ContextPointer, _ endpoint: Endpoint, _ options: ClientOptions
    ) throws(TransportError) -> Socket {
        // LINGER 0: what a closed client has queued is of no use to anybody.
        let socket = try Socket(context, type: ZMQ_DEALER, lingerMilliseconds: 0)
        // ZMQ_IMMEDIATE stays 0: with 1, libzmq 4.3.4 drops what a connection has brought and nobody has read yet when it ends.
        try socket.set(ZMQ_SNDHWM, Int32(64))
        try socket.set(ZMQ_RCVHWM, Int32(64))
        try socket.setCommonOptions(endpoint: endpoint, limits: options.limits)
        try socket.set(ZMQ_RECONNECT_IVL, Int32(50))
        try socket.set(ZMQ_RECONNECT_IVL_MAX, Int32(2000))
        if case .curve(let server, let own) = options.security {
            try socket.set(ZMQ_CURVE_SERVERKEY, server.text)
            try socket.set(ZMQ_CURVE_PUBLICKEY, own.publicKey.text)
            try socket.set(ZMQ_CURVE_SECRETKEY, own.secretKey.text)
        }
        return socket
    }
}

extension Socket {
    /// Options that client and server share.
    func setCommonOptions(endpoint: Endpoint, limits: WireLimits) throws(TransportError) {
        try set(ZMQ_MAXMSGSIZE, Int64(limits.frameByteCount))
        try set(ZMQ_HANDSHAKE_IVL, Int32(5000))
        // ZMQ_HEARTBEAT_* are left alone: libzmq 4.3.4 aborts when a reader with a finite high-water mark falls behind.
        try set(ZMQ_TCP_KEEPALIVE, Int32(1))
        try set(ZMQ_TCP_KEEPALIVE_IDLE, Int32(30))
        try set(ZMQ_TCP_KEEPALIVE_INTVL, Int32(10))
        try set(ZMQ_TCP_KEEPALIVE_CNT, Int32(3))
        if endpoint.needsIPv6 { try set(ZMQ_IPV6, Int32(1)) }
    }
}
