package import Platform

/// What is wrong with a safetensors file or message, where, and what to do about it.
public struct SafeTensorsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure; a later version may have more.
    public enum Code: Sendable {
        /// The operating system refused to open, read, map or write.
        case inputOutput
        /// Not a safetensors file at all: a pickle, a Git LFS pointer, an empty file.
        case wrongFormat
        /// The header breaks a rule of the format.
        case malformedHeader
        /// A size is beyond what the caller allows.
        case limitExceeded
        /// A tensor's type, shape and byte range contradict each other or their neighbours.
        case inconsistentTensor
        /// A tensor, shard or file that was asked for does not exist.
        case missing
        /// A tensor exists, but not in the type that was asked for.
        case wrongType
        /// A tensor holds NaN or an infinity, or a number too large for float32.
        case notFinite
    }

    /// The kind of failure.
    public let code: Code
    /// Path of the file, or a description of the message.
    public let source: String
    /// The tensor concerned, if one is.
    public let tensor: String?
    /// What was expected and what came instead.
    public let message: String
    /// What the reader of the error can do.
    public let remedy: String?

    /// Makes an error.
    public init(code: Code, source: String, tensor: String? = nil, message: String, remedy: String? = nil) {
        self.code = code
        self.source = source
        self.tensor = tensor
        self.message = message
        self.remedy = remedy
    }

    /// One sentence: file, tensor, what is wrong, what to do.
    public var description: String {
        var text = source
        if let tensor { text += ": tensor \(quoted(tensor))" }
        text += ": \(message)"
        if let remedy { text += "; \(remedy)" }
        return text
    }
}

extension SafeTensorsError: FileFailure {
    /// The same failure in this module's words.
    package init(_ error: FileError) {
        self.init(
            code: error.isMissing ? .missing : .inputOutput, source: error.path, message: error.message,
            remedy: error.remedy)
    }
}

/// Foreign text made safe for one line of an error: escaped, and cut at 120 characters.
func quoted(_ text: String) -> String {
    text.count <= 120 ? text.debugDescription : String(text.prefix(120)).debugDescription + "..."
}
