#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// An exclusive lock among processes, held as long as the object lives; a killed process loses it.
final class FileLock {
    private let descriptor: Int32

    /// Waits for the lock; makes the empty file that carries it.
    init(path: String) throws(DatasetError) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Self.unwritable(path) }
        self.descriptor = descriptor
        while flock(descriptor, LOCK_EX) != 0 {
            if errno != EINTR { throw Self.unwritable(path) }
        }
    }

    deinit { close(descriptor) }

    private static func unwritable(_ path: String) -> DatasetError {
        FolderReplacement.unwritable(path, String(cString: strerror(errno)))
    }
}
