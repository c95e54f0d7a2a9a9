import AdvGRPO

extension PickScoreReward: FrozenRewardLoader {
    static func load(_ sources: RewardSources) throws -> LoadedReward {
        try ImageTextScorer.clip(
            folder: sources.folder, engine: sources.engine, dtype: sources.dtype, chunks: sources.chunks
        ).reward
    }
}
