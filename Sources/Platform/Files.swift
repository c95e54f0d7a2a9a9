internal import LibC

/// Whole files and folders, for a module whose errors are `Failure`s. All calls block.
package enum Files<Failure: FileFailure> {
    /// All bytes of a file.
    ///
    /// - Throws: also when it is not a regular file or has more than `byteLimit` bytes.
    package static func read(_ path: String, byteLimit: Int = .max) throws(Failure) -> [UInt8] {
        let file = try File<Failure>(path, .read)
        return try read(file, byteLimit: byteLimit)
    }

    /// The UTF-8 bytes of a text file, without the byte-order mark that some editors put before them.
    ///
    /// - Throws: also when the bytes are not UTF-8.
    package static func readText(_ path: String, byteLimit: Int = .max) throws(Failure) -> [UInt8] {
        let bytes = withoutByteOrderMark(try read(path, byteLimit: byteLimit))
        guard String(validating: bytes, as: UTF8.self) != nil else { throw Failure(FileError(path, .notText)) }
        return bytes
    }

    /// All bytes of an open file.
    package static func read(_ file: borrowing File<Failure>, byteLimit: Int = .max) throws(Failure) -> [UInt8] {
        // Files of /proc say that they have no bytes.
        let expected = try file.byteCount()
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(expected, byteLimit))
        var count = 0
        if expected <= byteLimit {
            try forEachChunk(of: file, byteCount: min(1 << 20, max(expected + 1, 4096))) { chunk in
                count += chunk.count
                if count <= byteLimit { bytes.append(contentsOf: chunk) }
            }
        }
        guard max(expected, count) <= byteLimit else {
            throw Failure(FileError(file.path, .tooLarge(byteCount: max(expected, count), limit: byteLimit)))
        }
        return bytes
    }

    /// Passes a file's bytes on in pieces of at most 1 MiB.
    package static func forEachChunk(
        of path: String, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(Failure) {
        let file = try File<Failure>(path, .read)
        try forEachChunk(of: file, byteCount: 1 << 20, body)
    }

    private static func forEachChunk(
        of file: borrowing File<Failure>, byteCount: Int, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(Failure) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            let count = try file.read(into: buffer)
            if count == 0 { return }
            body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    /// The length of a file, or nil when there is no file of this name.
    package static func byteCount(of path: String) -> Int? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Int(status.st_size)
    }

    /// Writes a file in place, without waiting for the disk.
    package static func write(_ bytes: [UInt8], to path: String) throws(Failure) {
        let file = try File<Failure>(path, .replace)
        try file.write(bytes)
        try file.checkClosing()
    }

    /// Replaces a file as a whole, also after a power cut: temporary name beside it, sync, rename, sync of the folder.
    ///
    /// - Throws: the old file, if there was one, is untouched then, and the temporary one is removed.
    package static func replace(_ path: String, with bytes: [UInt8]) throws(Failure) {
        try replace(path) { (file) throws(Failure) in try file.write(bytes) }
    }

    /// `replace` with what `body` writes.
    package static func replace(
        _ path: String, _ body: (borrowing File<Failure>) throws(Failure) -> Void
    ) throws(Failure) {
        let temporary = "\(path).\(getpid())-\(UInt32.random(in: 0 ... .max)).partial"
        do throws(Failure) {
            let file = try File<Failure>(temporary, .create(permissions: 0o644))
            try body(file)
            try file.sync()
            try file.checkClosing()
            try rename(temporary, to: path)
        } catch {
            unlink(temporary)
            throw error
        }
        try sync(parent(of: path))
    }

    /// Renames a file or folder, replacing a file of the new name.
    package static func rename(_ old: String, to new: String) throws(Failure) {
        guard posixRename(old, new) == 0 else {
            throw Failure(FileError(old, "cannot be renamed to \(new)", writing: true))
        }
    }

    /// Makes `link` a symbolic link to `target`, replacing an older link at once.
    package static func link(_ link: String, to target: String) throws(Failure) {
        let temporary = "\(link).\(getpid()).partial"
        unlink(temporary)
        guard symlink(target, temporary) == 0 else { throw Failure(FileError(link, "cannot be linked", writing: true)) }
        do throws(Failure) {
            try rename(temporary, to: link)
        } catch {
            unlink(temporary)
            throw error
        }
        try sync(parent(of: link))
    }

    /// Waits until the disk has a file's bytes or a folder's names.
    package static func sync(_ path: String) throws(Failure) {
        try File<Failure>(path, .read).sync()
    }

    /// Creates a folder and those above it.
    package static func createFolder(_ path: String) throws(Failure) {
        if isFolder(path) { return }
        let above = parent(of: path)
        if above != path, !exists(above) { try createFolder(above) }
        if mkdir(path, 0o755) == 0 { return }
        // Made before looking again, which would change `errno`.
        let error = FileError(path, "cannot be created", writing: true)
        if !isFolder(path) { throw Failure(error) }
    }

    /// Whether there is a folder of this name.
    package static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Whether there is anything of this name.
    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The folder that holds a file or folder.
    package static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// Text as it is meant: a byte-order mark at its beginning says how a file is written and belongs to no line of it.
package func withoutByteOrderMark(_ bytes: [UInt8]) -> [UInt8] {
    bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.dropFirst(3)) : bytes
}

// The name that the method of the same name would hide.
private func posixRename(_ old: String, _ new: String) -> Int32 { rename(old, new) }
