import AdvGRPO
import Raster
import TensorCore

extension JPEGCompressibilityReward: FrozenRewardLoader {
    static func load(_ sources: RewardSources) throws -> LoadedReward {
        LoadedReward { images, _, lanes in
            try lanes.map(images.count) { try -Float(images[$0].jpegBytes(quality: 95).count) / 1000 }
        }
    }
}
