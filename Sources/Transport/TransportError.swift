package import Platform

/// Why a socket could not be opened or a request got no reply: what was expected, what happened, what to do.
///
/// Socket, peer or network are at fault, not a message: trying again may help. A message that breaks a rule is Protocol's
/// `WireError`; a peer that understood and says no answers with a `Failure`.
public struct TransportError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure; a later version may have more.
    public enum Code: Sendable {
        /// The text is no endpoint.
        case invalidEndpoint
        /// Somebody else listens there.
        case addressInUse
        /// Listening there without keys would let strangers in.
        case insecure
        /// A key or key file cannot be used.
        case invalidKey
        /// No reply came in time.
        case deadlineExceeded
        /// More requests wait for replies than this client keeps.
        case tooManyRequests
        /// The loop or the client was closed.
        case closed
        /// The operating system or libzmq refused.
        case system
    }

    /// The kind of failure.
    public let code: Code
    /// What was expected and what happened instead.
    public let message: String
    /// What the reader of the error can do.
    public let remedy: String?

    /// Makes an error.
    public init(_ code: Code, _ message: String, remedy: String? = nil) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    /// One sentence.
    public var description: String { remedy.map { "\(message); \($0)" } ?? message }
}

extension TransportError: FileFailure {
    /// The same failure in this module's words.
    package init(_ error: FileError) { self.init(.system, "\(error.path) \(error.message)", remedy: error.remedy) }

    /// A thread that could not be started.
    init(_ error: ThreadError) { self.init(.system, error.description) }
}
