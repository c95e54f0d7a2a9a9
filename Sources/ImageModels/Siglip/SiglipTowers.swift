import NeuralNetworks
import TensorCore

// Legend: B batch, S tokens, N patches, D width of a tower, P width of the common space, H image size.

/// What a tower says about a batch.
struct SiglipOutput {
    /// All states after the final norm, [B, S or N, D].
    let lastHiddenState: Tensor
    /// Where the text or image lies in the common space, [B, P].
    let pooled: Tensor
}

/// The text half of SigLIP: embeddings, layers in which every token sees all, padding too, and the projection of the last token.
///
/// - Source: transformers models/siglip/modeling_siglip.py `SiglipTextModel`. Differences: none.
struct SiglipTextTower {
    private let configuration: SiglipConfiguration
    private let tokenEmbedding: Embedding
    private let positionEmbedding: Tensor
    private let layers: [CLIPLayer]
    private let finalNorm: LayerNorm
    private let projection: Linear

    /// Takes `text_model`; the position numbers that old files store are left out.
    init(_ configuration: SiglipConfiguration, weights: Weights) throws {
        self.configuration = configuration
        let (sizes, model) = (configuration.text, weights.scoped("text_model"))
        tokenEmbedding = try Embedding(
            model.scoped("embeddings.token_embedding"), count: configuration.vocabularySize, width: sizes.width)
        positionEmbedding = try model.tensor(
            "embeddings.position_embedding.weight", shape: [configuration.positionCount, sizes.width])
        layers = try (0..<sizes.layerCount).map {
            try CLIPLayer(model.scoped("encoder.layers.\($0)"), sizes, mask: .none)
        }
        finalNorm = try LayerNorm(
            model.scoped("final_layer_norm"), width: sizes.width, epsilon: sizes.normEpsilon)
        projection = try Linear(model.scoped("head"), input: sizes.width, output: configuration.vision.width)
        weights.ignore(suffixes: ["text_model.embeddings.position_ids"])
    }

    /// - Parameter tokens: B sequences of one length, at most `positionCount`.
    func callAsFunction(_ tokens: [[Int32]]) -> SiglipOutput {
        let (B, S, D) = (tokens.count, tokens.first?.count ?? 0, configuration.text.width)
        precondition(
            B > 0 && S > 0 && S <= configuration.positionCount && tokens.allSatisfy { $0.count == S },
            "SigLIP: \(B) sequences of lengths \(Set(tokens.map(\.count)).sorted())")
        var states = tokenEmbedding(tokens.flatMap { $0 }).reshaped(B, S, D) + positionEmbedding.rows(0..<S)
        for layer in layers { states = layer(states) }
        let last = finalNorm(states)
        return SiglipOutput(
            lastHiddenState: last, pooled: projection(last.sliced(axis: 1, S - 1..<S).reshaped(B, D)))
    }
}

/// The vision half of SigLIP: patches with positions, layers, and a learnt query that pools the patches.
///
/// - Source: transformers models/siglip/modeling_siglip.py `SiglipVisionModel`. Differences: images of the configured size only.
struct SiglipVisionTower {
    private let configuration: SiglipConfiguration
    private let patchEmbedding: PatchEmbedding
    private let positions: Tensor
    private let layers: [CLIPLayer]
    private let finalNorm: LayerNorm
    private let pooling: SiglipPooling

    /// Takes `vision_model`; the position numbers that old files store are left out.
    init(_ configuration: SiglipConfiguration, weights: Weights) throws {
        self.configuration = configuration
        let (sizes, model) = (configuration.vision, weights.scoped("vision_model"))
        patchEmbedding = try PatchEmbedding(
            model.scoped("embeddings.patch_embedding"), channels: 3, patch: configuration.patchSize,
            width: sizes.width)
        positions = try model.tensor(
            "embeddings.position_embedding.weight", shape: [configuration.patchCount, sizes.width])
        layers = try (0..<sizes.layerCount).map {
            try CLIPLayer(model.scoped("encoder.layers.\($0)"), sizes, mask: .none)
        }
        finalNorm = try LayerNorm(model.scoped("post_layernorm"), width: sizes.width, epsilon: sizes.normEpsilon)
        pooling = try SiglipPooling(model.scoped("head"), sizes)
        weights.ignore(suffixes: ["vision_model.embeddings.position_ids"])
    }

    /// - Parameter pixels_BCHW: normalised, [B, 3, H, H], in the model's precision.
    func callAsFunction(_ pixels_BCHW: Tensor) -> SiglipOutput {
        let (B, side) = (pixels_BCHW.shape[0], configuration.imageSize)
        precondition(pixels_BCHW.shape == [B, 3, side, side], "SigLIP: pixels \(pixels_BCHW.shape), side \(side)")
        var tokens = patchEmbedding(pixels_BCHW) + positions
        for layer in layers { tokens = layer(tokens) }
        let last = finalNorm(tokens)
        return SiglipOutput(lastHiddenState: last, pooled: pooling(last))
    }
}

/// h = attention of one learnt query to all patches, then h + mlp(norm(h)).
///
/// - Source: transformers models/siglip/modeling_siglip.py `SiglipMultiheadAttentionPoolingHead`. Differences: none.
struct SiglipPooling {
    private let headCount: Int
    private let probe: Tensor
    private let query: Linear, key: Linear, value: Linear, output: Linear
    private let norm: LayerNorm
    private let feedForward: CLIPFeedForward

    init(_ weights: Weights, _ sizes: SiglipConfiguration.Tower) throws {
        let width = sizes.width
        headCount = sizes.headCount
        probe = try weights.tensor("probe", shape: [1, 1, width])
        let attention = weights.scoped("attention")
        let matrix = try attention.tensor("in_proj_weight", shape: [3 * width, width])
        let bias = try attention.tensor("in_proj_bias", shape: [3 * width])
        func third(_ index: Int) -> Linear {
            let rows = index * width..<(index + 1) * width
            return Linear(weight: matrix.rows(rows), bias: bias.rows(rows))
        }
        (query, key, value) = (third(0), third(1), third(2))
        output = try Linear(attention.scoped("out_proj"), input: width, output: width)
        norm = try LayerNorm(weights.scoped("layernorm"), width: width, epsilon: sizes.normEpsilon)
        feedForward = try CLIPFeedForward(weights.scoped("mlp"), sizes)
    }

    /// [B, N, D] -> [B, D].
    func callAsFunction(_ tokens_BND: Tensor) -> Tensor {
        let (B, D) = (tokens_BND.shape[0], tokens_BND.shape[2])
        let queries = concatenated([Tensor](repeating: query(probe), count: B), axis: 0)
        let attended = output(attention(queries, key(tokens_BND), value(tokens_BND), headCount: headCount))
        return (attended + feedForward(norm(attended))).reshaped(B, D)
    }
}
