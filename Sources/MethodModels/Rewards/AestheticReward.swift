import AdvGRPO
import ImageModels
import NeuralNetworks
import Raster
import TensorCore

/// How much people would like images, by CLIP-L's image features and the predictor over them. The folder is one of transformers'
/// `CLIPModel` that also holds the predictor's file.
extension AestheticReward: FrozenRewardLoader {
    static var additionalFiles: [String] { [AestheticHead.fileName] }

    static func load(_ sources: RewardSources) throws -> LoadedReward {
        let (folder, engine, chunks) = (sources.folder, sources.engine, sources.chunks)
        let model = try CLIPModel(folder: folder, engine: engine, dtype: sources.dtype)
        let processor = try ImageProcessor(folder: folder, standard: .clip(side: model.imageSize))
        let head = try AestheticHead(
            Weights(path: folder + "/" + AestheticHead.fileName, engine: engine),
            width: model.configuration.projectionWidth)
        let rating: @Sendable (Tensor) -> Tensor = { head(model.imageFeatures($0)) }
        return LoadedReward(
            maps: { images, _, attribution in
                processor.maps(of: images, on: engine, attribution: attribution, score: rating)
            },
            score: { images, _, lanes in
                let ranges = chunks.ranges(images.count)
                return lanes.map(ranges.count) { piece in
                    rating(processor.pixels(Array(images[ranges[piece]]), on: engine)).values
                }.flatMap { $0 }
            })
    }
}
