public import NeuralNetworks
public import TensorCore

/// The `config.json` of diffusers' `SD3Transformer2DModel`, with the defaults of its constructor.
public struct MMDiTConfiguration: Sendable, Equatable, Decodable {
    /// Default width and height of the latents.
    public var sampleSize = 128
    /// Side of the square of latents that makes one token.
    public var patchSize = 2
    /// Channels of the latents.
    public var inChannels = 16
    /// Channels of the velocity.
    public var outChannels = 16
    /// Number of blocks.
    public var layerCount = 18
    /// Width of one attention head.
    public var headWidth = 64
    /// Number of attention heads.
    public var headCount = 18
    /// Width of the text encoder's states.
    public var jointAttentionWidth = 4096
    /// Width of the text stream; equals `width`.
    public var captionWidth = 1152
    /// Width of the pooled text embedding.
    public var pooledWidth = 2048
    /// Side of the stored position table, in tokens.
    public var positionTableSize = 96
    /// Blocks with a second, image-only attention.
    public var dualAttentionLayers: [Int] = []
    /// Whether queries and keys are RMS-normalised per head.
    public var normalizesQueriesAndKeys = false

    /// Widths of a text's tokens and of its pooled embedding.
    public var textWidths: [Int] { [jointAttentionWidth, pooledWidth] }

    /// heads · head width.
    public var width: Int { headCount * headWidth }

    /// Bytes that the blocks of one tracked forward pass keep for the backward pass.
    ///
    /// In units of the width, a token keeps its input; its normalised form; the raw query and key; query, key and value; the
    /// attention's output and the same in its stream's order; the projection; the sum; the sum's normalised form; 4 before and 4
    /// after the activation; the projection down: 21 with the next input. A second attention adds 9 an image token.
    public func activationByteCount(samples: Int, imageTokens: Int, textTokens: Int, dtype: DType) -> Int {
        let joint = 21 * (imageTokens + textTokens) * layerCount
        let dual = 9 * imageTokens * dualAttentionLayers.count
        return samples * (joint + dual) * width * dtype.byteCount
    }

    /// diffusers' defaults.
    public init() {}

    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(path: String) throws(ModelError) {
        self = try ConfigurationFile.read(MMDiTConfiguration.self, path: path)
        try ConfigurationFile.requireSizes(
            [
                "sample_size": sampleSize, "patch_size": patchSize, "in_channels": inChannels,
                "out_channels": outChannels, "num_layers": layerCount, "attention_head_dim": headWidth,
                "num_attention_heads": headCount, "joint_attention_dim": jointAttentionWidth,
                "caption_projection_dim": captionWidth, "pooled_projection_dim": pooledWidth,
                "pos_embed_max_size": positionTableSize,
            ], path: path)
        guard captionWidth == width else {
            throw ModelError(
                code: .unsupported, source: path,
                message: "caption_projection_dim \(captionWidth) differs from heads x head width = \(width)")
        }
        try ConfigurationFile.requireSupported(
            ["_class_name": (className, [Self.className]), "qk_norm": (queryKeyNorm, ["rms_norm"])], path: path
        )
    }

    /// The class that is read.
    public static let className = "SD3Transformer2DModel"
    private var className: String?
    private var queryKeyNorm: String?

    private enum CodingKeys: String, CodingKey {
        case className = "_class_name"
        case sampleSize = "sample_size"
        case patchSize = "patch_size"
        case inChannels = "in_channels"
        case outChannels = "out_channels"
        case layerCount = "num_layers"
        case headWidth = "attention_head_dim"
        case headCount = "num_attention_heads"
        case jointAttentionWidth = "joint_attention_dim"
        case captionWidth = "caption_projection_dim"
        case pooledWidth = "pooled_projection_dim"
        case positionTableSize = "pos_embed_max_size"
        case dualAttentionLayers = "dual_attention_layers"
        case queryKeyNorm = "qk_norm"
    }

    /// Decodes what is there; the rest keeps its default.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func integer(_ key: CodingKeys, _ standard: Int) throws -> Int {
            try values.decodeIfPresent(Int.self, forKey: key) ?? standard
        }
        sampleSize = try integer(.sampleSize, 128)
        patchSize = try integer(.patchSize, 2)
        inChannels = try integer(.inChannels, 16)
        outChannels = try integer(.outChannels, inChannels)
        layerCount = try integer(.layerCount, 18)
        headWidth = try integer(.headWidth, 64)
        headCount = try integer(.headCount, 18)
        jointAttentionWidth = try integer(.jointAttentionWidth, 4096)
        captionWidth = try integer(.captionWidth, 1152)
        pooledWidth = try integer(.pooledWidth, 2048)
        positionTableSize = try integer(.positionTableSize, 96)
        dualAttentionLayers = try values.decodeIfPresent([Int].self, forKey: .dualAttentionLayers) ?? []
        className = try values.decodeIfPresent(String.self, forKey: .className)
        queryKeyNorm = try values.decodeIfPresent(String.self, forKey: .queryKeyNorm)
        normalizesQueriesAndKeys = queryKeyNorm != nil
    }
}
