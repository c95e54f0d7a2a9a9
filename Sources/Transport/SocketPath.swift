import LibC
import Synchronization

/// A socket file's path in words that the system's address takes, which holds 107 bytes.
///
/// A longer path is named from an open folder on its way: `/proc/self/fd/N/REST` is the same file. The folder stays open while the
/// process lives, because libzmq connects again, and removes a file it listened at, whenever it likes.
enum SocketPath {
    /// What to bind or connect to.
    ///
    /// - Throws: `invalidEndpoint` when no folder on the way is there from which the rest is short enough.
    static func short(_ path: String) throws(TransportError) -> String {
        if path.utf8.count <= Endpoint.maximumAddressByteCount { return path }
        #if os(Linux)
            // The folder nearest to the file, so that what may still be made behind it is as little as possible.
            var end = path.endIndex
            while let slash = path[..<end].lastIndex(of: "/") {
                let folder = slash == path.startIndex ? "/" : String(path[..<slash])
                if let descriptor = descriptor(of: folder) {
                    let text = "/proc/self/fd/\(descriptor)\(path[slash...])"
                    guard text.utf8.count <= Endpoint.maximumAddressByteCount else { break }
                    return text
                }
                end = slash
            }
        #endif
        throw TransportError(
            .invalidEndpoint, "ipc://\(path) is too long for a socket, and its folder is not there",
            remedy: "start the server first, or choose a path of at most \(Endpoint.maximumAddressByteCount) bytes")
    }

    private static let folders = Mutex<[String: Int32]>([:])

    /// An open folder of this name; nil where there is none. One that was replaced since is opened anew.
    private static func descriptor(of folder: String) -> Int32? {
        folders.withLock { folders in
            var (named, held) = (stat(), stat())
            guard stat(folder, &named) == 0 else { return nil }
            if let known = folders[folder], fstat(known, &held) == 0, held.st_ino == named.st_ino,
                held.st_dev == named.st_dev
            {
                return known
            }
            let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { return nil }
            folders[folder] = descriptor
            return descriptor
        }
    }
}
