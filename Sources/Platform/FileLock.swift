internal import LibC

/// A file that one process at a time holds: `flock` on a file made for it, which names its holder and goes with it.
///
/// The kernel lets go of the lock when its holder ends, however it ends; only a killed one leaves the file behind. Removing the
/// file is safe because only its holder removes it, while it holds the lock, and because whoever gets a lock looks whether the
/// name still stands for the locked file; if not, the lock is worth nothing and the next attempt takes the new file.
package final class FileLock: Sendable {
    /// The open file; a process that inherits it holds the lock, too.
    package let descriptor: Int32
    private let path: String

    /// Takes a lock, or nothing when another process has it.
    package convenience init?(_ path: String) throws(FileError) {
        guard let descriptor = try Self.take(path, waiting: false) else { return nil }
        self.init(descriptor, path)
    }

    /// Takes a lock as soon as no other process has it.
    package convenience init(waitingFor path: String) throws(FileError) {
        // Whoever waits gets the lock in the end.
        self.init(try Self.take(path, waiting: true)!, path)
    }

    private init(_ descriptor: Int32, _ path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit {
        if Self.isNamed(path, descriptor) { unlink(path) }
        close(descriptor)
    }

    /// The process that took the lock of this name last.
    package static func holder(of path: String) -> Int32? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = read(descriptor, &bytes, bytes.count)
        return Int32(String(decoding: bytes.prefix(max(0, count)).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
    }

    private static func take(_ path: String, waiting: Bool) throws(FileError) -> Int32? {
        while true {
            let descriptor = retrying { open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644) }
            guard descriptor >= 0 else { throw FileError(path, "cannot be created", writing: true) }
            if retrying({ flock(descriptor, waiting ? LOCK_EX : LOCK_EX | LOCK_NB) }) != 0 {
                let error = FileError(path, "cannot be locked", writing: true)
                close(descriptor)
                if error.cause == .system(EWOULDBLOCK) { return nil }
                throw error
            }
            if isNamed(path, descriptor) {
                let text = "\(getpid())\n"
                ftruncate(descriptor, 0)
                // Who holds it is for messages only: a full disk does not matter here.
                _ = pwrite(descriptor, text, text.utf8.count, 0)
                return descriptor
            }
            close(descriptor)
        }
    }

    /// Whether `path` still is the name of an open file.
    private static func isNamed(_ path: String, _ descriptor: Int32) -> Bool {
        var (named, own) = (stat(), stat())
        return stat(path, &named) == 0 && fstat(descriptor, &own) == 0 && named.st_ino == own.st_ino
            && named.st_dev == own.st_dev
    }
}
