#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// Why a file could not be used, as the operating system sees it; every module tells it in an error of its own.
package struct FileError: Error, Sendable, Equatable {
    /// The file or folder.
    package let path: String
    /// What was wanted of it, for example "cannot be opened".
    package let problem: String
    /// Whether it was to be changed.
    package let isWriting: Bool
    /// The `errno` of the system call.
    package let number: Int32

    /// The error of the system call that just failed; to be made before anything else can change `errno`.
    package init(_ path: String, _ problem: String, writing isWriting: Bool) {
        number = errno
        self.path = path
        self.problem = problem
        self.isWriting = isWriting
    }

    /// The system's words.
    package var reason: String { String(cString: strerror(number)) }
    /// Whether the disk or quota is full.
    package var isDiskFull: Bool { number == ENOSPC || number == EDQUOT }
    /// Whether there is nothing of this name.
    package var isMissing: Bool { number == ENOENT }
}

/// Repeats a system call that a signal interrupted.
package func retrying<Count: SignedInteger>(_ call: () -> Count) -> Count {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}
