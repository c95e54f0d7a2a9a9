import NeuralNetworks
import TensorCore

// Legend: B batch, H image size, N patches, T = 1 + N tokens, D width, P projection width.

/// What CLIP's vision tower says about a batch of images.
struct CLIPVisionOutput {
    /// All tokens after the last layer, class token first, before any final norm, [B, T, D].
    let lastHiddenState: Tensor
    /// The class token, normalised and projected, [B, P].
    let pooled: Tensor
}

/// The vision half of CLIP: class token and patches with positions, layers, projection of the class token.
///
/// - Source: transformers models/clip/modeling_clip.py `CLIPVisionModel`. Differences: images of the configured size only.
struct CLIPVisionTower {
    private let configuration: CLIPVisionConfiguration
    private let patchEmbedding: PatchEmbedding
    private let classToken: Tensor
    private let positions: Tensor
    private let firstNorm: LayerNorm
    private let layers: [CLIPLayer]
    private let output: CLIPVisionOutputLayers

    /// Takes `vision_model` and `visual_projection`; the position numbers that old files store are left out.
    init(_ configuration: CLIPVisionConfiguration, projectionWidth: Int, weights: Weights) throws {
        self.configuration = configuration
        let (width, epsilon) = (configuration.width, configuration.normEpsilon)
        let model = weights.scoped("vision_model")
        patchEmbedding = try PatchEmbedding(
            model.scoped("embeddings.patch_embedding"), channels: 3, patch: configuration.patchSize, width: width,
            bias: false)
        classToken = try model.tensor("embeddings.class_embedding", shape: [width])
        positions = try model.tensor(
            "embeddings.position_embedding.weight", shape: [1 + configuration.patchCount, width])
        // The misspelling is the checkpoint's.
        firstNorm = try LayerNorm(model.scoped("pre_layrnorm"), width: width, epsilon: epsilon)
        layers = try (0..<configuration.layerCount).map {
            try CLIPLayer(model.scoped("encoder.layers.\($0)"), configuration, mask: .none)
        }
        output = try CLIPVisionOutputLayers(configuration, projectionWidth: projectionWidth, weights: weights)
        weights.ignore(suffixes: ["vision_model.embeddings.position_ids"])
    }

    /// - Parameter pixels_BCHW: normalised, [B, 3, H, H], in the model's precision.
    func callAsFunction(_ pixels_BCHW: Tensor) -> CLIPVisionOutput {
        let tokens = states(pixels_BCHW, layerCount: layers.count)
        return CLIPVisionOutput(lastHiddenState: tokens, pooled: output(tokens))
    }

    /// All tokens after the first `layerCount` layers, [B, T, D].
    func states(_ pixels_BCHW: Tensor, layerCount: Int) -> Tensor {
        let (B, D, side) = (pixels_BCHW.shape[0], configuration.width, configuration.imageSize)
        precondition(pixels_BCHW.shape == [B, 3, side, side], "CLIP: pixels \(pixels_BCHW.shape), side \(side)")
        precondition((0...layers.count).contains(layerCount), "CLIP: \(layerCount) of \(layers.count) layers")
        let patches = patchEmbedding(pixels_BCHW)
        let first = concatenated([Tensor](repeating: classToken.reshaped(1, 1, D), count: B), axis: 0)
        let tokens = firstNorm(concatenated([first, patches], axis: 1) + positions)
        return layers[..<layerCount].reduce(tokens) { $1($0) }
    }
}

/// What follows the layers of CLIP's vision tower: the class token, normalised and projected.
struct CLIPVisionOutputLayers {
    private let norm: LayerNorm
    private let projection: Linear

    /// Takes `vision_model.post_layernorm` and `visual_projection`.
    init(_ configuration: CLIPVisionConfiguration, projectionWidth: Int, weights: Weights) throws {
        norm = try LayerNorm(
            weights.scoped("vision_model.post_layernorm"), width: configuration.width,
            epsilon: configuration.normEpsilon)
        projection = try Linear(
            weights.scoped("visual_projection"), input: configuration.width, output: projectionWidth, bias: false)
    }

    /// [B, T, D] -> [B, P].
    func callAsFunction(_ tokens: Tensor) -> Tensor {
        projection(norm(tokens.sliced(axis: 1, 0..<1).reshaped(tokens.shape[0], tokens.shape[2])))
    }
}
