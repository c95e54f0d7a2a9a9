public import TensorCore

/// Which group of a run: its epoch and its place in it. All noise of the group follows from these two numbers.
public struct GroupCoordinates: Sendable, Hashable, Comparable, Codable, CustomStringConvertible {
    /// Epoch, from 0.
    public let epoch: Int
    /// Place in the epoch, from 0.
    public let index: Int

    /// Most members of a group and most groups of an epoch that the noise counter can tell apart: together 32 bits.
    public static let memberLimit = 4096
    /// See `memberLimit`.
    public static let indexLimit = 1 << 20

    /// - Precondition: 0 <= epoch < 2³², 0 <= index < `indexLimit`.
    public init(epoch: Int, index: Int) {
        precondition(
            epoch >= 0 && epoch <= UInt32.max && index >= 0 && index < Self.indexLimit, "group \(epoch)/\(index)")
        self.epoch = epoch
        self.index = index
    }

    public var description: String { "\(epoch)/\(index)" }

    public static func < (a: GroupCoordinates, b: GroupCoordinates) -> Bool {
        (a.epoch, a.index) < (b.epoch, b.index)
    }

    /// The random stream of one member at one step: Philox counter (element block, epoch, index · 4096 + member, step).
    ///
    /// Epoch, index, member and step each keep their own bits, so no two streams of a run share a counter.
    ///
    /// - Precondition: 0 <= member < `memberLimit`, step >= 0.
    public func noise(seed: UInt64, purpose: NoisePurpose, member: Int = 0, step: Int = 0) -> Philox {
        precondition(
            member >= 0 && member < Self.memberLimit && step >= 0, "member \(member), step \(step) of group \(self)")
        return Philox(seed: seed, purpose: purpose, epoch, index * Self.memberLimit + member, step)
    }
}
