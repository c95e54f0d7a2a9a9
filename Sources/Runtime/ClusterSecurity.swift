public import Logging
internal import Platform
public import Transport

/// How a run's sockets prove who may talk to them: by the keys in one folder, or by being local.
///
/// The folder holds `server.key` and `server.pub`, `client.key` and `client.pub`, and `allowed`, the public keys that may
/// connect (`KEY NAME` a line). A machine with workers only needs `server.pub`, `client.key` and `client.pub`.
public enum ClusterSecurity {
    /// Makes both pairs and the allow-list with the client's key.
    ///
    /// - Throws: `TransportError` when the folder holds keys already or cannot be written.
    public static func generate(folder: String) throws {
        try FileStore.createFolder(folder)
        let (server, client) = (try CurveKeyPair.generate(), try CurveKeyPair.generate())
        try KeyFiles.write(server, name: "server", folder: folder)
        try KeyFiles.write(client, name: "client", folder: folder)
        try FileStore.replace(folder + "/allowed", with: Array("\(client.publicKey.text) client\n".utf8))
    }

    /// What a server of this run demands.
    ///
    /// - Throws: `TransportError` naming the key file.
    public static func server(_ cluster: ClusterSettings) throws(TransportError) -> ServerSecurity {
        guard !cluster.keys.isEmpty else { return cluster.insecure ? .insecure : .local }
        return .curve(
            try KeyFiles.pair(secretPath: cluster.keys + "/server.key"),
            allowed: try KeyFiles.allowList(path: cluster.keys + "/allowed"))
    }

    /// What a client shows to a server whose keys are in `folder`; none when it is empty.
    ///
    /// - Throws: `TransportError` naming the key file.
    public static func client(keys folder: String) throws(TransportError) -> ClientSecurity {
        guard !folder.isEmpty else { return .none }
        return .curve(
            server: try KeyFiles.publicKey(path: folder + "/server.pub"),
            own: try KeyFiles.pair(secretPath: folder + "/client.key"))
    }
}

extension ServerOptions {
    /// The options of a role's server: its keys, and in its log what it refuses.
    ///
    /// - Throws: `TransportError` naming the key file.
    public init(_ cluster: ClusterSettings, logger: Logger) throws(TransportError) {
        self.init()
        security = try ClusterSecurity.server(cluster)
        onRejection = { logger.warning("\($0)") }
    }
}

extension ClientOptions {
    /// The options of a client with the keys in `folder`, or without keys when it is empty.
    ///
    /// - Throws: `TransportError` naming the key file.
    public init(keys folder: String) throws(TransportError) {
        self.init()
        security = try ClusterSecurity.client(keys: folder)
    }
}
