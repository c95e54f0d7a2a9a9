#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// CURVE keys on disk: `NAME.key` holds the secret key and is readable by its owner only, `NAME.pub` holds the public
/// key and may be copied anywhere. Each is one line of 40 characters.
public enum KeyFiles {
    /// Writes `NAME.key` (mode 0600) and `NAME.pub` into a folder; existing files are not overwritten.
    ///
    /// - Returns: the two paths.
    /// - Throws: `system`, for example when a file exists.
    @discardableResult
    public static func write(
        _ pair: CurveKeyPair, name: String, folder: String
    ) throws(TransportError) -> (secret: String, public: String) {
        let secretPath = "\(folder)/\(name).key"
        let publicPath = "\(folder)/\(name).pub"
        try create(secretPath, mode: 0o600, text: pair.secretKey.text + "\n")
        try create(publicPath, mode: 0o644, text: pair.publicKey.text + "\n")
        return (secretPath, publicPath)
    }

    /// Reads a `.key` file.
    ///
    /// - Throws: `invalidKey` when others may read the file or it holds no key, `system` when it cannot be read.
    public static func pair(secretPath: String) throws(TransportError) -> CurveKeyPair {
        let (text, mode) = try contents(secretPath)
        guard mode & 0o077 == 0 else {
            throw TransportError(
                .invalidKey, "\(secretPath) can be read by others (mode \(String(mode, radix: 8)))",
                remedy: "chmod 600 \(secretPath), and make a new key if the machine is shared")
        }
        return try CurveKeyPair(secretKey: try key(text, path: secretPath))
    }

    /// Reads a `.pub` file.
    ///
    /// - Throws: `invalidKey`, `system`.
    public static func publicKey(path: String) throws(TransportError) -> CurveKey {
        try key(try contents(path).text, path: path)
    }

    /// Reads a list of `KEY NAME` lines.
    ///
    /// - Throws: `invalidKey`, `system`.
    public static func allowList(path: String) throws(TransportError) -> CurveAllowList {
        try CurveAllowList(text: try contents(path).text, source: path)
    }

    private static func key(_ text: String, path: String) throws(TransportError) -> CurveKey {
        let line = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
        do {
            return try CurveKey(line)
        } catch {
            throw TransportError(.invalidKey, "\(path): \(error.message)", remedy: error.remedy)
        }
    }

    private static func create(_ path: String, mode: mode_t, text: String) throws(TransportError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw failure("cannot be created", path) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard writeAll(descriptor, bytes), fsync(descriptor) == 0 else {
            throw failure("cannot be written", path)
        }
    }

    private static func contents(_ path: String) throws(TransportError) -> (text: String, mode: mode_t) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("cannot be opened", path) }
        defer { close(descriptor) }
        var status = stat()
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        guard fstat(descriptor, &status) == 0, status.st_size <= bytes.count else {
            throw failure("is no key file", path)
        }
        var count = 0
        while count < bytes.count {
            let more = readSome(descriptor, &bytes, from: count)
            guard more >= 0 else { throw failure("cannot be read", path) }
            if more == 0 { break }
            count += more
        }
        return (String(decoding: bytes[..<count], as: UTF8.self), status.st_mode & 0o777)
    }

    private static func failure(_ what: String, _ path: String) -> TransportError {
        TransportError(.system, "\(path) \(what): \(String(cString: strerror(errno)))")
    }
}

private func readSome(_ descriptor: Int32, _ bytes: inout [UInt8], from offset: Int) -> Int {
    bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress! + offset, $0.count - offset) }
}

private func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
    write(descriptor, bytes, bytes.count) == bytes.count
}
