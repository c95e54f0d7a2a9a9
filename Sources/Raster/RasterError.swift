package import Platform

/// Why an image could not be read or written.
public struct RasterError: Error, Sendable, CustomStringConvertible {
    /// The kind of failure; a later version may have more.
    public enum Code: Sendable {
        /// The file cannot be opened or read.
        case unreadable
        /// The bytes are of a format that is not read.
        case unsupported
        /// The bytes are not a complete image of their format.
        case corrupt
        /// The image has more pixels than `ImageLimits` allows.
        case tooLarge
        /// The file cannot be written.
        case unwritable
    }

    public var code: Code
    /// The file, or nil for bytes in memory.
    public var path: String?
    /// What was found, against what was expected.
    public var message: String
    /// What to do about it.
    public var remedy: String

    /// Makes an error; `path` is nil for bytes in memory.
    public init(code: Code, path: String?, message: String, remedy: String) {
        self.code = code
        self.path = path
        self.message = message
        self.remedy = remedy
    }

    public var description: String { "\(path ?? "image in memory"): \(message); \(remedy)" }
}

extension RasterError: FileFailure {
    /// The same failure in this module's words.
    package init(_ error: FileError) {
        let code: Code =
            switch error.cause {
            case .tooLarge: .tooLarge
            case .system, .notAFile, .noSuchUser, .notText: error.isWriting ? .unwritable : .unreadable
            }
        self.init(code: code, path: error.path, message: error.message, remedy: error.remedy)
    }
}

/// Whole files, with this module's errors.
typealias FileAccess = Files<RasterError>
