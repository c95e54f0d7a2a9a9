#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// Files that are either wholly there or not at all, also after a power cut.
public enum DurableFile {
    /// Writes `pieces` one after the other to a temporary name in the same folder, syncs, renames over `path` and syncs
    /// the folder.
    ///
    /// - Throws: `inputOutput`; the old file, if there was one, is untouched then and the temporary one is removed.
    public static func write(_ pieces: [SharedBytes], to path: String) throws(SafeTensorsError) {
        let (folder, name) = split(path)
        let temporary = "\(folder)/.\(name).\(getpid()).\(UInt32.random(in: 0 ... .max)).tmp"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw systemError("cannot be created", path: temporary) }
        do throws(SafeTensorsError) {
            try fill(descriptor, with: pieces, path: temporary)
            guard rename(temporary, path) == 0 else { throw systemError("cannot be renamed into place", path: path) }
        } catch {
            unlink(temporary)
            throw error
        }
        try sync(folder: folder)
    }

    /// Makes the names in a folder durable.
    ///
    /// - Throws: `inputOutput`.
    public static func sync(folder: String) throws(SafeTensorsError) {
        let descriptor = open(folder, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw systemError("cannot be opened", path: folder) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw systemError("cannot be synced", path: folder) }
    }

    private static func fill(_ descriptor: Int32, with pieces: [SharedBytes], path: String) throws(SafeTensorsError) {
        var isOpen = true
        defer { if isOpen { close(descriptor) } }
        for piece in pieces { try writeAll(piece, to: descriptor, path: path) }
        guard fsync(descriptor) == 0 else { throw systemError("cannot be synced", path: path) }
        isOpen = false
        guard close(descriptor) == 0 else { throw systemError("cannot be closed", path: path) }
    }

    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = String(path[..<slash])
        return (folder.isEmpty ? "/" : folder, String(path[path.index(after: slash)...]))
    }
}

private func writeAll(_ piece: SharedBytes, to descriptor: Int32, path: String) throws(SafeTensorsError) {
    try piece.withUnsafeBytes { (bytes) throws(SafeTensorsError) in
        var rest = bytes
        while let start = rest.baseAddress, !rest.isEmpty {
            let count = write(descriptor, start, rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw systemError("cannot be written", path: path) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}
