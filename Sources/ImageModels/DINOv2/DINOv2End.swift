public import NeuralNetworks
import SafeTensors
public import TensorCore

// Legend: B images, T tokens (class, registers, patches), N patches, D width.

/// The end of a DINOv2, from the input of its last K blocks to its features. Only the blocks' tensors are trained: the final norm
/// stays as it is.
///
/// - Source: `DINOv2`, whose blocks these are. Differences: weights are fp32 whatever the frozen blocks have.
public struct DINOv2End: Sendable {
    /// The blocks' tensors as the files have them, fp32, by timm's names.
    public let layers: Parameters
    /// Number of the first of them, from 0.
    public let firstBlock: Int
    /// Sizes of the whole network.
    public let configuration: DINOv2Configuration
    /// Final norm, and what of the blocks is no weight.
    private let frozen: Parameters
    private let rotary: [DType: RotaryPositions]
    private let engine: any Engine

    /// Reads the tensors of the end from a folder; those before it are left in the file.
    ///
    /// - Parameters:
    ///   - folder: of the model.
    ///   - blockCount: K, 1 to the number of the network's blocks.
    ///   - engine: what computes.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(folder: String, blockCount: Int, engine: any Engine) throws {
        let (weights, configuration) = try Self.open(folder, engine)
        let depth = configuration.layerCount
        precondition((1...depth).contains(blockCount), "DINOv2: the last \(blockCount) of \(depth) blocks")
        let firstBlock = depth - blockCount
        self.firstBlock = firstBlock
        self.configuration = configuration
        self.engine = engine
        _ = try End(configuration, firstBlock: firstBlock, weights: weights)
        for block in 0..<firstBlock { weights.ignore(scope: "blocks.\(block)") }
        for scope in ["patch_embed", "rope_embed"] { weights.ignore(scope: scope) }
        weights.ignore(suffixes: ["cls_token", "reg_token", "pos_embed"])
        let taken = try weights.finish()
        layers = taken.filtered { $0.hasPrefix("blocks.") }
        var masks: [String: Tensor] = [:]
        for block in firstBlock..<depth {
            let name = "blocks.\(block).attn.qkv.bias_mask"
            guard weights.contains(name) else { continue }
            let mask = try weights.values(name)
            masks[name] = engine.tensor(mask, shape: [mask.count])
        }
        frozen = taken.filtered { !$0.hasPrefix("blocks.") }.merging(Parameters(masks))
        rotary =
            configuration.hasPositionTable
            ? [:]
            : Dictionary(
                uniqueKeysWithValues: [DType.float32, .bfloat16].map {
                    ($0, RotaryPositions(configuration, engine: engine, dtype: $0))
                })
    }

    /// Blocks of the network in a folder.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public static func blockCount(folder: String, engine: any Engine) throws -> Int {
        try open(folder, engine).1.layerCount
    }

    private static func open(_ folder: String, _ engine: any Engine) throws -> (Weights, DINOv2Configuration) {
        let file = try SafeTensorsFolder(path: folder)
        let names = try DINOv2WeightNames(of: file.entries.map(\.name), source: folder)
        let weights = try Weights(file, engine: engine, dtype: .float32, mappedFrom: .max) { names.canonical[$0] }
        return (weights, try DINOv2Configuration(path: folder + "/config.json", weights: weights))
    }

    /// Features of images, fp32.
    ///
    /// - Parameters:
    ///   - states_BTD: what the blocks read, as `DINOv2.hiddenStates` gives the output of block `firstBlock` - 1.
    ///   - blocks: `firstBlock` and later ones, whose outputs before the final norm are wanted too: all tokens, [B, T, D].
    ///   - layers: of the names of `self.layers`, tracked ones for example.
    ///   - dtype: precision of the blocks.
    /// - Precondition: names and shapes of `layers` are those of `self.layers`.
    public func features(states_BTD: Tensor, blocks: [Int], layers: Parameters, dtype: DType) -> DINOv2Features {
        let weights = Weights(frozen.merging(layers), source: "the end of a DINOv2", engine: engine, dtype: dtype)
        guard let end = try? End(configuration, firstBlock: firstBlock, weights: weights) else {
            preconditionFailure("DINOv2: tensors \(layers.names) are not the blocks from \(firstBlock) on")
        }
        var tokens = states_BTD.converted(to: dtype)
        var outputs: [Int: Tensor] = [:]
        for (index, block) in end.blocks.enumerated() {
            tokens = block(tokens, rotary: rotary[dtype])
            if blocks.contains(firstBlock + index) { outputs[firstBlock + index] = tokens.converted(to: .float32) }
        }
        let (classToken, patches) = configuration.split(end.norm(tokens).converted(to: .float32))
        return DINOv2Features(classToken: classToken, patches: patches, layers: outputs)
    }
}

/// Blocks and final norm.
private struct End {
    let blocks: [DINOv2Block]
    let norm: LayerNorm

    init(_ configuration: DINOv2Configuration, firstBlock: Int, weights: Weights) throws {
        blocks = try (firstBlock..<configuration.layerCount).map {
            try DINOv2Block(weights.scoped("blocks.\($0)"), configuration)
        }
        norm = try LayerNorm(
            weights.scoped("norm"), width: configuration.width, epsilon: configuration.normEpsilon)
    }
}
