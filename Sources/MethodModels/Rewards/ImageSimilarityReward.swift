import AdvGRPO
import Raster
import TensorCore

/// The largest cosine of CLS tokens to a reference of the prompt, outside of a run, which computes it from features it has.
///
/// References are read as a run reads them: at the image's size, then as the backbone has it.
extension ImageSimilarityReward: FrozenRewardLoader {
    static func load(_ sources: RewardSources) throws -> LoadedReward {
        let backbone = try VisionBackbone(
            folder: sources.folder, engine: sources.engine, dtype: sources.dtype, resize: .tensor,
            chunks: sources.chunks)
        let known = RememberedTensors()
        return LoadedReward(leftOut: backbone.leftOut) { images, prompts, lanes in
            let function = backbone.function(lanes: lanes)
            func features(_ images: [RGBImage]) -> Tensor {
                function(RGBImage.tensor(of: images, on: sources.engine), [], .score).classToken_BD
            }
            return try zip(images, prompts).map { image, prompt in
                let own = try known.tensor(of: "\(image.width) \(image.height) \(prompt)") {
                    features(try sources.references(prompt, image.width, image.height))
                }
                return nearestSimilarity(features([image]), own)[0]
            }
        }
    }
}
