import CZeroMQ
public import Protocol

/// One half of a CURVE key pair: 32 bytes, written as 40 characters of Z85 (ZeroMQ RFC 32).
public struct CurveKey: Sendable, Hashable {
    /// The 40 characters.
    public let text: String

    /// Reads a key.
    ///
    /// - Throws: `invalidKey` when the text is not 40 characters of Z85. The text itself is not shown: it may be secret.
    public init(_ text: String) throws(TransportError) {
        var bytes = [UInt8](repeating: 0, count: 32)
        guard text.utf8.count == 40, zmq_z85_decode(&bytes, text) != nil else {
            throw TransportError(
                .invalidKey, "a CURVE key has 40 characters of Z85, this text has \(text.utf8.count)",
                remedy: "make keys with `advgrpo keygen`")
        }
        self.text = text
    }

    /// - Precondition: there are 32 bytes.
    init(bytes: [UInt8]) {
        precondition(bytes.count == 32, "CurveKey: \(bytes.count) bytes")
        var characters = [CChar](repeating: 0, count: 41)
        zmq_z85_encode(&characters, bytes, 32)
        text = String(decoding: characters.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// A public key, which may be shown to anybody, and the secret key that belongs to it.
public struct CurveKeyPair: Sendable, Hashable {
    /// What others know.
    public let publicKey: CurveKey
    /// What must stay on this machine.
    public let secretKey: CurveKey

    /// Makes a new pair.
    ///
    /// - Throws: `system` when libzmq was built without CURVE.
    public static func generate() throws(TransportError) -> CurveKeyPair {
        var publicText = [CChar](repeating: 0, count: 41)
        var secretText = [CChar](repeating: 0, count: 41)
        guard zmq_curve_keypair(&publicText, &secretText) == 0 else {
            throw TransportError(
                .system, "libzmq makes no CURVE keys: \(zeroMQMessage())",
                remedy: "install a libzmq with CURVE (libsodium)")
        }
        func text(_ characters: [CChar]) -> String {
            String(decoding: characters.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        return CurveKeyPair(publicKey: try CurveKey(text(publicText)), secretKey: try CurveKey(text(secretText)))
    }

    /// The pair that belongs to a secret key.
    ///
    /// - Throws: `system` when libzmq was built without CURVE.
    public init(secretKey: CurveKey) throws(TransportError) {
        var publicText = [CChar](repeating: 0, count: 41)
        guard zmq_curve_public(&publicText, secretKey.text) == 0 else {
            throw TransportError(.system, "libzmq computes no CURVE keys: \(zeroMQMessage())")
        }
        publicKey = try CurveKey(String(decoding: publicText.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self))
        self.secretKey = secretKey
    }

    init(publicKey: CurveKey, secretKey: CurveKey) {
        self.publicKey = publicKey
        self.secretKey = secretKey
    }
}

/// The public keys that may talk to a server, each with its owner's name and role.
public struct CurveAllowList: Sendable, Equatable {
    /// Who has a key.
    public struct Owner: Sendable, Hashable {
        /// The name by which a server knows it; several keys may have one name, but then one role, too.
        public let name: String
        /// What its messages may ask for (`Permission`).
        public let role: Role

        /// An owner.
        public init(name: String, role: Role) {
            self.name = name
            self.role = role
        }
    }

    private var owners: [CurveKey: Owner] = [:]
    private var roles: [String: Role] = [:]

    /// These keys.
    ///
    /// - Precondition: nobody has two roles.
    public init(_ owners: [CurveKey: Owner]) {
        for (key, owner) in owners {
            precondition(add(key, owner), "CurveAllowList: \(owner.name) has two roles")
        }
    }

    /// The owner of a key, or nil when it is not allowed.
    public func owner(ofKey key: CurveKey) -> Owner? { owners[key] }

    /// The role of an owner.
    public func role(of name: String) -> Role? { roles[name] }

    /// The keys of a role, each with its owner's name.
    public func keys(of role: Role) -> [(key: CurveKey, name: String)] {
        owners.filter { $0.value.role == role }.map { ($0.key, $0.value.name) }
    }

    /// Number of keys.
    public var count: Int { owners.count }

    /// Reads lines of `KEY NAME ROLE`; empty lines and lines that start with `#` are comments (a Z85 key may hold `#`, but
    /// a key in first place is 40 characters long).
    ///
    /// - Throws: `invalidKey` naming the line.
    public init(text: String, source: String) throws(TransportError) {
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard let first = words.first, first.utf8.count == 40 || !first.hasPrefix("#") else { continue }
            func wrong(_ what: String, _ remedy: String) -> TransportError {
                TransportError(.invalidKey, "\(source): line \(index + 1) \(what)", remedy: remedy)
            }
            guard (2...3).contains(words.count), let key = try? CurveKey(String(first)), words[1].utf8.count <= 128
            else {
                throw wrong(
                    "is not KEY NAME ROLE",
                    "write the 40 characters of a .pub file, a name, and one of \(Self.roleNames), with spaces between them"
                )
            }
            guard words.count == 3, let role = Role(keyName: String(words[2])) else {
                throw wrong(
                    words.count == 2 ? "does not say which role \(words[1])'s key has" : "has no role that there is",
                    "write KEY NAME ROLE, the role being one of \(Self.roleNames), or make new keys with `advgrpo keygen`"
                )
            }
            guard add(key, Owner(name: String(words[1]), role: role)) else {
                throw wrong(
                    "gives \(words[1]) or its key a second role", "use one key and one name for every role of a peer")
            }
        }
    }

    private static let roleNames = Role.keyNames.map(\.name).joined(separator: ", ")

    /// - Returns: whether key and name had no other role before.
    private mutating func add(_ key: CurveKey, _ owner: Owner) -> Bool {
        guard roles[owner.name] ?? owner.role == owner.role, owners[key]?.role ?? owner.role == owner.role else {
            return false
        }
        owners[key] = owner
        roles[owner.name] = owner.role
        return true
    }
}
