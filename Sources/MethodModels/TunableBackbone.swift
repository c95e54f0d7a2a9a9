public import AdvGRPO
import ImageModels
import NeuralNetworks
public import TensorCore

/// The backbone's end as the discriminator trains it: all weights of its last blocks, or an adapter on all of its blocks.
///
/// - Source: adapter: Hu et al. 2021 (LoRA), on the projections of attention and of the feed-forward networks, alpha = r.
public struct TunableBackbone: Sendable {
    /// What is trained, and how features come out of it.
    public let tuned: TunedBackbone

    /// Reads the blocks' tensors in fp32.
    ///
    /// - Parameters:
    ///   - folder: of the backbone.
    ///   - settings: which of its weights are trained.
    ///   - seed: of the run; it draws an adapter's A.
    ///   - engine: what computes.
    ///   - chunks: images computed at once.
    /// - Throws: `SettingViolation` when there are fewer blocks; `ModelError`, `SafeTensorsError` naming the file.
    public init(folder: String, settings: DiscriminatorSettings, seed: UInt64, engine: any Engine, chunks: Chunks)
        throws
    {
        let depth = try DINOv2End.blockCount(folder: folder, engine: engine)
        let blockCount = settings.backbone == .last ? settings.backboneBlocks : depth
        guard blockCount <= depth else {
            throw SettingViolation(
                path: "discriminator.backboneBlocks", message: "is \(blockCount), \(folder) has \(depth) blocks")
        }
        let end = try DINOv2End(folder: folder, blockCount: blockCount, engine: engine)
        let adapter =
            settings.backbone == .lora
            ? try LoRAAdapter(
                configuration: LoRAConfiguration(
                    rank: settings.backboneRank, alpha: Double(settings.backboneRank), targets: Self.targets),
                model: end.layers, seed: seed, source: folder) : nil
        tuned = TunedBackbone(
            parameters: adapter?.parameters ?? end.layers, firstBlock: end.firstBlock, chunks: chunks
        ) { states_BTD, blocks, parameters, dtype in
            var layers = parameters
            if let adapter {
                guard let merged = try? adapter.replacing(parameters).mergedWeights(into: end.layers) else {
                    preconditionFailure("the adapter was made for these blocks")
                }
                layers = end.layers.merging(merged)
            }
            return BackboneFeatures(
                end.features(states_BTD: states_BTD, blocks: blocks, layers: layers, dtype: dtype),
                split: end.configuration.split)
        }
    }

    /// Layers of a block that an adapter changes; files have queries, keys and values apart or together.
    static let targets = [
        "attn.qkv", "attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2",
    ]
}

extension BackboneFeatures {
    /// The method's features of a vision transformer's: of the blocks' outputs class token and patches, numbered as there.
    init(_ features: DINOv2Features, split: (Tensor) -> (classToken: Tensor, patches: Tensor)) {
        self.init(
            classToken_BD: features.classToken, patches_BND: features.patches,
            blocks: features.layers.mapValues { tokens in
                let (classToken, patches) = split(tokens)
                return concatenated([classToken.reshaped(classToken.shape[0], 1, -1), patches], axis: 1)
            })
    }
}
