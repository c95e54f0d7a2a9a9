public import NeuralNetworks
public import TensorCore

// Legend: B batch, S tokens, D width, P projection width.

/// The `config.json` of transformers' `CLIPTextModelWithProjection`, with the defaults of its class.
public struct CLIPTextConfiguration: Sendable, Equatable {
    /// Number of tokens known.
    public var vocabularySize: Int
    /// Width of the states.
    public var width: Int
    /// Width of the feed-forward layers.
    public var feedForwardWidth: Int
    /// Number of layers.
    public var layerCount: Int
    /// Number of attention heads.
    public var headCount: Int
    /// Number of positions.
    public var positionCount: Int
    /// Width of the pooled embedding.
    public var projectionWidth: Int
    /// Non-linearity of the feed-forward layers.
    public var activation: Activation
    /// Epsilon of the layer normalisations.
    public var normEpsilon: Float
    /// Token whose first position is pooled; 2 stands for the largest id (old configurations).
    public var endTokenID: Int

    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(path: String) throws(ModelError) {
        let file = try ConfigurationFile.read(CLIPTextFile.self, path: path)
        let activations: [String: Activation] = ["quick_gelu": .quickGelu, "gelu": .geluErf, "gelu_new": .geluTanh]
        let name = file.hidden_act ?? "quick_gelu"
        guard let activation = activations[name] else {
            throw ModelError(code: .unsupported, source: path, message: "hidden_act \(name) is not supported")
        }
        self.activation = activation
        vocabularySize = file.vocab_size ?? 49408
        width = file.hidden_size ?? 512
        feedForwardWidth = file.intermediate_size ?? 2048
        layerCount = file.num_hidden_layers ?? 12
        headCount = file.num_attention_heads ?? 8
        positionCount = file.max_position_embeddings ?? 77
        projectionWidth = file.projection_dim ?? 512
        normEpsilon = file.layer_norm_eps ?? 1e-5
        endTokenID = file.eos_token_id ?? 49407
        try ConfigurationFile.requireSizes(
            [
                "vocab_size": vocabularySize, "hidden_size": width, "intermediate_size": feedForwardWidth,
                "num_hidden_layers": layerCount, "num_attention_heads": headCount,
                "max_position_embeddings": positionCount, "projection_dim": projectionWidth,
            ], path: path)
        guard width % headCount == 0 else {
            throw ModelError(
                code: .configuration, source: path,
                message: "num_attention_heads \(headCount) does not divide hidden_size \(width)")
        }
    }
}

private struct CLIPTextFile: Decodable {
    var vocab_size: Int?, hidden_size: Int?, intermediate_size: Int?, num_hidden_layers: Int?, num_attention_heads: Int?
    var max_position_embeddings: Int?, projection_dim: Int?, eos_token_id: Int?
    var layer_norm_eps: Float?
    var hidden_act: String?
}

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
public struct CLIPTextEncoder: Sendable {
    /// Sizes.
    public let configuration: CLIPTextConfiguration
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    /// Precision of weights and activations.
    public let dtype: DType
    private let engine: any Engine
    private let tokenEmbedding: Embedding
    private let positionEmbedding: Tensor
    private let layers: [CLIPTextLayer]
    private let finalNorm: LayerNorm
    private let projection: Linear

    /// Loads a folder with `config.json` and weights.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(folder: String, engine: any Engine, dtype: DType = .float32) throws {
        try self.init(
            CLIPTextConfiguration(path: folder + "/config.json"),
            weights: Weights(path: folder, engine: engine, dtype: dtype))
    }

    /// Takes all its tensors from `weights`; the position numbers that old files store are left out.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: CLIPTextConfiguration, weights: Weights) throws {
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        let model = weights.scoped("text_model")
        tokenEmbedding = try Embedding(
            model.scoped("embeddings.token_embedding"), count: configuration.vocabularySize, width: configuration.width)
        positionEmbedding = try model.tensor(
            "embeddings.position_embedding.weight", shape: [configuration.positionCount, configuration.width])
        layers = try (0..<configuration.layerCount).map {
            try CLIPTextLayer(model.scoped("encoder.layers.\($0)"), configuration)
        }
        finalNorm = try LayerNorm(
            model.scoped("final_layer_norm"), width: configuration.width, epsilon: configuration.normEpsilon)
        projection = try Linear(
            weights.scoped("text_projection"), input: configuration.width, output: configuration.projectionWidth,
            bias: false)
        weights.ignore(suffixes: ["text_model.embeddings.position_ids"])
        parameters = try weights.finish()
    }

    /// The same model with some tensors replaced, tracked ones for example; they are converted to the model's precision.
    ///
    /// - Throws: `unusedTensors` or `wrongShape` when the model has no place for one.
    public func replacing(_ replacements: Parameters) throws -> CLIPTextEncoder {
        try CLIPTextEncoder(
            configuration,
            weights: Weights(parameters.merging(replacements), source: "text encoder", engine: engine, dtype: dtype))
    }

    /// Encodes token sequences of one length.
    ///
    /// - Parameter tokens: B sequences, padded, at most `positionCount` long; each holds the end token.
    public func callAsFunction(_ tokens: [[Int32]]) -> CLIPTextOutput {
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

/// x += attention(norm1(x)), then x += mlp(norm2(x)); a token sees itself and those before it.
struct CLIPTextLayer {
    let headCount: Int
    let activation: Activation
    let norm1: LayerNorm, norm2: LayerNorm
    let query: Linear, key: Linear, value: Linear, output: Linear
    let up: Linear, down: Linear

    init(_ weights: Weights, _ configuration: CLIPTextConfiguration) throws {
        let (width, epsilon) = (configuration.width, configuration.normEpsilon)
        func projection(_ name: String) throws -> Linear {
            try Linear(weights.scoped("self_attn." + name), input: width, output: width)
        }
        headCount = configuration.headCount
        activation = configuration.activation
        norm1 = try LayerNorm(weights.scoped("layer_norm1"), width: width, epsilon: epsilon)
        norm2 = try LayerNorm(weights.scoped("layer_norm2"), width: width, epsilon: epsilon)
        query = try projection("q_proj")
        key = try projection("k_proj")
        value = try projection("v_proj")
        output = try projection("out_proj")
        up = try Linear(weights.scoped("mlp.fc1"), input: width, output: configuration.feedForwardWidth)
        down = try Linear(weights.scoped("mlp.fc2"), input: configuration.feedForwardWidth, output: width)
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        let normalized = norm1(x)
        let attended = attention(
            query(normalized), key(normalized), value(normalized), headCount: headCount, mask: .causal)
        let x = x + output(attended)
        return x + down(up(norm2(x), activation: activation))
    }
}
