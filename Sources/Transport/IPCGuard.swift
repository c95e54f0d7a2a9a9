import LibC
import Platform

/// Owns an `ipc://` path while a server listens there.
///
/// libzmq would silently take a path away from a living server; a lock on `PATH.lock`, and a look whether anybody answers at
/// the path, make that an error. Lock and socket file go when the server stops listening; a killed one leaves both, which
/// disturbs nobody. The folder must be closed to others: it is made with mode 0700.
final class IPCGuard {
    private let lock: FileLock
    private let path: String
    private var isListening = false

    /// - Throws: `insecure` when others may write to the folder, `addressInUse` when a living process has the path,
    ///   `system`.
    init(path: String) throws(TransportError) {
        try Self.prepareFolder(of: path)
        let lockPath = path + ".lock"
        let lock: FileLock?
        do throws(FileError) {
            lock = try FileLock(lockPath)
        } catch {
            throw TransportError(error)
        }
        guard let lock else {
            throw Self.inUse(path, FileLock.holder(of: lockPath).map { " (process \($0))" } ?? "")
        }
        self.lock = lock
        self.path = path
        // A program that does not know of the lock.
        if Self.isAnswered(path) { throw Self.inUse(path, "") }
    }

    /// The lock is still held while the socket file is removed, so that no other server's can have taken its place.
    deinit {
        if isListening { unlink(path) }
    }

    /// Closes the socket file to other users, after binding; from now on it is this server's to remove.
    ///
    /// - Throws: `system`.
    func protectSocketFile() throws(TransportError) {
        isListening = true
        guard chmod(path, 0o600) == 0 else {
            throw TransportError(.system, "\(path) cannot be protected: \(String(cString: strerror(errno)))")
        }
    }

    private static func inUse(_ path: String, _ holder: String) -> TransportError {
        TransportError(
            .addressInUse, "ipc://\(path) is in use by a living process\(holder)",
            remedy: "stop it, or choose another path; `fuser \(path)` names it")
    }

    /// Whether somebody listens at a path: a connection to a socket file that was left behind is refused.
    private static func isAnswered(_ path: String) -> Bool {
        var address = sockaddr_un()
        guard let path = try? SocketPath.short(path) else { return false }
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { place in
            guard path.utf8.count < place.count else { return false }
            place.copyBytes(from: path.utf8)
            return true
        }
        #if os(Linux)
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        #else
            let descriptor = socket(AF_UNIX, SOCK_STREAM, 0)
        #endif
        guard fits, descriptor >= 0 else { return false }
        defer { close(descriptor) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
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
