public import AdvGRPO
public import ImageModels
public import Raster
public import TensorCore

/// A reward of a frozen model or of a formula, ready to score images.
public struct FrozenReward: Sendable {
    /// Which.
    public let component: RewardComponent
    /// How much of a prompt it reads; nil for rewards of images alone.
    public let promptReader: PromptReader?
    private let score: @Sendable (_ images: [RGBImage], _ prompts: [String], _ lanes: Lanes) throws -> [Float]

    /// Loads what the reward needs.
    ///
    /// - Parameters:
    ///   - component: a frozen one.
    ///   - folder: of its model; not read by rewards without one.
    ///   - chunks: images computed at once.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(
        _ component: RewardComponent, folder: String, engine: any Engine, dtype: DType, chunks: Chunks
    ) throws {
        self.component = component
        switch component {
        case .pickScore:
            let scorer = try ImageTextScorer.clip(folder: folder, engine: engine, dtype: dtype, chunks: chunks)
            (promptReader, score) = (scorer.reader, scorer.scores)
        case .siglip:
            let scorer = try ImageTextScorer.siglip(folder: folder, engine: engine, dtype: dtype, chunks: chunks)
            (promptReader, score) = (scorer.reader, scorer.scores)
        case .aesthetic:
            let scorer = try AestheticScorer(folder: folder, engine: engine, dtype: dtype, chunks: chunks)
            promptReader = nil
            score = { images, _, lanes in try scorer.scores(of: images, lanes: lanes) }
        case .jpegCompressibility:
            promptReader = nil
            score = { images, _, lanes in
                try lanes.map(images.count) { try -Float(images[$0].jpegBytes(quality: 95).count) / 1000 }
            }
        case .cls, .patch, .multilayer, .statistics, .texture, .thumbnail, .pickScoreAdversarial, .imageSimilarity:
            preconditionFailure("\(component.rawValue) is not a frozen reward")
        }
    }

    /// Scores on the reward's own scale, which is `component.divisor` times that of a weighted sum.
    ///
    /// - Parameters:
    ///   - images: of any sizes.
    ///   - prompts: one an image; read only by components that read prompts.
    /// - Throws: `ModelError` when tokenizer and model do not belong together.
    public func scores(of images: [RGBImage], prompts: [String], lanes: Lanes) throws -> [Float] {
        precondition(images.count == prompts.count, "\(images.count) images, \(prompts.count) prompts")
        return images.isEmpty ? [] : try score(images, prompts, lanes)
    }
}
