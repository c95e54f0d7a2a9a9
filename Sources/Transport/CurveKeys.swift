import CZeroMQ

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

/// The public keys that may talk to a server, each with the name of its owner.
public struct CurveAllowList: Sendable, Equatable {
    private var names: [CurveKey: String]

    /// These keys.
    public init(_ names: [CurveKey: String]) { self.names = names }

    /// The owner of a key, or nil when it is not allowed.
    public func name(ofKey key: CurveKey) -> String? { names[key] }

    /// Number of keys.
    public var count: Int { names.count }

    /// Reads lines of `KEY NAME`; empty lines and lines that start with `#` are comments (a Z85 key may hold `#`, but
    /// a key in first place is 40 characters long).
    ///
    /// - Throws: `invalidKey` naming the line.
    public init(text: String, source: String) throws(TransportError) {
        names = [:]
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let words = line.split(whereSeparator: \.isWhitespace)
            guard let first = words.first, first.utf8.count == 40 || !first.hasPrefix("#") else { continue }
            guard words.count == 2, let key = try? CurveKey(String(first)), words[1].utf8.count <= 128 else {
                throw TransportError(
                    .invalidKey, "\(source): line \(index + 1) is not KEY NAME",
                    remedy: "write the 40 characters of a .pub file, a space, and a name")
            }
            names[key] = String(words[1])
        }
    }
}
