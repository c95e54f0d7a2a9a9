import Protocol

/// How a server decides who may talk to it.
public enum ServerSecurity: Sendable {
    /// By the operating system: for `ipc`, `inproc` and loopback `tcp`; anything else is refused.
    case local
    /// Nobody is checked, although other machines can connect. For closed networks, on explicit request.
    case insecure
    /// By keys; traffic is encrypted.
    case curve(CurveKeyPair, allowed: CurveAllowList)

    /// Whose keys it lets in; nil: anybody.
    var allowed: CurveAllowList? {
        if case .curve(_, let allowed) = self { allowed } else { nil }
    }

    /// The role of somebody it has let in by a key.
    func role(of user: String) -> Role? { allowed?.role(of: user) }
}

/// How a client proves who it is.
public enum ClientSecurity: Sendable {
    /// Not at all.
    case none
    /// By its key, to a server that must have this one.
    case curve(server: CurveKey, own: CurveKeyPair)
}
