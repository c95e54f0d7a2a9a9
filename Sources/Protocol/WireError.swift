import SafeTensors

/// A message that breaks a rule: what was expected, what came, and what to do.
///
/// The message itself is at fault, so sending it again would change nothing; a server tells the sender, as a `Failure`. That no
/// message went through at all is Transport's `TransportError`, and trying again may help there.
public struct WireError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure.
    public let code: FailureCode
    /// What was expected and what came instead.
    public let message: String
    /// What the reader of the error can do.
    public let remedy: String?

    /// Makes an error.
    public init(_ code: FailureCode, _ message: String, remedy: String? = nil) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    /// The same failure, told by the parser of header and data.
    init(_ error: SafeTensorsError) {
        self.init(error.code == .limitExceeded ? .limitExceeded : .malformedTensors, error.description)
    }

    /// One sentence.
    public var description: String { remedy.map { "\(message); \($0)" } ?? message }
}
