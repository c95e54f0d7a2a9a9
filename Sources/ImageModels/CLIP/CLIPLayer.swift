import NeuralNetworks
import TensorCore

/// Sizes of the layers of a CLIP or SigLIP tower.
protocol CLIPLayerSizes {
    /// Width of the states.
    var width: Int { get }
    /// Width of the feed-forward layer.
    var feedForwardWidth: Int { get }
    /// Number of attention heads.
    var headCount: Int { get }
    /// Non-linearity of the feed-forward layer.
    var activation: Activation { get }
    /// Epsilon of the layer normalisations.
    var normEpsilon: Float { get }
}

/// x += attention(norm1(x)), then x += mlp(norm2(x)).
///
/// - Source: transformers models/clip/modeling_clip.py `CLIPEncoderLayer`, models/siglip/modeling_siglip.py
///   `SiglipEncoderLayer`. Differences: none.
struct CLIPLayer {
    let headCount: Int
    let mask: AttentionMask
    let norm1: LayerNorm, norm2: LayerNorm
    let query: Linear, key: Linear, value: Linear, output: Linear
    let feedForward: CLIPFeedForward

    /// - Parameter mask: causal in CLIP's text tower, where a token sees itself and those before it; none elsewhere.
    init(_ weights: Weights, _ sizes: some CLIPLayerSizes, mask: AttentionMask) throws {
        func projection(_ name: String) throws -> Linear {
            try Linear(weights.scoped("self_attn." + name), input: sizes.width, output: sizes.width)
        }
        headCount = sizes.headCount
        self.mask = mask
        norm1 = try LayerNorm(weights.scoped("layer_norm1"), width: sizes.width, epsilon: sizes.normEpsilon)
        norm2 = try LayerNorm(weights.scoped("layer_norm2"), width: sizes.width, epsilon: sizes.normEpsilon)
        query = try projection("q_proj")
        key = try projection("k_proj")
        value = try projection("v_proj")
        output = try projection("out_proj")
        feedForward = try CLIPFeedForward(weights.scoped("mlp"), sizes)
    }

    /// [B, S, D] -> [B, S, D].
    func callAsFunction(_ x: Tensor) -> Tensor {
        let normalized = norm1(x)
        let attended = attention(
            query(normalized), key(normalized), value(normalized), headCount: headCount, mask: mask)
        let x = x + output(attended)
        return x + feedForward(norm2(x))
    }
}

/// fc2(act(fc1(x))).
struct CLIPFeedForward {
    let activation: Activation
    let up: Linear, down: Linear

    init(_ weights: Weights, _ sizes: some CLIPLayerSizes) throws {
        activation = sizes.activation
        up = try Linear(weights.scoped("fc1"), input: sizes.width, output: sizes.feedForwardWidth)
        down = try Linear(weights.scoped("fc2"), input: sizes.feedForwardWidth, output: sizes.width)
    }

    /// [..., D] -> [..., D].
    func callAsFunction(_ x: Tensor) -> Tensor { down(up(x, activation: activation)) }
}

extension Activation {
    /// The activation that transformers calls so.
    ///
    /// - Throws: `unsupported`.
    init(named name: String, path: String) throws(ModelError) {
        switch name {
        case "quick_gelu": self = .quickGelu
        case "gelu": self = .geluErf
        case "gelu_new", "gelu_pytorch_tanh": self = .geluTanh
        default: throw ModelError(code: .unsupported, source: path, message: "hidden_act \(name) is not supported")
        }
    }
}
