public import NeuralNetworks
public import TensorCore

// Legend: B batch, S tokens, D width, P projection width.

/// What a text encoder says about a batch of prompts.
public struct CLIPTextOutput: Sendable {
    /// States after layer k, [B, S, D]; 0 is the embedding, the last is before the final normalisation.
    public let hiddenStates: [Tensor]
    /// The last states, normalised, [B, S, D].
    public let lastHiddenState: Tensor
    /// The end token's state, projected, [B, P]: `text_embeds`.
    public let pooled: Tensor

    /// Output of the last layer but one, which SD3 reads.
    public var penultimate: Tensor { hiddenStates[hiddenStates.count - 2] }
}

/// CLIP's text encoder with projection.
///
/// - Source: transformers models/clip/modeling_clip.py. Differences: none.
public struct CLIPTextEncoder: TransformersModel {
    /// Sizes.
    public let configuration: CLIPTextConfiguration
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    /// Precision of weights and activations.
    public let dtype: DType
    public let engine: any Engine
    private let tower: CLIPTextTower

    /// Takes all its tensors from `weights`; the position numbers that old files store are left out.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: CLIPTextConfiguration, weights: Weights) throws {
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        tower = try CLIPTextTower(configuration, weights: weights)
        parameters = try weights.finish()
    }

    /// Encodes token sequences of one length.
    ///
    /// - Parameter tokens: B sequences, padded, at most `positionCount` long; each holds the end token.
    public func callAsFunction(_ tokens: [[Int32]]) -> CLIPTextOutput { tower(tokens) }
}

/// The text half of CLIP: embeddings, causal layers, final norm, projection of the end token.
struct CLIPTextTower {
    private let configuration: CLIPTextConfiguration
    private let tokenEmbedding: Embedding
    private let positionEmbedding: Tensor
    private let layers: [CLIPLayer]
    private let finalNorm: LayerNorm
    private let projection: Linear

    /// Takes `text_model` and `text_projection`; the position numbers that old files store are left out.
    init(_ configuration: CLIPTextConfiguration, weights: Weights) throws {
        self.configuration = configuration
        let (width, model) = (configuration.width, weights.scoped("text_model"))
        tokenEmbedding = try Embedding(
            model.scoped("embeddings.token_embedding"), count: configuration.vocabularySize, width: width)
        positionEmbedding = try model.tensor(
            "embeddings.position_embedding.weight", shape: [configuration.positionCount, width])
        layers = try (0..<configuration.layerCount).map {
            try CLIPLayer(model.scoped("encoder.layers.\($0)"), configuration, mask: .causal)
        }
        finalNorm = try LayerNorm(
            model.scoped("final_layer_norm"), width: width, epsilon: configuration.normEpsilon)
        projection = try Linear(
            weights.scoped("text_projection"), input: width, output: configuration.projectionWidth, bias: false)
        weights.ignore(suffixes: ["text_model.embeddings.position_ids"])
    }

    func callAsFunction(_ tokens: [[Int32]]) -> CLIPTextOutput {
        let (B, S) = (tokens.count, tokens.first?.count ?? 0)
        precondition(
            B > 0 && S > 0 && S <= configuration.positionCount && tokens.allSatisfy { $0.count == S },
            "CLIPTextEncoder: \(B) sequences of lengths \(Set(tokens.map(\.count)).sorted())")
        let positions = positionEmbedding.rows(0..<S)
        var states = [tokenEmbedding(tokens.flatMap { $0 }).reshaped(B, S, configuration.width) + positions]
        for layer in layers { states.append(layer(states[states.count - 1])) }
        let last = finalNorm(states[states.count - 1])
        let ends = tokens.enumerated().map { Int32($0.offset * S + endPosition($0.element)) }
        let pooled = projection(last.reshaped(B * S, configuration.width).gatheredRows(ends))
        return CLIPTextOutput(hiddenStates: states, lastHiddenState: last, pooled: pooled)
    }

    private func endPosition(_ sequence: [Int32]) -> Int {
        let end = configuration.endTokenID == 2 ? sequence.max() : Int32(configuration.endTokenID)
        return sequence.firstIndex { $0 == end } ?? 0
    }
}
