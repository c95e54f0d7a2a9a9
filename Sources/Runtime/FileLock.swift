#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// A file that one process at a time holds; the kernel lets go of it when the process ends, however it ends.
public final class FileLock: Sendable {
    private let file: OpenFile

    /// Takes the lock or fails at once.
    ///
    /// - Parameters:
    ///   - path: the lock file; created if missing.
    ///   - subject: the run directory, as messages name it.
    /// - Throws: `runInUse`, naming the process that holds it.
    public init(path: String, subject: String) throws(RuntimeError) {
        file = try OpenFile(path, .append)
        guard retrying({ flock(file.descriptor, LOCK_EX | LOCK_NB) }) == 0 else {
            let holder = try String(decoding: FileStore.read(path), as: UTF8.self).split(separator: "\n").last
            throw RuntimeError(
                code: .runInUse, subject: subject,
                message: "another process works in this run directory" + (holder.map { " (process \($0))" } ?? ""),
                remedy: "wait for it, stop it, or choose another --run-dir")
        }
        ftruncate(file.descriptor, 0)
        try file.write(Array("\(getpid())\n".utf8))
    }
}
