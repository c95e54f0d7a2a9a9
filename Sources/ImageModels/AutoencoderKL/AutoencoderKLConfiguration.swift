public import NeuralNetworks

/// The `config.json` of diffusers' `AutoencoderKL`, with the defaults of its constructor.
public struct AutoencoderKLConfiguration: Sendable, Equatable, Decodable {
    /// Channels of the image.
    public var inChannels = 3
    /// Channels of the decoded image.
    public var outChannels = 3
    /// Channels of the latents.
    public var latentChannels = 4
    /// Channels of each level, from the image inwards.
    public var blockChannels = [64]
    /// Residual blocks a level of the encoder; the decoder has one more.
    public var layersPerBlock = 1
    /// Groups of every group normalisation.
    public var groupCount = 32
    /// Latents the policy sees = (z - shift) · scaling.
    public var scalingFactor = 0.18215
    /// Latents the policy sees = (z - shift) · scaling.
    public var shiftFactor = 0.0
    /// Whether the innermost level has an attention.
    public var hasMidAttention = true
    /// Whether the moments pass a 1 x 1 convolution.
    public var usesQuantConvolution = true
    /// Whether the latents pass a 1 x 1 convolution.
    public var usesPostQuantConvolution = true

    /// Pixels a latent covers along one axis.
    public var spatialFactor: Int { 1 << (blockChannels.count - 1) }

    /// diffusers' defaults.
    public init() {}

    /// Reads `config.json`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(path: String) throws(ModelError) {
        self = try ConfigurationFile.read(AutoencoderKLConfiguration.self, path: path)
        try ConfigurationFile.requireSizes(
            [
                "in_channels": inChannels, "out_channels": outChannels, "latent_channels": latentChannels,
                "layers_per_block": layersPerBlock, "norm_num_groups": groupCount,
            ], path: path)
        for channels in blockChannels {
            try ConfigurationFile.requireSizes(["block_out_channels": channels], path: path)
        }
        guard (1...8).contains(blockChannels.count) else {
            throw ModelError(
                code: .configuration, source: path,
                message: "block_out_channels has \(blockChannels.count) levels, expected 1 to 8")
        }
        for channels in blockChannels where channels % groupCount != 0 {
            throw ModelError(
                code: .configuration, source: path,
                message: "norm_num_groups \(groupCount) does not divide \(channels) of block_out_channels")
        }
        try ConfigurationFile.requireNumbers(
            ["scaling_factor": scalingFactor], in: ConfigurationFile.factors, path: path)
        try ConfigurationFile.requireNumbers(["shift_factor": shiftFactor], in: -1e6...1e6, path: path)
        // Others have another architecture under the same keys.
        try ConfigurationFile.requireSupported(
            ["_class_name": (className, ["AutoencoderKL"]), "act_fn": (activation, ["silu"])], path: path)
        for type in blockTypes {
            try ConfigurationFile.requireSupported(
                ["block type": (type, ["DownEncoderBlock2D", "UpDecoderBlock2D"])], path: path)
        }
        for types in [downTypeCount, upTypeCount] where types != blockChannels.count {
            throw ModelError(
                code: .configuration, source: path,
                message: "block_out_channels has \(blockChannels.count) levels, the block types are \(types)")
        }
    }

    private var className: String?
    private var activation: String?
    private var blockTypes: [String] = []
    private var downTypeCount = 1, upTypeCount = 1

    private enum CodingKeys: String, CodingKey {
        case className = "_class_name"
        case inChannels = "in_channels"
        case outChannels = "out_channels"
        case latentChannels = "latent_channels"
        case blockChannels = "block_out_channels"
        case layersPerBlock = "layers_per_block"
        case groupCount = "norm_num_groups"
        case scalingFactor = "scaling_factor"
        case shiftFactor = "shift_factor"
        case hasMidAttention = "mid_block_add_attention"
        case usesQuantConvolution = "use_quant_conv"
        case usesPostQuantConvolution = "use_post_quant_conv"
        case activation = "act_fn"
        case downTypes = "down_block_types"
        case upTypes = "up_block_types"
    }

    /// Decodes what is there; the rest keeps its default.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        func value<Value: Decodable>(_ key: CodingKeys, _ standard: Value) throws -> Value {
            try values.decodeIfPresent(Value.self, forKey: key) ?? standard
        }
        inChannels = try value(.inChannels, 3)
        outChannels = try value(.outChannels, 3)
        latentChannels = try value(.latentChannels, 4)
        blockChannels = try value(.blockChannels, [64])
        layersPerBlock = try value(.layersPerBlock, 1)
        groupCount = try value(.groupCount, 32)
        scalingFactor = try value(.scalingFactor, 0.18215)
        shiftFactor = try value(.shiftFactor, 0)
        hasMidAttention = try value(.hasMidAttention, true)
        usesQuantConvolution = try value(.usesQuantConvolution, true)
        usesPostQuantConvolution = try value(.usesPostQuantConvolution, true)
        activation = try values.decodeIfPresent(String.self, forKey: .activation)
        className = try values.decodeIfPresent(String.self, forKey: .className)
        let (down, up) = (
            try value(.downTypes, ["DownEncoderBlock2D"]), try value(.upTypes, ["UpDecoderBlock2D"])
        )
        (blockTypes, downTypeCount, upTypeCount) = (down + up, down.count, up.count)
    }
}
