package import Platform

/// Why a socket could not be opened or a request got no reply: what was expected, what happened, what to do.
///
/// Socket, peer or network are at fault, not a message: trying again may help. A message that breaks a rule is Protocol's
/// `WireError`; a peer that understood and says no answers with a `Failure`.
public struct TransportError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure; new kinds may be added.
    public struct Code: RawRepresentable, Sendable, Hashable {
        /// The name of the kind.
        public let rawValue: String
        /// Makes a kind from its name.
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The text is no endpoint.
        public static let invalidEndpoint = Code(rawValue: "invalidEndpoint")
        /// Somebody else listens there.
        public static let addressInUse = Code(rawValue: "addressInUse")
        /// Listening there without keys would let strangers in.
        public static let insecure = Code(rawValue: "insecure")
        /// A key or key file cannot be used.
        public static let invalidKey = Code(rawValue: "invalidKey")
        /// No reply came in time.
        public static let deadlineExceeded = Code(rawValue: "deadlineExceeded")
        /// More requests wait for replies than this client keeps.
        public static let tooManyRequests = Code(rawValue: "tooManyRequests")
        /// The loop or the client was closed.
        public static let closed = Code(rawValue: "closed")
        /// The operating system or libzmq refused.
        public static let system = Code(rawValue: "system")
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
