package import Platform

/// A failure of this process's surroundings: files, folders, child processes.
public struct RuntimeError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What failed, for programs; the list may grow.
    public struct Code: RawRepresentable, Sendable, Hashable {
        /// The name.
        public let rawValue: String

        /// A code of this name.
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The disk or quota is full.
        public static let diskFull = Code(rawValue: "diskFull")
        /// A file or folder cannot be read.
        public static let unreadable = Code(rawValue: "unreadable")
        /// A file or folder cannot be written.
        public static let unwritable = Code(rawValue: "unwritable")
        /// Another process works in the run directory.
        public static let runInUse = Code(rawValue: "runInUse")
        /// The folder already holds a run.
        public static let runExists = Code(rawValue: "runExists")
        /// The folder holds no run to resume.
        public static let noRun = Code(rawValue: "noRun")
        /// A resumed run has other settings than before.
        public static let settingsChanged = Code(rawValue: "settingsChanged")
        /// A resumed run, or its reward server, has other models than the run was begun with.
        public static let modelChanged = Code(rawValue: "modelChanged")
        /// There is no snapshot.
        public static let noSnapshot = Code(rawValue: "noSnapshot")
        /// A snapshot's files are not what its manifest says.
        public static let corruptSnapshot = Code(rawValue: "corruptSnapshot")
        /// A process could not be started.
        public static let cannotStart = Code(rawValue: "cannotStart")
        /// A process ended and said why.
        public static let processFailed = Code(rawValue: "processFailed")
        /// A signal ended a process, more often than it is started again.
        public static let processCrashed = Code(rawValue: "processCrashed")
    }

    /// What failed.
    public let code: Code
    /// The file, folder or process.
    public let subject: String
    /// What was expected and what came.
    public let message: String
    /// What to do about it.
    public let remedy: String?

    /// Makes an error.
    public init(code: Code, subject: String, message: String, remedy: String? = nil) {
        self.code = code
        self.subject = subject
        self.message = message
        self.remedy = remedy
    }

    public var description: String { "\(subject): \(message)" + (remedy.map { "; \($0)" } ?? "") }
}

extension RuntimeError: FileFailure {
    /// The same failure in this module's words.
    package init(_ error: FileError) {
        self.init(
            code: error.isDiskFull ? .diskFull : error.isWriting ? .unwritable : .unreadable, subject: error.path,
            message: error.message, remedy: error.remedy)
    }
}

/// An open file, failing with a `RuntimeError`.
package typealias OpenFile = File<RuntimeError>

/// Whole files and folders, failing with a `RuntimeError`.
package typealias FileStore = Files<RuntimeError>
