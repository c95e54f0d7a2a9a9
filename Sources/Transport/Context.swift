import CZeroMQ
import LibC
import Synchronization

/// A libzmq context; unlike sockets it may be shared between threads.
struct ContextPointer: @unchecked Sendable {
    // Sendable: zmq_ctx_new(3): "A 0MQ context is thread safe and may be shared among as many threads as necessary".
    let pointer: UnsafeMutableRawPointer
}

/// The one libzmq context of the process, alive as long as a `SocketLoop` uses it.
///
/// One, because `inproc` endpoints, the authenticator and libzmq 4.3.4's CURVE state are per context or per process.
enum Context {
    private struct State {
        var context: ContextPointer?
        var userCount = 0
        var authenticator: Authenticator?
    }

    private static let state = Mutex(State())

    /// Takes part in the context, making it if there is none.
    ///
    /// - Throws: `system` when libzmq cannot make one.
    static func acquire() throws(TransportError) -> ContextPointer {
        let context = state.withLock { state in
            if state.context == nil, let pointer = zmq_ctx_new() {
                // Closing must never hang: sockets linger for their own time, not forever.
                zmq_ctx_set(pointer, ZMQ_BLOCKY, 0)
                // Three for every client; libzmq's own limit is 1023.
                zmq_ctx_set(pointer, ZMQ_MAX_SOCKETS, 8192)
                raiseDescriptorLimit()
                state.context = ContextPointer(pointer: pointer)
            }
            if state.context != nil { state.userCount += 1 }
            return state.context
        }
        guard let context else {
            throw TransportError(.system, "libzmq cannot make a context: \(zeroMQMessage())")
        }
        return context
    }

    /// Ends one part in the context; the last one terminates it, which sends what is still queued for the sockets'
    /// LINGER at most.
    ///
    /// The lock is held while the context ends: a new one must not begin before.
    static func release() {
        state.withLock { state in
            state.userCount -= 1
            guard state.userCount == 0, let context = state.context else { return }
            while zmq_ctx_term(context.pointer) != 0 && zmq_errno() == EINTR {}
            state.authenticator?.join()
            state.authenticator = nil
            state.context = nil
        }
    }

    /// The authenticator of the context, started when first needed; the caller takes part in the context.
    ///
    /// - Throws: `system`.
    static func authenticator() throws(TransportError) -> Authenticator {
        let result: Result<Authenticator, TransportError> = state.withLock { state in
            if let authenticator = state.authenticator { return .success(authenticator) }
            guard let context = state.context else {
                return .failure(TransportError(.closed, "the socket loop has ended"))
            }
            do throws(TransportError) {
                let authenticator = try Authenticator(context: context)
                state.authenticator = authenticator
                return .success(authenticator)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

/// libzmq's words for the error of the call that just failed.
func zeroMQMessage() -> String { String(cString: zmq_strerror(zmq_errno())) }

/// Lets the process open as many descriptors as a server with thousands of connections needs, if the system allows it; the usual
/// limit of 1024 is there for programs that use `select`.
private func raiseDescriptorLimit() {
    var limit = rlimit()
    #if canImport(Musl) || canImport(Darwin)
        let resource = RLIMIT_NOFILE
    #else
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #endif
    guard getrlimit(resource, &limit) == 0, limit.rlim_cur < 65_536 else { return }
    limit.rlim_cur = min(limit.rlim_max, 65_536)
    // Where this is refused, as many peers are served as before.
    _ = setrlimit(resource, &limit)
}
