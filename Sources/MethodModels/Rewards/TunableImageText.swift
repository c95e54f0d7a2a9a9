public import AdvGRPO
import ImageModels
import NeuralNetworks
import Raster
public import TensorCore

/// PickScore as a discriminator: a dual encoder cut in two before the layers that a run trains.
///
/// - Source: method.md 1.13. Images are prepared as for the frozen reward, in the score and in the loss.
public struct TunableImageText: Sendable {
    /// What is trained, and how logits come out of it.
    public let encoder: TunedEncoder
    private let model: CLIPModel
    private let processor: ImageProcessor
    private let tokenizer: CLIPTokenizer
    private let layerCount: Int
    private let engine: any Engine
    private let chunks: Chunks
    /// Directions of the prompts that were asked for.
    private let texts = RememberedTensors()

    /// A folder of transformers' `CLIPModel` with tokenizer and, where present, image processor: PickScore_v1 for example.
    ///
    /// - Parameters:
    ///   - folder: of the model.
    ///   - layerCount: last layers of the vision tower that are trained, in fp32 from the files.
    ///   - engine: what computes.
    ///   - dtype: precision of everything before them and of the text tower.
    ///   - chunks: images computed at once.
    /// - Throws: `SettingViolation` when the tower has fewer layers; `ModelError`, `SafeTensorsError` naming the file.
    public init(folder: String, layerCount: Int, engine: any Engine, dtype: DType, chunks: Chunks) throws {
        let model = try CLIPModel(folder: folder, engine: engine, dtype: dtype)
        let depth = model.configuration.vision.layerCount
        guard layerCount <= depth else {
            throw SettingViolation(
                path: "discriminator.tunedLayers",
                message: "is \(layerCount), the vision tower in \(folder) has \(depth) layers")
        }
        tokenizer = try CLIPTokenizer(folder: folder)
        guard tokenizer.largestTokenID < model.vocabularySize else {
            throw ModelError(
                code: .configuration, source: folder,
                message:
                    "the tokenizer makes tokens up to \(tokenizer.largestTokenID), the model knows \(model.vocabularySize)"
            )
        }
        let end = try CLIPVisionEnd(model.configuration, folder: folder, layerCount: layerCount, engine: engine)
        encoder = TunedEncoder(parameters: end.layers, chunks: chunks) {
            end.logits(states_BTD: $0.states_BTD, texts_BP: $0.texts_BP, layers: $1, dtype: $2)
        }
        processor = try ImageProcessor(folder: folder, standard: .clip(side: model.imageSize))
        self.model = model
        self.layerCount = layerCount
        self.engine = engine
        self.chunks = chunks
    }

    /// Everything before the trained layers as a function; pieces of a batch run on the lanes.
    public func trunk(lanes: Lanes) -> TrunkFunction {
        { images_BHWC, prompt in
            let B = images_BHWC.shape[0]
            let pictures = RGBImage.images(of: images_BHWC)
            let ranges = chunks.ranges(B)
            let states = lanes.map(ranges.count) { piece in
                model.visionStates(
                    processor.pixels(Array(pictures[ranges[piece]]), on: engine), beforeLast: layerCount)
            }
            let text = text(prompt).reshaped(1, -1)
            return TrunkFeatures(
                states_BTD: concatenated(states, axis: 0),
                texts_BP: concatenated([Tensor](repeating: text, count: B), axis: 0))
        }
    }

    /// The prompt's direction in the common space, of unit length, [P]. Each prompt is read alone and once.
    private func text(_ prompt: String) -> Tensor {
        texts.tensor(of: prompt) {
            model.textFeatures([tokenizer.padded(prompt, length: model.tokenLimit)]).unitNormalized().reshaped(-1)
        }
    }
}
