public import NeuralNetworks
public import TensorCore

/// The `config.json` of transformers' `SiglipModel`, with the defaults of its classes.
public struct SiglipConfiguration: TransformersConfiguration {
    /// One of the two towers.
    public struct Tower: Sendable, Equatable {
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

        fileprivate init(_ file: TowerFile, path: String) throws(ModelError) {
            width = file.hidden_size ?? 768
            feedForwardWidth = file.intermediate_size ?? 3072
            layerCount = file.num_hidden_layers ?? 12
            headCount = file.num_attention_heads ?? 12
            activation = try Activation(named: file.hidden_act ?? "gelu_pytorch_tanh", path: path)
            normEpsilon = file.layer_norm_eps ?? 1e-6
            try requireLayers(layerCount, self, path: path)
        }
    }

    /// Sizes of the text tower.
    public var text: Tower
    /// Number of tokens known.
    public var vocabularySize: Int
    /// Number of positions of a text.
    public var positionCount: Int
    /// Sizes of the vision tower; its width is that of the common space.
    public var vision: Tower
    /// Side of the images in pixels.
    public var imageSize: Int
    /// Side of a patch in pixels.
    public var patchSize: Int

    /// Patches of an image.
    public var patchCount: Int { (imageSize / patchSize) * (imageSize / patchSize) }

    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, also when texts and images do not reach the same space; `unsupported`.
    public init(path: String) throws(ModelError) {
        let file = try ConfigurationFile.read(File.self, path: path)
        text = try Tower(file.text_config, path: path)
        vocabularySize = file.text_config.vocab_size ?? 32000
        positionCount = file.text_config.max_position_embeddings ?? 64
        try ConfigurationFile.requireSizes(
            ["vocab_size": vocabularySize, "max_position_embeddings": positionCount], path: path)
        vision = try Tower(file.vision_config, path: path)
        imageSize = file.vision_config.image_size ?? 224
        patchSize = file.vision_config.patch_size ?? 16
        try requirePatches(patchSize, imageSize: imageSize, path: path)
        try ConfigurationFile.requireSupported(
            ["vision_use_head": (file.vision_config.vision_use_head, [true])], path: path)
        try ConfigurationFile.requireSupported(["num_channels": (file.vision_config.num_channels, [3])], path: path)
        try ConfigurationFile.requireSizes(["projection_size": file.text_config.projection_size ?? 1], path: path)
        let textWidth = file.text_config.projection_size ?? text.width
        guard textWidth == vision.width else {
            throw ModelError(
                code: .configuration, source: path,
                message: "texts are projected to \(textWidth) features, images to \(vision.width)")
        }
    }

    private struct File: Decodable {
        var text_config: TowerFile
        var vision_config: TowerFile
    }

    fileprivate struct TowerFile: Decodable {
        var hidden_size: Int?, intermediate_size: Int?, num_hidden_layers: Int?, num_attention_heads: Int?
        var hidden_act: String?
        var layer_norm_eps: Float?
        var vocab_size: Int?, max_position_embeddings: Int?, projection_size: Int?
        var image_size: Int?, patch_size: Int?, num_channels: Int?
        var vision_use_head: Bool?
    }
}

extension SiglipConfiguration.Tower: CLIPLayerSizes {}
