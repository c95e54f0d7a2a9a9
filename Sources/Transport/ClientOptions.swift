public import Protocol

/// How a client behaves.
public struct ClientOptions: Sendable {
    /// What it is; with keys, what its key is.
    public var role = Role.operator
    /// How it proves who it is.
    public var security = ClientSecurity.none
    /// What it accepts.
    public var limits = WireLimits.standard
    /// After this time without a reply a request is sent again, with the same id; each further wait is twice as long, up to
    /// ten times this.
    public var resendInterval = Duration.seconds(3)
    /// Requests that may wait for replies at a time; more are refused.
    public var maximumPendingCount = 1024
    /// The run its requests belong to; may be set later with `Client.join`.
    public var runID: RunID?

    /// The defaults.
    public init() {}
}
