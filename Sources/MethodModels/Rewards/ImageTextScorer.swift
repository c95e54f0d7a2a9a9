import AdvGRPO
import ImageModels
import NeuralNetworks
import Raster
import TensorCore

/// How well images fit their prompts, by a dual encoder with its tokenizer and image processor.
struct ImageTextScorer: Sendable {
    private let model: any ImageTextModel
    private let processor: ImageProcessor
    private let tokens: @Sendable (String) -> [Int32]
    /// How much of a prompt is read.
    private let reader: PromptReader
    private let engine: any Engine
    private let source: String
    private let chunks: Chunks

    /// A folder of transformers' `CLIPModel` with tokenizer and, where present, image processor: PickScore_v1 for example.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func clip(folder: String, engine: any Engine, dtype: DType, chunks: Chunks) throws -> ImageTextScorer {
        let model = try CLIPModel(folder: folder, engine: engine, dtype: dtype)
        let tokenizer = try CLIPTokenizer(folder: folder)
        let length = model.tokenLimit
        return ImageTextScorer(
            model: model, processor: try ImageProcessor(folder: folder, standard: .clip(side: model.imageSize)),
            tokens: { tokenizer.padded($0, length: length) },
            reader: PromptReader(name: "CLIP", limit: length) { tokenizer.tokens($0).count }, engine: engine,
            source: folder, chunks: chunks)
    }

    /// A folder of transformers' `SiglipModel` with tokenizer and, where present, image processor.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func siglip(folder: String, engine: any Engine, dtype: DType, chunks: Chunks) throws -> ImageTextScorer {
        let model = try SiglipModel(folder: folder, engine: engine, dtype: dtype)
        let tokenizer = try SiglipTokenizer(folder: folder)
        let length = model.tokenLimit
        return ImageTextScorer(
            model: model, processor: try ImageProcessor(folder: folder, standard: .siglip(side: model.imageSize)),
            tokens: { tokenizer.padded($0, length: length) },
            reader: PromptReader(name: "SigLIP", limit: length) { tokenizer.tokens($0).count }, engine: engine,
            source: folder, chunks: chunks)
    }

    /// The scorer as a frozen reward: its logits.
    var reward: LoadedReward { LoadedReward(promptReader: reader, maps: maps, score: scores) }

    /// - Throws: `ModelError` when the tokenizer is not the model's.
    private func maps(of images: [RGBImage], prompt: String, attribution: Attribution) throws -> RewardMaps {
        let text = model.textFeatures([try sequence(prompt)])
        return processor.maps(of: images, on: engine, attribution: attribution) { pixels_BCHW in
            model.logits(imageFeatures_BP: model.imageFeatures(pixels_BCHW), textFeatures_NP: text).reshaped(-1)
        }
    }

    /// A prompt's tokens.
    ///
    /// - Throws: `ModelError` when the tokenizer is not the model's.
    private func sequence(_ prompt: String) throws -> [Int32] {
        let sequence = tokens(prompt)
        if let token = sequence.first(where: { $0 < 0 || $0 >= model.vocabularySize }) {
            throw ModelError(
                code: .configuration, source: source,
                message: "the tokenizer made token \(token), the model knows \(model.vocabularySize)")
        }
        return sequence
    }

    /// The logit of each image with its own prompt; images run on the lanes, a prompt is read once however many images it has.
    ///
    /// - Parameter prompts: one an image.
    /// - Throws: `ModelError` when the tokenizer is not the model's.
    private func scores(of images: [RGBImage], prompts: [String], lanes: Lanes) throws -> [Float] {
        let texts = Set(prompts).sorted()
        let numbers = Dictionary(texts.enumerated().map { ($0.element, $0.offset) }) { first, _ in first }
        let sequences = try texts.map(sequence)
        let textRanges = chunks.ranges(texts.count)
        let textFeatures = concatenated(
            lanes.map(textRanges.count) { model.textFeatures(Array(sequences[textRanges[$0]])) }, axis: 0)
        let ranges = chunks.ranges(images.count)
        return lanes.map(ranges.count) { piece in
            let logits = model.logits(
                imageFeatures_BP: model.imageFeatures(processor.pixels(Array(images[ranges[piece]]), on: engine)),
                textFeatures_NP: textFeatures)
            let (values, N) = (logits.values, texts.count)
            return ranges[piece].enumerated().map { row, image in values[row * N + (numbers[prompts[image]] ?? 0)] }
        }.flatMap { $0 }
    }
}
