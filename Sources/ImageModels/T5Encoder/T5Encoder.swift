import LibC
public import NeuralNetworks
public import TensorCore

// Legend: B batch, S tokens, D width, H heads.

/// The `config.json` of transformers' `T5EncoderModel`, version 1.1 (gated GELU).
public struct T5EncoderConfiguration: TransformersConfiguration {
    /// Number of tokens known.
    public var vocabularySize: Int
    /// Width of the states.
    public var width: Int
    /// Width of one attention head; heads · head width may differ from the width.
    public var headWidth: Int
    /// Number of attention heads.
    public var headCount: Int
    /// Width of the feed-forward layers.
    public var feedForwardWidth: Int
    /// Number of layers.
    public var layerCount: Int
    /// Number of classes of relative positions.
    public var bucketCount: Int
    /// From this distance on, positions share a class.
    public var maximumDistance: Int
    /// Epsilon of every normalisation.
    public var normEpsilon: Float

    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(path: String) throws(ModelError) {
        let file = try ConfigurationFile.read(File.self, path: path)
        try ConfigurationFile.requireSupported(
            ["feed_forward_proj": (file.feed_forward_proj ?? "relu", ["gated-gelu"])], path: path)
        // mT5 is T5 with other words; UMT5 has positions in every layer.
        try ConfigurationFile.requireSupported(["model_type": (file.model_type, ["t5", "mt5"])], path: path)
        vocabularySize = file.vocab_size
        width = file.d_model
        headWidth = file.d_kv
        headCount = file.num_heads
        feedForwardWidth = file.d_ff
        layerCount = file.num_layers
        bucketCount = file.relative_attention_num_buckets ?? 32
        maximumDistance = file.relative_attention_max_distance ?? 128
        normEpsilon = file.layer_norm_epsilon ?? 1e-6
        try ConfigurationFile.requireSizes(
            [
                "vocab_size": vocabularySize, "d_model": width, "d_kv": headWidth, "num_heads": headCount,
                "d_ff": feedForwardWidth, "num_layers": layerCount, "relative_attention_num_buckets": bucketCount,
                "relative_attention_max_distance": maximumDistance,
            ], path: path)
        // Half of the classes for each side, half of these for single positions, the rest for those up to the distance.
        guard bucketCount >= 4, maximumDistance > bucketCount / 4 else {
            throw ModelError(
                code: .configuration, source: path,
                message:
                    "relative_attention_num_buckets is \(bucketCount) and relative_attention_max_distance \(maximumDistance), "
                    + "expected at least 4 and more than a quarter of the former")
        }
        try ConfigurationFile.requireNumbers(
            ["layer_norm_epsilon": Double(normEpsilon)], in: ConfigurationFile.epsilons, path: path)
    }

    private struct File: Decodable {
        var vocab_size: Int, d_model: Int, d_kv: Int, num_heads: Int, d_ff: Int, num_layers: Int
        var relative_attention_num_buckets: Int?, relative_attention_max_distance: Int?
        var layer_norm_epsilon: Float?
        var feed_forward_proj: String?, model_type: String?
    }
}

/// T5's encoder, SD3's third text encoder. No token is masked, padding is attended to, as SD3's pipeline does.
///
/// - Source: transformers models/t5/modeling_t5.py. Differences: none. The position classes are not differentiable.
public struct T5Encoder: TransformersModel {
    /// Sizes.
    public let configuration: T5EncoderConfiguration
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    /// Precision of weights and activations.
    public let dtype: DType
    public let engine: any Engine
    private let embedding: Embedding
    private let positionBias: Tensor
    private let layers: [T5Layer]
    private let finalNorm: RMSNorm

    /// Takes all its tensors from `weights`; the table may be called `shared` or `encoder.embed_tokens`, or be there twice.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: T5EncoderConfiguration, weights: Weights) throws {
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        let isShared = weights.contains("shared.weight")
        embedding = try Embedding(
            weights.scoped(isShared ? "shared" : "encoder.embed_tokens"), count: configuration.vocabularySize,
            width: configuration.width)
        if isShared { weights.ignore(suffixes: ["encoder.embed_tokens.weight"]) }
        let encoder = weights.scoped("encoder")
        positionBias = try encoder.tensor(
            "block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            shape: [configuration.bucketCount, configuration.headCount])
        layers = try (0..<configuration.layerCount).map { try T5Layer(encoder.scoped("block.\($0)"), configuration) }
        finalNorm = try RMSNorm(
            encoder.scoped("final_layer_norm"), width: configuration.width, epsilon: configuration.normEpsilon)
        parameters = try weights.finish()
    }

    /// The last states after the final norm, [B, S, D].
    ///
    /// - Parameter tokens: B sequences of one length.
    public func callAsFunction(_ tokens: [[Int32]]) -> Tensor {
        let (B, S) = (tokens.count, tokens.first?.count ?? 0)
        precondition(
            B > 0 && S > 0 && tokens.allSatisfy { $0.count == S },
            "T5Encoder: \(B) sequences of lengths \(Set(tokens.map(\.count)).sorted())")
        let bias = bias(length: S)
        let embedded = embedding(tokens.flatMap { $0 }).reshaped(B, S, configuration.width)
        return finalNorm(layers.reduce(embedded) { $1($0, bias: bias) })
    }

    /// What each head adds to the score of a key at a relative position, fp32 [H, S, S].
    private func bias(length S: Int) -> Tensor {
        let classes = (0..<S * S).map { Int32(bucket($0 % S - $0 / S)) }
        return positionBias.detached.converted(to: .float32).gatheredRows(classes)
            .reshaped(S, S, configuration.headCount).transposed(2, 0, 1)
    }

    /// Half of the classes for keys before, half for keys after; in each half one class a position up to a half, then
    /// logarithmically wider ones. fp32 as in the reference, whose rounding decides the borders.
    private func bucket(_ relativePosition: Int) -> Int {
        let side = configuration.bucketCount / 2
        let exact = side / 2
        let distance = abs(relativePosition)
        let first = relativePosition > 0 ? side : 0
        guard distance >= exact else { return first + distance }
        let wide =
            log(Float(distance) / Float(exact)) / Float(log(Double(configuration.maximumDistance) / Double(exact)))
        return first + min(side - 1, exact + Int(wide * Float(side - exact)))
    }
}

/// x += o(attention(q, k, v of norm(x))), then x += wo(gelu(wi_0 norm(x)) · wi_1 norm(x)); scores are not scaled.
struct T5Layer {
    let headCount: Int
    let norm1: RMSNorm, norm2: RMSNorm
    let query: Linear, key: Linear, value: Linear, output: Linear
    let gate: Linear, up: Linear, down: Linear

    init(_ weights: Weights, _ configuration: T5EncoderConfiguration) throws {
        let (width, inner) = (configuration.width, configuration.headCount * configuration.headWidth)
        headCount = configuration.headCount
        let (first, second) = (weights.scoped("layer.0"), weights.scoped("layer.1"))
        func linear(_ weights: Weights, _ input: Int, _ output: Int) throws -> Linear {
            try Linear(weights, input: input, output: output, bias: false)
        }
        norm1 = try RMSNorm(first.scoped("layer_norm"), width: width, epsilon: configuration.normEpsilon)
        query = try linear(first.scoped("SelfAttention.q"), width, inner)
        key = try linear(first.scoped("SelfAttention.k"), width, inner)
        value = try linear(first.scoped("SelfAttention.v"), width, inner)
        output = try linear(first.scoped("SelfAttention.o"), inner, width)
        norm2 = try RMSNorm(second.scoped("layer_norm"), width: width, epsilon: configuration.normEpsilon)
        gate = try linear(second.scoped("DenseReluDense.wi_0"), width, configuration.feedForwardWidth)
        up = try linear(second.scoped("DenseReluDense.wi_1"), width, configuration.feedForwardWidth)
        down = try linear(second.scoped("DenseReluDense.wo"), configuration.feedForwardWidth, width)
    }

    func callAsFunction(_ x: Tensor, bias: Tensor) -> Tensor {
        let normalized = norm1(x)
        let attended = attention(
            query(normalized), key(normalized), value(normalized), headCount: headCount, scale: 1, bias: bias)
        let middle = x + output(attended)
        let inner = norm2(middle)
        return middle + down(gate(inner, activation: .geluTanh) * up(inner))
    }
}
