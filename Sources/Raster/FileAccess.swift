#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// Whole files, with errors that name the file. All calls block.
package enum FileAccess {
    /// The bytes of a file.
    package static func read(_ path: String, byteLimit: Int) throws(RasterError) -> [UInt8] {
        try withFile(path) { (descriptor, byteCount) throws(RasterError) in
            guard byteCount <= byteLimit else {
                throw RasterError(
                    code: .tooLarge, path: path, message: "\(byteCount) bytes, at most \(byteLimit) are read",
                    remedy: "check that it is the right file")
            }
            return try read(descriptor, at: 0, count: byteCount, path: path)
        }
    }

    /// The first and last bytes of a file, fewer when it is shorter.
    package static func ends(
        of path: String, headCount: Int, tailCount: Int
    ) throws(RasterError) -> (head: [UInt8], tail: [UInt8]) {
        try withFile(path) { (descriptor, byteCount) throws(RasterError) in
            let tailStart = max(0, byteCount - tailCount)
            return (
                try read(descriptor, at: 0, count: min(byteCount, headCount), path: path),
                try read(descriptor, at: tailStart, count: byteCount - tailStart, path: path)
            )
        }
    }

    /// The length of a file, or nil when there is no file of this name.
    package static func byteCount(of path: String) -> Int? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Int(status.st_size)
    }

    /// Opens a regular file for reading and hands out its descriptor and length.
    private static func withFile<Result>(
        _ path: String, _ body: (Int32, Int) throws(RasterError) -> Result
    ) throws(RasterError) -> Result {
        let descriptor = retrying { open(path, O_RDONLY | O_CLOEXEC) }
        guard descriptor >= 0 else { throw unreadable(path, errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unreadable(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw RasterError(code: .unreadable, path: path, message: "not a file", remedy: "check the path")
        }
        return try body(descriptor, Int(status.st_size))
    }

    /// `count` bytes from `offset`; fewer when the file has shrunk.
    private static func read(
        _ descriptor: Int32, at offset: Int, count byteCount: Int, path: String
    ) throws(RasterError) -> [UInt8] {
        var failure: Int32?
        let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            while count < byteCount {
                let rest = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[count...])
                let step = retrying { pread(descriptor, rest.baseAddress, byteCount - count, off_t(offset + count)) }
                if step < 0 { failure = errno }
                if step <= 0 { break }
                count += step
            }
        }
        if let failure { throw unreadable(path, failure) }
        return bytes
    }

    /// Replaces a file: temporary name beside it, sync, rename.
    package static func writeAtomically(_ bytes: [UInt8], to path: String) throws(RasterError) {
        let temporary = "\(path).\(getpid()).partial"
        do throws(RasterError) {
            try write(bytes, to: temporary, syncing: true)
            guard rename(temporary, path) == 0 else { throw unwritable(path, errno) }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    /// Writes a file in place; `syncing` waits for the disk.
    package static func write(_ bytes: [UInt8], to path: String, syncing: Bool) throws(RasterError) {
        let descriptor = retrying { open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644) }
        guard descriptor >= 0 else { throw unwritable(path, errno) }
        var failure: Int32?
        bytes.withUnsafeBytes { memory in
            var rest = memory[...]
            while !rest.isEmpty, failure == nil {
                let step = retrying { Self.write(descriptor, from: UnsafeRawBufferPointer(rebasing: rest)) }
                if step < 0 { failure = errno } else { rest = rest.dropFirst(step) }
            }
        }
        if syncing, failure == nil, fsync(descriptor) != 0 { failure = errno }
        if close(descriptor) != 0, failure == nil { failure = errno }
        if let failure { throw unwritable(path, failure) }
    }

    private static func write(_ descriptor: Int32, from buffer: UnsafeRawBufferPointer) -> Int {
        #if canImport(Glibc)
            Glibc.write(descriptor, buffer.baseAddress, buffer.count)
        #elseif canImport(Musl)
            Musl.write(descriptor, buffer.baseAddress, buffer.count)
        #else
            Darwin.write(descriptor, buffer.baseAddress, buffer.count)
        #endif
    }

    private static func retrying<Count: SignedInteger>(_ call: () -> Count) -> Count {
        while true {
            let result = call()
            if result >= 0 || errno != EINTR { return result }
        }
    }

    private static func unreadable(_ path: String, _ code: Int32) -> RasterError {
        RasterError(
            code: .unreadable, path: path, message: "cannot be read (\(reason(code)))",
            remedy: "check the path and its permissions")
    }

    private static func unwritable(_ path: String, _ code: Int32) -> RasterError {
        RasterError(
            code: .unwritable, path: path, message: "cannot be written (\(reason(code)))",
            remedy: "check that the folder exists, is writable and has space")
    }

    private static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
}
