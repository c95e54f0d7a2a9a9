#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Owns an `ipc://` path while a server listens there.
///
/// libzmq would silently take a path away from a living server; a lock on `PATH.lock` (which stays behind, empty, so that
/// it can be locked without a race) makes that an error. The folder must be closed to others: it is made with mode 0700.
final class IPCGuard: Sendable {
    private let lock: Int32
    private let path: String

    /// - Throws: `insecure` when others may write to the folder, `addressInUse` when a living process has the path,
    ///   `system`.
    init(path: String) throws(TransportError) {
        try Self.prepareFolder(of: path)
        let lockPath = path + ".lock"
        lock = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        self.path = path
        guard lock >= 0 else {
            throw TransportError(.system, "\(lockPath) cannot be opened: \(String(cString: strerror(errno)))")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            let isTaken = errno == EWOULDBLOCK
            let reason = String(cString: strerror(errno))
            throw isTaken
                ? TransportError(
                    .addressInUse, "ipc://\(path) is in use by a living process",
                    remedy: "stop it, or choose another path; `fuser \(lockPath)` names it")
                : TransportError(.system, "\(lockPath) cannot be locked: \(reason)")
        }
    }

    deinit { close(lock) }

    /// Closes the socket file to other users, after binding.
    ///
    /// - Throws: `system`.
    func protectSocketFile() throws(TransportError) {
        guard chmod(path, 0o600) == 0 else {
            throw TransportError(.system, "\(path) cannot be protected: \(String(cString: strerror(errno)))")
        }
    }

    private static func prepareFolder(of path: String) throws(TransportError) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        if !folder.isEmpty, mkdir(folder, 0o700) != 0, errno != EEXIST {
            throw TransportError(
                .system, "the folder of ipc://\(path) cannot be made: \(String(cString: strerror(errno)))",
                remedy: "make \(folder) yourself, with mode 0700")
        }
        var status = stat()
        guard stat(folder.isEmpty ? "/" : folder, &status) == 0 else {
            throw TransportError(.system, "\(folder) cannot be examined: \(String(cString: strerror(errno)))")
        }
        guard status.st_uid == geteuid(), status.st_mode & 0o022 == 0 else {
            throw TransportError(
                .insecure, "other users can write to \(folder), so they could replace ipc://\(path)",
                remedy: "use a folder of your own with mode 0700")
        }
    }
}
