import Platform

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

    /// Reads a list of `KEY NAME ROLE` lines.
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

    private static func create(_ path: String, mode: UInt32, text: String) throws(TransportError) {
        let file = try File<TransportError>(path, .create(permissions: mode))
        try file.write(Array(text.utf8))
        try file.sync()
    }

    private static func contents(_ path: String) throws(TransportError) -> (text: String, mode: UInt32) {
        let file = try File<TransportError>(path, .read)
        let bytes = try Files<TransportError>.read(file, byteLimit: 1 << 20)
        return (String(decoding: withoutByteOrderMark(bytes), as: UTF8.self), try file.permissions())
    }
}
