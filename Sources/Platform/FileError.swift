internal import LibC

/// Why a file could not be used, as the operating system sees it; every module tells it in an error of its own.
package struct FileError: Error, Sendable, Equatable {
    /// What stood in the way.
    package enum Cause: Sendable, Equatable {
        /// A system call failed with this `errno`.
        case system(Int32)
        /// A folder or device was found where a file was expected.
        case notAFile
        /// A path begins with `~NAME`, and nobody has this name.
        case noSuchUser
        /// The file holds bytes that are not UTF-8.
        case notText
        /// The file is larger than its reader allows.
        case tooLarge(byteCount: Int, limit: Int)
    }

    /// The file or folder.
    package let path: String
    /// What could not be done, for example "cannot be read".
    package let problem: String
    /// Whether it was to be changed.
    package let isWriting: Bool
    /// What stood in the way.
    package let cause: Cause

    /// The error of the system call that just failed; to be made before anything else can change `errno`.
    package init(_ path: String, _ problem: String, writing isWriting: Bool) {
        cause = .system(errno)
        self.path = path
        self.problem = problem
        self.isWriting = isWriting
    }

    /// A file that is not what its reader expects.
    package init(_ path: String, _ cause: Cause) {
        self.path = path
        problem = "cannot be read"
        isWriting = false
        self.cause = cause
    }

    /// What was wrong, in half a sentence that follows the path.
    package var message: String {
        switch cause {
        case .system(let number): "\(problem) (\(String(cString: strerror(number))))"
        case .notAFile: "not a file"
        case .noSuchUser: "no user has this home folder"
        case .notText: "not UTF-8 text"
        case .tooLarge(let byteCount, let limit): "\(byteCount) bytes, at most \(limit) are read"
        }
    }

    /// What to do about it.
    package var remedy: String {
        switch cause {
        case _ where isDiskFull: "free space or choose another folder; nothing half-written is left"
        case .system where isWriting: "check that the folder exists and may be written"
        case .system: "check the path and its permissions"
        case .notAFile: "check the path"
        case .noSuchUser: "write the folder's whole path, or ./~ for a file of this name"
        case .notText: "save the file as UTF-8"
        case .tooLarge: "check that it is the right file"
        }
    }

    /// Whether the disk or quota is full.
    package var isDiskFull: Bool { cause == .system(ENOSPC) || cause == .system(EDQUOT) }
    /// Whether there is nothing of this name.
    package var isMissing: Bool { cause == .system(ENOENT) }
}

/// An error of a module that uses files: `File` and `Files` throw it in place of `FileError`, so that nobody has to translate.
package protocol FileFailure: Error {
    /// The same failure in the module's words.
    init(_ error: FileError)
}

/// Repeats a system call that a signal interrupted.
package func retrying<Count: SignedInteger>(_ call: () -> Count) -> Count {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}
