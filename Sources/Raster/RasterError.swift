package import Platform

/// Why an image could not be read or written.
public struct RasterError: Error, Sendable, CustomStringConvertible {
    /// The kind of failure; new ones may be added.
    public struct Code: Sendable, Hashable {
        private enum Kind { case unreadable, unsupported, corrupt, tooLarge, unwritable }
        private let kind: Kind

        /// The file cannot be opened or read.
        public static let unreadable = Code(kind: .unreadable)
        /// The bytes are of a format that is not read.
        public static let unsupported = Code(kind: .unsupported)
        /// The bytes are not a complete image of their format.
        public static let corrupt = Code(kind: .corrupt)
        /// The image has more pixels than `ImageLimits` allows.
        public static let tooLarge = Code(kind: .tooLarge)
        /// The file cannot be written.
        public static let unwritable = Code(kind: .unwritable)
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
