/// A rollout group: its epoch and its place in it. All noise of the group follows from these two numbers. Printed
/// "12/3".
public struct GroupID: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// Epochs there can be: the noise counter has 32 bits for them.
    public static let epochs = 0..<1 << 32
    /// Places an epoch can have.
    public static let indices = 0..<1 << 20
    /// Members a group can have: together with the place they fill another 32 bits of the noise counter.
    public static let members = 0..<1 << 12

    /// Number of the epoch, from 0.
    public let epoch: Int
    /// Place within the epoch, from 0.
    public let index: Int

    /// The group that a caller knows to exist.
    ///
    /// - Precondition: `epoch` lies in `epochs`, `index` in `indices`.
    public init(epoch: Int, index: Int) {
        precondition(Self.epochs.contains(epoch) && Self.indices.contains(index), "group \(epoch)/\(index)")
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

extension GroupID: Codable {
    private enum CodingKeys: String, CodingKey { case epoch, index }

    /// Reads `{"epoch": 12, "index": 3}`.
    ///
    /// - Throws: `DecodingError.dataCorrupted` over `OutOfRange` for a number outside its range.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        epoch = try container.decode(within: Self.epochs, forKey: .epoch)
        index = try container.decode(within: Self.indices, forKey: .index)
    }
}
