// Who calls the method names its groups.
@_exported public import Identifiers
public import TensorCore

extension GroupID {
    /// The random stream of one member at one step: Philox counter (element block, epoch, index · 4096 + member, step).
    ///
    /// Epoch, index, member and step each keep their own bits, so no two streams of a run share a counter.
    ///
    /// - Precondition: `member` lies in `members`, step >= 0.
    public func noise(seed: UInt64, purpose: NoisePurpose, member: Int = 0, step: Int = 0) -> Philox {
        precondition(
            Self.members.contains(member) && step >= 0, "member \(member), step \(step) of group \(self)")
        return Philox(seed: seed, purpose: purpose, epoch, index * Self.members.count + member, step)
    }
}
