public import Protocol
import Synchronization

/// Listens at an endpoint and answers requests.
public final class Server: Sendable {
    /// Where it listens; a port 0 has been replaced by the one chosen.
    public let endpoint: Endpoint
    private let loop: SocketLoop
    private let coreID: Int
    private let shared: ServerShared

    /// Starts listening.
    ///
    /// - Parameters:
    ///   - endpoint: the `ipc` folder is made (mode 0700) if its parent exists.
    ///   - loop: whose thread serves it.
    ///   - options: limits, keys.
    ///   - handler: called on the loop's thread, once for every request, not for repetitions. It must return at once: it
    ///     either replies with what it has or hands the request to somebody else.
    /// - Throws: `insecure` when other machines could connect and `options.security` is `.local`, `addressInUse`,
    ///   `system`, `closed`.
    public init(
        _ endpoint: Endpoint, on loop: SocketLoop, options: ServerOptions = ServerOptions(),
        handler: @escaping @Sendable (Request) -> Void
    ) throws(TransportError) {
        if case .local = options.security, endpoint.isReachableFromOutside {
            throw TransportError(
                .insecure, "\(endpoint) can be reached from other machines, and no keys are set",
                remedy:
                    "make keys with `advgrpo keygen` and name their folder in cluster.keys, or set cluster.insecure to true on a closed network"
            )
        }
        let shared = ServerShared(runID: options.runID)
        let queue = loop.queue
        // The authenticator serves all loops of the process, so a number within one loop would not do.
        let domain = "server-\(UInt64.random(in: 0 ... .max))"
        let closed = Admission.Decision.refused(peer: "", reason: "the server is closing")
        let opened: (id: Int, endpoint: String) = try loop.perform { (thread) throws(TransportError) in
            let id = thread.makeID()
            let calls = ServerCalls(
                handle: handler,
                submitReply: { key, reply, isKept, code in
                    // After the loop has ended nobody is left to reply to.
                    _ = queue.submit {
                        $0.participant(id, as: ServerCore.self)?.finish(key, reply, isKept: isKept, code)
                    }
                },
                decide: { address, key in
                    let decision = Outcome<Admission.Decision>()
                    let isAsked = queue.submit { thread in
                        let core = thread.participant(id, as: ServerCore.self)
                        decision.set(core?.decide(address: address, key: key) ?? closed)
                    }
                    return isAsked ? decision.wait() : closed
                })
            let core = try ServerCore(
                context: thread.context, endpoint: endpoint, options: options, shared: shared, domain: domain,
                calls: calls)
            thread.add(core, id)
            return (id, core.boundEndpoint)
        }
        self.loop = loop
        self.shared = shared
        coreID = opened.id
        self.endpoint = try Endpoint(opened.endpoint)
    }

    deinit { close() }

    /// What it has done so far.
    public var statistics: ServerStatistics { shared.statistics.withLock { $0 } }

    /// From now on, requests of other runs are refused, and replies name this one.
    public func join(_ runID: RunID) { shared.runID.withLock { $0 = runID } }

    /// Stops listening. Requests in progress get no reply any more.
    public func close() {
        let coreID = coreID
        loop.submit { $0.remove(coreID) }
    }
}
