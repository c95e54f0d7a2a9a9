import AdvGRPO
import ImageModels
import NeuralNetworks
import Raster
import TensorCore

/// How much people would like images, by CLIP-L's image features and the predictor over them.
struct AestheticScorer: Sendable {
    private let model: CLIPModel
    private let processor: ImageProcessor
    private let head: AestheticHead
    private let engine: any Engine
    private let chunks: Chunks

    /// A folder of transformers' `CLIPModel` that also holds the predictor's file.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    init(folder: String, engine: any Engine, dtype: DType, chunks: Chunks) throws {
        model = try CLIPModel(folder: folder, engine: engine, dtype: dtype)
        processor = try ImageProcessor(folder: folder, standard: .clip(side: model.imageSize))
        head = try AestheticHead(
            Weights(path: folder + "/" + AestheticHead.fileName, engine: engine),
            width: model.configuration.projectionWidth)
        self.engine = engine
        self.chunks = chunks
    }

    /// The rating of each image; images run on the lanes.
    func scores(of images: [RGBImage], lanes: Lanes) throws -> [Float] {
        let ranges = chunks.ranges(images.count)
        return lanes.map(ranges.count) { piece in
            head(model.imageFeatures(processor.pixels(Array(images[ranges[piece]]), on: engine))).values
        }.flatMap { $0 }
    }
}
