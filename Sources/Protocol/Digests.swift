/// A digest as lower-case hexadecimal digits; types tell apart what was digested, and how.
public protocol DigestText: Sendable, Hashable, Codable, CustomStringConvertible {
    /// Bytes that the hash function gives; two digits each.
    static var byteCount: Int { get }
    /// The digits.
    var hexadecimal: String { get }
    /// Takes digits that are known to be valid.
    init(validated: String)
}

extension DigestText {
    /// Makes a digest, or nil when the text is not lower-case hexadecimal digits, as many as there must be.
    public init?(hexadecimal: String) {
        let digits = hexadecimal.utf8
        guard digits.count == 2 * Self.byteCount,
            digits.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            })
        else { return nil }
        self.init(validated: hexadecimal)
    }

    /// Makes a digest from the bytes a hash function gives.
    ///
    /// - Precondition: there are `byteCount` of them.
    public init(bytes: some Sequence<UInt8>) {
        let digits = Array("0123456789abcdef".utf8)
        let text = bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        precondition(
            text.count == 2 * Self.byteCount, "\(Self.self): \(text.count / 2) bytes, expected \(Self.byteCount)")
        self.init(validated: String(decoding: text, as: UTF8.self))
    }

    /// The first 12 digits, enough for a person.
    public var description: String { String(hexadecimal.prefix(12)) }

    /// Reads the digits.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(hexadecimal: text) else {
            throw DecodingError.dataCorrupted(
                .init(
                    codingPath: decoder.codingPath,
                    debugDescription: "not \(2 * Self.byteCount) lower-case hexadecimal digits"))
        }
        self = value
    }

    /// Writes the digits.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(hexadecimal)
    }
}

/// SHA-256 of published weights in their canonical form, whatever bytes they travelled as; computed by the learner, compared
/// by everybody who executes them.
public struct WeightsDigest: DigestText {
    public static let byteCount = 32
    /// The digits.
    public let hexadecimal: String
    /// Takes digits that are known to be valid.
    public init(validated: String) { hexadecimal = validated }
}

/// SHA-256 of a manifest's text, by which it is asked for. A lease names it, so nobody between learner and worker can exchange
/// what it says: names, types, shapes, and which pieces.
public struct ManifestDigest: DigestText {
    public static let byteCount = 32
    /// The digits.
    public let hexadecimal: String
    /// Takes digits that are known to be valid.
    public init(validated: String) { hexadecimal = validated }
}

/// XXH3-128 of a piece of a tensor, by which it is asked for and by which whoever receives it notices damage. It is as fast as
/// memory, and no proof against forgery: that is `WeightsDigest`, of all pieces together.
public struct PieceDigest: DigestText {
    public static let byteCount = 16
    /// The digits: the high half first, as `xxhsum -H2` prints them.
    public let hexadecimal: String
    /// Takes digits that are known to be valid.
    public init(validated: String) { hexadecimal = validated }
}

/// XXH3-128 of a set of tensors, whatever message brings it: names, types, shapes and bytes. By it a worker asks for what
/// it does not hold, whoever receives a set notices damage, and two machines that computed the same thing are compared.
public struct ContentDigest: DigestText {
    public static let byteCount = 16
    /// The digits.
    public let hexadecimal: String
    /// Takes digits that are known to be valid.
    public init(validated: String) { hexadecimal = validated }
}
