package import Platform

/// A model file or folder that is not what the model needs.
public struct ModelError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of failure; a later version may have more.
    public enum Code: Sendable {
        /// A tensor has another shape than the model's configuration asks for.
        case wrongShape
        /// A tensor was asked for twice.
        case usedTwice
        /// The model has no place for some tensors of the file.
        case unusedTensors
        /// The model needs tensors that are not there.
        case missing
        /// A configuration file is absent, not JSON, or lacks a value.
        case configuration
        /// A configuration asks for something this implementation does not do.
        case unsupported
    }

    /// The kind of failure.
    public let code: Code
    /// Path of the file or folder.
    public let source: String
    /// What was expected and what came instead.
    public let message: String

    /// Makes an error.
    public init(code: Code, source: String, message: String) {
        self.code = code
        self.source = source
        self.message = message
    }

    /// One sentence: file, what is wrong.
    public var description: String { "\(source): \(message)" }
}

extension ModelError: FileFailure {
    /// The same failure in this module's words.
    package init(_ error: FileError) {
        self.init(code: .configuration, source: error.path, message: "\(error.message); \(error.remedy)")
    }
}
