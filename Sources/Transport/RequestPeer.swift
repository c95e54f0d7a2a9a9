import Protocol
import SafeTensors

extension Request.Peer {
    /// Who sent a message: its key's owner and role, or without keys what it says of itself.
    ///
    /// - Parameter connection: the name of its connection.
    init(
        _ message: ReceivedMessage, _ properties: PeerProperties, connection: String, security: ServerSecurity
    ) {
        let user = properties.userID.isEmpty ? nil : properties.userID
        let known = user.flatMap { security.role(of: $0) }
        self.init(
            id: message.clientID?.rawValue ?? connection, user: user, role: known ?? message.sender ?? .operator,
            address: properties.address)
    }

    /// The refusal of a request that says it comes from another role; nil when it does not.
    func contradiction(to said: Role?) -> Failure? {
        guard let said, said != role else { return nil }
        return Failure(
            code: .notAllowed,
            message: "the request says it comes from a \(said.rawValue), its key is that of a \(role.rawValue)",
            remedy: "use the key that `advgrpo keygen` made for the role")
    }
}

/// Name of a connection: its routing id.
func connectionName(_ route: SharedBytes) -> String {
    let digits = Array("0123456789abcdef".utf8)
    let name = "connection "
    return String(unsafeUninitializedCapacity: name.utf8.count + 2 * route.count) { buffer in
        var end = buffer.initialize(fromContentsOf: name.utf8)
        route.withUnsafeBytes { bytes in
            for byte in bytes {
                buffer.initializeElement(at: end, to: digits[Int(byte >> 4)])
                buffer.initializeElement(at: end + 1, to: digits[Int(byte & 15)])
                end += 2
            }
        }
        return end
    }
}
