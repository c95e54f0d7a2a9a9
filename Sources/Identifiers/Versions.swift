/// A count that names a version, from 0; one that is read lies within 32 bits, like the epochs that make versions.
public protocol VersionNumber: RawRepresentable, Sendable, Hashable, Codable, Comparable, CustomStringConvertible
where RawValue == Int {
    /// The version that a caller has counted.
    init(rawValue: Int)
}

extension VersionNumber {
    /// The count.
    public var description: String { String(rawValue) }
    /// By count.
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    /// Reads the number.
    ///
    /// - Throws: `DecodingError.dataCorrupted` over `OutOfRange`.
    public init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer().decode(Int.self)
        self.init(rawValue: try OutOfRange.check(value, in: GroupID.epochs, at: decoder.codingPath))
    }

    /// Writes the number.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// Counts updates of the policy, from 0.
public struct PolicyVersion: VersionNumber {
    /// The count.
    public let rawValue: Int
    /// Makes a version.
    public init(rawValue: Int) { self.rawValue = rawValue }
}

/// Counts trainings of the discriminator, from 0.
public struct DiscriminatorVersion: VersionNumber {
    /// The count.
    public let rawValue: Int
    /// Makes a version.
    public init(rawValue: Int) { self.rawValue = rawValue }
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
