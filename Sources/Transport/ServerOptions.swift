public import Protocol

/// How a server behaves.
public struct ServerOptions: Sendable {
    /// Who may talk to it.
    public var security = ServerSecurity.local
    /// What it accepts.
    public var limits = WireLimits.standard
    /// The run it belongs to: requests of another run are refused, except those that ask which run it is or change it.
    public var runID: RunID?
    // What all peers share. None may hold more than it leaves free for the others, nor a connection more than it leaves to its
    // peer's others: a lone peer gets half, its lone connection a quarter.

    /// Connections at a time; more are refused.
    public var maximumConnectionCount = 4096
    /// Requests in progress at a time; more are answered with `busy`.
    public var maximumInProgressCount = 4096
    /// Bytes that requests in progress may occupy. A quarter of it has room for any message that `limits` allow.
    public var maximumInProgressByteCount = 2 << 30
    /// Finished requests whose replies are kept for repetitions.
    public var maximumCachedCount = 4096
    /// Bytes that kept replies may occupy.
    public var maximumCachedByteCount = 64 << 20
    /// Told of what is refused, once a minute for every peer and 256 times for all, on the loop's thread.
    public var onRejection: @Sendable (Rejection) -> Void = { _ in }

    /// The defaults.
    public init() {}

    /// Most bytes of kept replies when so many peers with a connection each want all they can get: each has half of half of what
    /// the others leave, and a quarter stays free.
    ///
    /// - Parameter peerCount: at least 1.
    public func keptByteCount(peerCount: Int) -> Int {
        min(peerCount * (maximumCachedByteCount / (peerCount + 3)), maximumCachedByteCount / 4 * 3)
    }
}
