import SafeTensors

/// A message that breaks a rule: what was expected, what came, and what to do.
///
/// The message itself is at fault, so sending it again would change nothing; a server tells the sender, as a `Failure`. That no
/// message went through at all is Transport's `TransportError`, and trying again may help there.
public struct WireError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure; new kinds may be added.
    public struct Code: RawRepresentable, Sendable, Hashable {
        /// The name of the kind.
        public let rawValue: String
        /// Makes a kind from its name.
        public init(rawValue: String) { self.rawValue = rawValue }

        /// Number of frames, magic or flags are wrong: not our protocol.
        public static let badFraming = Code(rawValue: "badFraming")
        /// Another version of the protocol.
        public static let unsupportedVersion = Code(rawValue: "unsupportedVersion")
        /// A kind this version does not have, or one that does not belong here.
        public static let unknownKind = Code(rawValue: "unknownKind")
        /// Header and data are not a valid safetensors file.
        public static let malformedTensors = Code(rawValue: "malformedTensors")
        /// The message's JSON lacks a field or has one of the wrong type.
        public static let malformedFields = Code(rawValue: "malformedFields")
        /// Well formed, but a value breaks a rule of the message: a shape, a range, a non-finite reward.
        public static let invalidValue = Code(rawValue: "invalidValue")
        /// A size is beyond the limits.
        public static let limitExceeded = Code(rawValue: "limitExceeded")
    }

    /// The kind of failure.
    public let code: Code
    /// What was expected and what came instead.
    public let message: String
    /// What the reader of the error can do.
    public let remedy: String?

    /// Makes an error.
    public init(_ code: Code, _ message: String, remedy: String? = nil) {
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
