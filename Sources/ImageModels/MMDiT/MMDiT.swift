public import NeuralNetworks
public import TensorCore

// Legend: B batch, C latent channels, H, W latent size, p patch, S image tokens, T text tokens, D width.

/// SD3's transformer, an MMDiT or MMDiT-X: predicts the velocity noise - image of noisy latents under a text.
///
/// A value: it never changes. Training tracks an adapter (`merged(adapter)` of tracked parameters) or all weights
/// (`replacing(parameters.tracked())`); sampling uses the same `merged(adapter)`, which costs what the base costs.
///
/// - Source: diffusers models/transformers/transformer_sd3.py. Differences: none.
public struct MMDiT: Sendable {
    /// Sizes.
    public let configuration: MMDiTConfiguration
    /// All tensors by their name in the checkpoint, in the model's precision.
    public let parameters: Parameters
    /// Precision of weights and activations.
    public let dtype: DType
    /// Where a tracked forward pass would keep more bytes than this for its backward pass, each block is computed a second time
    /// instead (`checkpointed`). The gradients are the same, bit for bit.
    public var activationByteLimit = Int.max
    private let patchEmbedding: PatchEmbedding
    private let positionTable: Tensor
    private let timeEmbedder: EmbeddingPerceptron, textEmbedder: EmbeddingPerceptron
    private let contextEmbedder: Linear
    private let blocks: [JointBlock]
    private let outputModulation: Modulation
    private let outputProjection: Linear

    /// Loads a folder with `config.json` and weights.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(folder: String, engine: any Engine, dtype: DType = .float32) throws {
        try self.init(
            MMDiTConfiguration(path: folder + "/config.json"),
            weights: PipelineFiles.weights(of: .transformer, at: folder, engine: engine, dtype: dtype))
    }

    /// Takes all its tensors from `weights`.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: MMDiTConfiguration, weights: Weights) throws {
        let width = configuration.width
        self.configuration = configuration
        dtype = weights.dtype
        patchEmbedding = try PatchEmbedding(
            weights.scoped("pos_embed.proj"), channels: configuration.inChannels, patch: configuration.patchSize,
            width: width)
        let side = configuration.positionTableSize
        positionTable = try weights.tensor(positionTableName, shape: [1, side * side, width]).reshaped(
            side * side, width)
        let embedders = weights.scoped("time_text_embed")
        timeEmbedder = try EmbeddingPerceptron(
            embedders.scoped("timestep_embedder"), input: timestepFeatureCount, width: width)
        textEmbedder = try EmbeddingPerceptron(
            embedders.scoped("text_embedder"), input: configuration.pooledWidth, width: width)
        contextEmbedder = try Linear(
            weights.scoped("context_embedder"), input: configuration.jointAttentionWidth, output: width)
        blocks = try (0..<configuration.layerCount).map {
            try JointBlock(weights.scoped("transformer_blocks.\($0)"), configuration, index: $0)
        }
        outputModulation = try Modulation(weights.scoped("norm_out"), width: width, rows: 2)
        outputProjection = try Linear(
            weights.scoped("proj_out"), input: width,
            output: configuration.patchSize * configuration.patchSize * configuration.outChannels)
        parameters = try weights.finish()
    }

    /// What full fine-tuning trains: all tensors but the position table, in the model's precision.
    public var trainableParameters: Parameters { parameters.filtered { $0 != positionTableName } }

    /// The same model with some tensors replaced, tracked ones for example; they are converted to the model's precision.
    ///
    /// - Throws: `unusedTensors` or `wrongShape` when the model has no place for one.
    public func replacing(_ replacements: Parameters) throws -> MMDiT {
        var model = try MMDiT(
            configuration,
            weights: Weights(
                parameters.merging(replacements), source: "transformer", engine: positionTable.engine, dtype: dtype))
        model.activationByteLimit = activationByteLimit
        return model
    }

    /// The same model with an adapter's update added to its weights; tracked when the adapter is.
    ///
    /// - Throws: `missing` or `wrongShape` when the adapter belongs to another model.
    public func merged(_ adapter: LoRAAdapter) throws -> MMDiT {
        try replacing(adapter.mergedWeights(into: parameters))
    }

    /// The velocity x1 - x0 at noisy latents.
    ///
    /// - Parameters:
    ///   - latents_BCHW: H and W multiples of the patch size, at most the position table's size.
    ///   - timesteps: 1000 · sigma, one a sample.
    ///   - conditioning: of B samples.
    /// - Returns: fp32 [B, C, H, W], whatever the model's precision.
    public func velocity(
        _ latents_BCHW: Tensor, timesteps: [Float], conditioning: Conditioning
    ) -> Tensor {
        let (B, H, W) = (latents_BCHW.shape[0], latents_BCHW.shape[2], latents_BCHW.shape[3])
        precondition(
            timesteps.count == B && conditioning.count == B,
            "velocity: \(B) samples, \(timesteps.count) timesteps, \(conditioning.count) texts")
        let sinusoids = timestepEmbedding(timesteps, width: timestepFeatureCount, engine: latents_BCHW.engine)
        let embedding_BD =
            timeEmbedder(sinusoids.converted(to: dtype)) + textEmbedder(conditioning.pooled_BP.converted(to: dtype))
        let activated_BD = embedding_BD.activated(.silu)

        var x_BSD = patchEmbedding(latents_BCHW.converted(to: dtype)) + positions(height: H, width: W)
        var context_BTD = contextEmbedder(conditioning.text_BSD.converted(to: dtype))
        let activationByteCount = configuration.activationByteCount(
            samples: B, imageTokens: x_BSD.shape[1], textTokens: context_BTD.shape[1], dtype: dtype)
        for block in blocks {
            let (x, context) = (x_BSD, context_BTD)
            let compute: @Sendable () -> [Tensor] = {
                let streams = block(x, context_BTD: context, embedding_BD: activated_BD)
                return [streams.x, streams.context]
            }
            let streams = activationByteCount > activationByteLimit ? checkpointed(compute) : compute()
            (x_BSD, context_BTD) = (streams[0], streams[1])
        }
        x_BSD = modulatedLayerNorm(
            x_BSD, modulation: outputModulation(activated_BD), shift: ModulationRow.shiftContinuous,
            scale: ModulationRow.scaleContinuous, epsilon: mmditEpsilon)
        let tokens = outputProjection(x_BSD).converted(to: .float32)
        return unpatchified(tokens, patch: configuration.patchSize, height: H, width: W)
    }

    /// The centre of the position table, [S, D].
    private func positions(height: Int, width: Int) -> Tensor {
        let side = configuration.positionTableSize
        let (rows, columns) = (height / configuration.patchSize, width / configuration.patchSize)
        precondition(
            rows <= side && columns <= side,
            "velocity: \(rows) x \(columns) tokens, the position table has \(side) x \(side)")
        let (top, left) = ((side - rows) / 2, (side - columns) / 2)
        let indices = (0..<rows * columns).map { Int32((top + $0 / columns) * side + left + $0 % columns) }
        return positionTable.gatheredRows(indices)
    }
}

/// Linear, SiLU, Linear.
struct EmbeddingPerceptron {
    let first: Linear, second: Linear

    init(_ weights: Weights, input: Int, width: Int) throws {
        first = try Linear(weights.scoped("linear_1"), input: input, output: width)
        second = try Linear(weights.scoped("linear_2"), input: width, output: width)
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        second(first(x, activation: .silu))
    }
}

private let positionTableName = "pos_embed.pos_embed"
private let timestepFeatureCount = 256
