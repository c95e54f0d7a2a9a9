/// A SHA-256 as 64 lower-case hexadecimal digits; types tell apart what was digested.
public protocol SHA256Text: Sendable, Hashable, Codable, CustomStringConvertible {
    /// The digits.
    var hexadecimal: String { get }
    /// Takes digits that are known to be valid.
    init(validated: String)
}

extension SHA256Text {
    /// Makes a digest, or nil when the text is not 64 lower-case hexadecimal digits.
    public init?(hexadecimal: String) {
        let digits = hexadecimal.utf8
        guard digits.count == 64,
            digits.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            })
        else { return nil }
        self.init(validated: hexadecimal)
    }

    /// Makes a digest from the 32 bytes a hash function gives.
    ///
    /// - Precondition: there are 32 bytes.
    public init(bytes: some Sequence<UInt8>) {
        let digits = Array("0123456789abcdef".utf8)
        let text = bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        precondition(text.count == 64, "\(Self.self): \(text.count / 2) bytes, expected 32")
        self.init(validated: String(decoding: text, as: UTF8.self))
    }

    /// The first 12 digits, enough for a person.
    public var description: String { String(hexadecimal.prefix(12)) }

    /// Reads the digits.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(hexadecimal: text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "not 64 lower-case hexadecimal digits"))
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
public struct WeightsDigest: SHA256Text {
    /// The digits.
    public let hexadecimal: String
    /// Takes digits that are known to be valid.
    public init(validated: String) { hexadecimal = validated }
}

/// SHA-256 of bytes that travel, by which they are asked for and by which whoever receives them knows that they are right: a
/// piece of a tensor, or a manifest.
public struct PieceDigest: SHA256Text {
    /// The digits.
    public let hexadecimal: String
    /// Takes digits that are known to be valid.
    public init(validated: String) { hexadecimal = validated }
}
