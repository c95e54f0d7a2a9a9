public import NeuralNetworks
public import TensorCore

/// The `config.json` of transformers' `CLIPTextModelWithProjection`, with the defaults of its class.
public struct CLIPTextConfiguration: TransformersConfiguration {
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
        try self.init(ConfigurationFile.read(CLIPTextFile.self, path: path), projectionWidth: nil, path: path)
    }

    /// - Parameter projectionWidth: of the dual encoder; nil for a text encoder of its own, which states it itself.
    fileprivate init(_ file: CLIPTextFile, projectionWidth: Int?, path: String) throws(ModelError) {
        try ConfigurationFile.requireSupported(
            ["model_type": (file.model_type, ["clip_text_model", "clip"])], path: path)
        activation = try Activation(named: file.hidden_act ?? "quick_gelu", path: path)
        vocabularySize = file.vocab_size ?? 49408
        width = file.hidden_size ?? 512
        feedForwardWidth = file.intermediate_size ?? 2048
        layerCount = file.num_hidden_layers ?? 12
        headCount = file.num_attention_heads ?? 8
        positionCount = file.max_position_embeddings ?? 77
        self.projectionWidth = projectionWidth ?? file.projection_dim ?? 512
        normEpsilon = file.layer_norm_eps ?? 1e-5
        endTokenID = file.eos_token_id ?? 49407
        try requireLayers(layerCount, self, path: path)
        try ConfigurationFile.requireSizes(
            [
                "vocab_size": vocabularySize, "max_position_embeddings": positionCount,
                "projection_dim": self.projectionWidth,
            ], path: path)
        guard (0..<vocabularySize).contains(endTokenID) || endTokenID == 49407 else {
            throw ModelError(
                code: .configuration, source: path,
                message: "entry \"eos_token_id\" is \(endTokenID), expected 0 to \(vocabularySize - 1)")
        }
    }
}

/// Sizes of CLIP's vision tower: `vision_config` of transformers' `CLIPModel`, with the defaults of its class.
public struct CLIPVisionConfiguration: Sendable, Equatable {
    /// Side of the images in pixels.
    public var imageSize: Int
    /// Side of a patch in pixels.
    public var patchSize: Int
    /// Width of the states.
    public var width: Int
    /// Width of the feed-forward layers.
    public var feedForwardWidth: Int
    /// Number of layers.
    public var layerCount: Int
    /// Number of attention heads.
    public var headCount: Int
    /// Non-linearity of the feed-forward layers.
    public var activation: Activation
    /// Epsilon of the layer normalisations.
    public var normEpsilon: Float

    /// Patches of an image.
    public var patchCount: Int { (imageSize / patchSize) * (imageSize / patchSize) }

    fileprivate init(_ file: CLIPVisionFile, path: String) throws(ModelError) {
        imageSize = file.image_size ?? 224
        patchSize = file.patch_size ?? 32
        width = file.hidden_size ?? 768
        feedForwardWidth = file.intermediate_size ?? 3072
        layerCount = file.num_hidden_layers ?? 12
        headCount = file.num_attention_heads ?? 12
        activation = try Activation(named: file.hidden_act ?? "quick_gelu", path: path)
        normEpsilon = file.layer_norm_eps ?? 1e-5
        try requireLayers(layerCount, self, path: path)
        try requirePatches(patchSize, imageSize: imageSize, path: path)
        try ConfigurationFile.requireSupported(["num_channels": (file.num_channels, [3])], path: path)
    }
}

/// The `config.json` of transformers' `CLIPModel`.
public struct CLIPConfiguration: TransformersConfiguration {
    /// Sizes of the text tower.
    public var text: CLIPTextConfiguration
    /// Sizes of the vision tower.
    public var vision: CLIPVisionConfiguration
    /// Width of the space where images and texts meet.
    public var projectionWidth: Int

    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(path: String) throws(ModelError) {
        let file = try ConfigurationFile.read(File.self, path: path)
        try ConfigurationFile.requireSupported(["model_type": (file.model_type, ["clip"])], path: path)
        projectionWidth = file.projection_dim ?? 512
        text = try CLIPTextConfiguration(file.text_config, projectionWidth: projectionWidth, path: path)
        vision = try CLIPVisionConfiguration(file.vision_config, path: path)
    }

    private struct File: Decodable {
        var text_config: CLIPTextFile
        var vision_config: CLIPVisionFile
        var projection_dim: Int?
        var model_type: String?
    }
}

private struct CLIPTextFile: Decodable {
    var vocab_size: Int?, hidden_size: Int?, intermediate_size: Int?, num_hidden_layers: Int?, num_attention_heads: Int?
    var max_position_embeddings: Int?, projection_dim: Int?, eos_token_id: Int?
    var layer_norm_eps: Float?
    var hidden_act: String?, model_type: String?
}

private struct CLIPVisionFile: Decodable {
    var image_size: Int?, patch_size: Int?, hidden_size: Int?, intermediate_size: Int?, num_hidden_layers: Int?
    var num_attention_heads: Int?, num_channels: Int?
    var layer_norm_eps: Float?
    var hidden_act: String?
}

extension CLIPTextConfiguration: CLIPLayerSizes {}
extension CLIPVisionConfiguration: CLIPLayerSizes {}

/// - Throws: `configuration` unless there are layers, heads divide the width, and all sizes are such as models have.
func requireLayers(_ layerCount: Int, _ sizes: some CLIPLayerSizes, path: String) throws(ModelError) {
    let (headCount, width) = (sizes.headCount, sizes.width)
    guard layerCount > 0 else {
        throw ModelError(code: .configuration, source: path, message: "num_hidden_layers is \(layerCount)")
    }
    guard headCount > 0, width > 0, width % headCount == 0 else {
        throw ModelError(code: .configuration, source: path, message: "\(headCount) heads do not divide width \(width)")
    }
    try ConfigurationFile.requireSizes(
        ["hidden_size": width, "intermediate_size": sizes.feedForwardWidth, "num_hidden_layers": layerCount], path: path
    )
    try ConfigurationFile.requireNumbers(
        ["layer_norm_eps": Double(sizes.normEpsilon)], in: ConfigurationFile.epsilons, path: path)
}

/// - Throws: `configuration` unless patches divide the image, which is of a size that images have.
func requirePatches(_ patchSize: Int, imageSize: Int, path: String) throws(ModelError) {
    guard patchSize > 0, (1...65536).contains(imageSize), imageSize % patchSize == 0 else {
        throw ModelError(
            code: .configuration, source: path,
            message: "image size \(imageSize) is no multiple of the patch size \(patchSize), or beyond 65536")
    }
}
