public import Logging
internal import Platform
public import Protocol
public import Transport

/// How a run's sockets prove who may talk to them: by the keys in one folder, or by being local.
///
/// The folder holds a pair for the servers (`server.key` and `server.pub`), one for every role that asks (`worker.key`, ...;
/// `Role.keyNames`), and `allowed`, the public keys that may connect (`KEY NAME ROLE` a line). A machine with workers only
/// needs `server.pub` and `worker.key`.
public enum ClusterSecurity {
    /// Makes all pairs, and the allow-list with a line for every role.
    ///
    /// - Throws: `TransportError` when the folder holds keys already or cannot be written.
    public static func generate(folder: String) throws {
        try FileStore.createFolder(folder)
        try KeyFiles.write(try CurveKeyPair.generate(), name: "server", folder: folder)
        var allowed = ""
        for (name, _) in Role.keyNames {
            let pair = try CurveKeyPair.generate()
            try KeyFiles.write(pair, name: name, folder: folder)
            allowed += "\(pair.publicKey.text) \(name) \(name)\n"
        }
        try FileStore.replace(folder + "/allowed", with: Array(allowed.utf8))
    }

    /// What a server demands whose keys are in `folder`; when it is empty, that peers are local, or nothing where `insecure`.
    ///
    /// - Throws: `TransportError` naming the key file.
    public static func server(keys folder: String, insecure: Bool) throws(TransportError) -> ServerSecurity {
        guard !folder.isEmpty else { return insecure ? .insecure : .local }
        return .curve(
            try KeyFiles.pair(secretPath: folder + "/server.key"),
            allowed: try KeyFiles.allowList(path: folder + "/allowed"))
    }

    /// What a client of a role shows to a server whose keys are in `folder`; none when it is empty.
    ///
    /// - Throws: `TransportError` naming the key file.
    /// - Precondition: the role has a key.
    public static func client(keys folder: String, as role: Role) throws(TransportError) -> ClientSecurity {
        guard !folder.isEmpty else { return .none }
        guard let name = role.keyName else { preconditionFailure("ClusterSecurity: \(role) has no key") }
        let secret = folder + "/\(name).key"
        guard FileStore.exists(secret) else {
            throw TransportError(
                .invalidKey, "\(secret) is missing: every role has a key of its own",
                remedy: "make keys with `advgrpo keygen`, and copy \(name).key and server.pub to this folder")
        }
        return .curve(
            server: try KeyFiles.publicKey(path: folder + "/server.pub"), own: try KeyFiles.pair(secretPath: secret))
    }

    /// What the reward server shows to a process that gives a reward of one's own, and the key that this one must have: none
    /// when `folder` is empty.
    ///
    /// The process's key is that of the allow-list's line `KEY NAME reward`, NAME being the reward's; of the line `KEY reward
    /// reward`, as `generate` writes it, when no line has that name.
    ///
    /// - Throws: `TransportError` naming the key file or the allow-list.
    public static func rewardProcess(_ name: String, keys folder: String) throws(TransportError) -> ClientSecurity {
        guard !folder.isEmpty else { return .none }
        let known = try KeyFiles.allowList(path: folder + "/allowed").keys(of: .rewardProcess)
        let own = known.filter { $0.name == name }
        let keys = own.isEmpty ? known.filter { $0.name == Role.rewardProcess.keyName } : own
        guard keys.count == 1 else {
            throw TransportError(
                .invalidKey,
                "\(folder)/allowed has \(keys.isEmpty ? "no key" : "\(keys.count) keys") of reward process \(name)",
                remedy: "have one line KEY \(name) reward, with the key of the process's .pub file")
        }
        return .curve(server: keys[0].key, own: try KeyFiles.pair(secretPath: folder + "/server.key"))
    }
}

extension ServerOptions {
    /// The options of a role's server: the keys in `folder`, as `ClusterSecurity.server`, and in its log what it refuses.
    ///
    /// - Throws: `TransportError` naming the key file.
    public init(keys folder: String, insecure: Bool, logger: Logger) throws(TransportError) {
        self.init()
        security = try ClusterSecurity.server(keys: folder, insecure: insecure)
        onRejection = { logger.warning("\($0)") }
    }
}

extension ClientOptions {
    /// The options of a role's client with the keys in `folder`, or without keys when it is empty.
    ///
    /// - Throws: `TransportError` naming the key file.
    public init(keys folder: String, as role: Role) throws(TransportError) {
        self.init()
        self.role = role
        security = try ClusterSecurity.client(keys: folder, as: role)
    }
}
