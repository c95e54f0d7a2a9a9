import AdvGRPO

extension SiglipReward: FrozenRewardLoader {
    static func load(_ sources: RewardSources) throws -> LoadedReward {
        try ImageTextScorer.siglip(
            folder: sources.folder, engine: sources.engine, dtype: sources.dtype, chunks: sources.chunks
        ).reward
    }
}
