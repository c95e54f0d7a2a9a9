public import Protocol

/// How a server behaves.
public struct ServerOptions: Sendable {
    /// Who may talk to it.
    public var security = ServerSecurity.local
    /// What it accepts.
    public var limits = WireLimits.standard
    /// The run it belongs to: requests of another run are refused, except those that ask which run it is or change it.
    public var runID: RunID?
    /// Requests that may be in progress at a time; more are answered with `busy`.
    public var maximumInProgressCount = 1024
    /// Bytes that requests in progress may occupy together.
    public var maximumInProgressByteCount = 1 << 30
    /// Finished requests whose replies are kept for repetitions.
    public var maximumCachedCount = 4096
    /// Bytes that kept replies may occupy together.
    public var maximumCachedByteCount = 64 << 20
    /// Told once for every peer that sends something unacceptable, on the loop's thread.
    public var onRejection: @Sendable (Rejection) -> Void = { _ in }

    /// The defaults.
    public init() {}
}
