internal import LibC

/// An open file that is closed when it goes out of scope. All calls block; all errors name the file.
package struct File<Failure: FileFailure>: ~Copyable, Sendable {
    /// How a file is opened.
    package enum Mode: Sendable {
        case read
        /// Created, or emptied if it exists.
        case replace
        /// Created if missing; every write goes to the end.
        case append
        /// Created with these permissions; an error if it exists.
        case create(permissions: UInt32)
    }

    /// Its path, as given.
    package let path: String
    /// Its descriptor, closed with it.
    package let descriptor: Int32

    /// Opens a file.
    package init(_ path: String, _ mode: Mode) throws(Failure) {
        let (flags, permissions, problem): (Int32, mode_t, String) =
            switch mode {
            case .read: (O_RDONLY, 0, "cannot be read")
            case .replace: (O_WRONLY | O_CREAT | O_TRUNC, 0o644, "cannot be written")
            case .append: (O_WRONLY | O_CREAT | O_APPEND, 0o644, "cannot be written")
            case .create(let permissions): (O_WRONLY | O_CREAT | O_EXCL, mode_t(permissions), "cannot be created")
            }
        let result = retrying { open(path, flags | O_CLOEXEC, permissions) }
        guard result >= 0 else { throw Failure(FileError(path, problem, writing: flags != O_RDONLY)) }
        self.path = path
        descriptor = result
    }

    deinit { close(descriptor) }

    /// Its length.
    ///
    /// - Throws: also when it is not a regular file.
    package func byteCount() throws(Failure) -> Int {
        let status = try status()
        guard status.st_mode & S_IFMT == S_IFREG else { throw Failure(FileError(path, .notAFile)) }
        return Int(status.st_size)
    }

    /// Who may do what with it, for example 0o600.
    package func permissions() throws(Failure) -> UInt32 { UInt32(try status().st_mode & 0o777) }

    private func status() throws(Failure) -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw readFailure() }
        return status
    }

    /// Fills the buffer as far as the file reaches; 0 at its end.
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(Failure) -> Int {
        let count = retrying { posixRead(descriptor, buffer.baseAddress, buffer.count) }
        guard count >= 0 else { throw readFailure() }
        return count
    }

    /// `count` bytes from `offset`; fewer when the file is shorter.
    package func bytes(at offset: Int, count byteCount: Int) throws(Failure) -> [UInt8] {
        var failure: Failure?
        let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            while count < byteCount {
                let rest = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: buffer[count...]))
                let step = retrying { pread(descriptor, rest.baseAddress, byteCount - count, off_t(offset + count)) }
                if step < 0 { failure = readFailure() }
                if step <= 0 { break }
                count += step
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Writes all bytes.
    package func write(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        var rest = bytes
        while let start = rest.baseAddress, !rest.isEmpty {
            let count = retrying { posixWrite(descriptor, start, rest.count) }
            guard count >= 0 else { throw Failure(FileError(path, "cannot be written", writing: true)) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Writes all bytes.
    package func write(_ bytes: [UInt8]) throws(Failure) {
        try bytes.withUnsafeBytes { buffer in Result { () throws(Failure) in try write(buffer) } }.get()
    }

    /// Waits until the disk has the bytes.
    package func sync() throws(Failure) {
        guard fsync(descriptor) == 0 else { throw Failure(FileError(path, "cannot be synced", writing: true)) }
    }

    /// Says what closing it would say: some file systems tell only then that there was no room.
    package func checkClosing() throws(Failure) {
        let copy = dup(descriptor)
        guard copy >= 0, close(copy) == 0 else { throw Failure(FileError(path, "cannot be written", writing: true)) }
    }

    private func readFailure() -> Failure { Failure(FileError(path, "cannot be read", writing: false)) }
}

// Names that methods of the same name would hide.
private func posixWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    write(descriptor, bytes, count)
}

private func posixRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(descriptor, bytes, count)
}
