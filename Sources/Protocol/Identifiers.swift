/// A rollout group: a position in an epoch. Printed "12/3".
public struct GroupID: Sendable, Hashable, Codable, Comparable, CustomStringConvertible {
    /// Number of the epoch, from 0.
    public let epoch: Int
    /// Position within the epoch, from 0.
    public let index: Int

    /// Makes an identifier.
    public init(epoch: Int, index: Int) {
        self.epoch = epoch
        self.index = index
    }

    /// "epoch/index".
    public var description: String { "\(epoch)/\(index)" }

    /// By epoch, then by index: the order in which groups are trained.
    public static func < (left: GroupID, right: GroupID) -> Bool {
        (left.epoch, left.index) < (right.epoch, right.index)
    }
}

/// Counts updates of the policy, from 0.
public struct PolicyVersion: RawRepresentable, Sendable, Hashable, Codable, Comparable, CustomStringConvertible {
    /// The count.
    public let rawValue: Int
    /// Makes a version.
    public init(rawValue: Int) { self.rawValue = rawValue }
    /// The count.
    public var description: String { String(rawValue) }
    /// By count.
    public static func < (left: PolicyVersion, right: PolicyVersion) -> Bool { left.rawValue < right.rawValue }
}

/// Counts trainings of the discriminator, from 0.
public struct DiscriminatorVersion: RawRepresentable, Sendable, Hashable, Codable, Comparable, CustomStringConvertible {
    /// The count.
    public let rawValue: Int
    /// Makes a version.
    public init(rawValue: Int) { self.rawValue = rawValue }
    /// The count.
    public var description: String { String(rawValue) }
    /// By count.
    public static func < (left: DiscriminatorVersion, right: DiscriminatorVersion) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// One assignment of a group to a worker; never reused within a run, so a late result of an ended lease is recognised.
public struct LeaseID: RawRepresentable, Sendable, Hashable, Codable, CustomStringConvertible {
    /// The number.
    public let rawValue: Int
    /// Makes an identifier.
    public init(rawValue: Int) { self.rawValue = rawValue }
    /// The number.
    public var description: String { String(rawValue) }
}

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
