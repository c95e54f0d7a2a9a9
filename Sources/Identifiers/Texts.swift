/// The run a message belongs to: 1 to 64 letters, digits, `-`, `_` or `.`.
public struct RunID: Sendable, Hashable, Codable, CustomStringConvertible {
    /// The text.
    public let rawValue: String

    /// Makes an identifier, or nil when `rawValue` breaks the rule above.
    public init?(rawValue: String) {
        guard isIdentifierText(rawValue) else { return nil }
        self.rawValue = rawValue
    }

    /// The text.
    public var description: String { rawValue }

    /// Reads the text.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = RunID(rawValue: text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "not 1 to 64 letters, digits, '-', '_' or '.'"))
        }
        self = value
    }

    /// Writes the text.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// Who asks, over all its connections: 1 to 64 letters, digits, `-`, `_` or `.`, chosen at random by the requester.
/// With the request id it tells a repetition from a new request.
public struct ClientID: Sendable, Hashable, CustomStringConvertible {
    /// The text.
    public let rawValue: String

    /// Makes an identifier, or nil when `rawValue` breaks the rule above.
    public init?(rawValue: String) {
        guard isIdentifierText(rawValue) else { return nil }
        self.rawValue = rawValue
    }

    /// The text.
    public var description: String { rawValue }
}

private func isIdentifierText(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count)
        && text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
                true
            default: false
            }
        }
}
