import TensorCore

/// Which prompts an epoch samples: a pure function of (seed, epoch), no cursor to save.
///
/// A pass is a permutation of all prompts, Philox(prompts; pass), cut into whole epochs; prompts left over at its end have
/// their turn in another pass, so each prompt occurs at most once an epoch.
///
/// - Source: method.md 1.2. Difference: the released sampler draws every batch anew, and its first three batches are equal.
public struct PromptOrder: Sendable, Equatable {
    /// Prompts of the data set.
    public let promptCount: Int
    /// Prompts of an epoch.
    public let groupsPerEpoch: Int
    /// Seed of the run.
    public let seed: UInt64

    /// - Precondition: 1 <= groupsPerEpoch <= promptCount.
    public init(promptCount: Int, groupsPerEpoch: Int, seed: UInt64) {
        precondition(
            groupsPerEpoch >= 1 && groupsPerEpoch <= promptCount, "\(groupsPerEpoch) groups of \(promptCount) prompts")
        self.promptCount = promptCount
        self.groupsPerEpoch = groupsPerEpoch
        self.seed = seed
    }

    /// The prompt number of every group of an epoch, in order of the groups.
    public func prompts(epoch: Int) -> [Int] {
        let epochsPerPass = promptCount / groupsPerEpoch
        let order = Philox(seed: seed, purpose: .prompts, epoch / epochsPerPass).permutation(promptCount)
        let start = epoch % epochsPerPass * groupsPerEpoch
        return Array(order[start..<start + groupsPerEpoch])
    }
}
