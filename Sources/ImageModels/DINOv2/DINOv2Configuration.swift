public import NeuralNetworks

/// Sizes of a DINO vision transformer: `config.json` of the default model, of timm, or of transformers, completed from
/// the shapes of the weights.
public struct DINOv2Configuration: Sendable, Equatable {
    /// Side of the image features are computed at; the position table is resized to it.
    public var imageSize: Int
    /// Side of the position table of the file, in patches; 0 with rotary positions.
    public var tableSide: Int
    /// Whether the table is resized with antialiasing, as timm does and transformers does only with registers.
    public var resizesWithAntialiasing: Bool
    /// Side of a patch.
    public var patchSize: Int
    /// Width of the tokens.
    public var width: Int
    /// Number of blocks.
    public var layerCount: Int
    /// Number of attention heads.
    public var headCount: Int
    /// Width of the feed-forward layer after its non-linearity.
    public var feedForwardWidth: Int
    /// Tokens between the class token and the patches.
    public var registerCount: Int
    /// Whether there is a position table (DINOv2) or rotary positions (DINOv3).
    public var hasPositionTable: Bool
    /// Whether the position table's first row belongs to the class token.
    public var hasClassPosition: Bool
    /// Base of the rotary positions' periods.
    public var rotaryTemperature: Double
    /// Whether each branch is scaled per channel.
    public var hasLayerScale: Bool
    /// Whether the feed-forward layer is w2(silu(a) · b), [a ; b] = w1 x.
    public var usesSwiGLU: Bool
    /// Epsilon of every layer normalisation.
    public var normEpsilon: Float
    /// Mean of each colour channel, subtracted from pixels in [0, 1].
    public var mean: [Float]
    /// Deviation of each colour channel, pixels are divided by it.
    public var deviation: [Float]

    /// Patches along one side.
    public var gridSize: Int { imageSize / patchSize }
    /// Class token and registers: where the patches begin.
    public var prefixCount: Int { 1 + registerCount }

    /// Reads `config.json` and looks at the shapes of the weights, whose names are timm's.
    ///
    /// - Parameters:
    ///   - path: of `config.json`, which need not exist.
    ///   - weights: the tensors, not yet taken.
    ///   - imageSize: a multiple of the patch size; nil for the size of `config.json`, else the position table's.
    /// - Throws: `configuration`, `missing`, `unsupported`.
    public init(path: String, weights: Weights, imageSize: Int? = nil) throws {
        let file = ConfigurationFile.exists(path) ? try ConfigurationFile.read(File.self, path: path) : File()
        func deduced(_ name: String, _ stated: Int?, _ actual: Int) throws -> Int {
            guard let stated, stated != actual else { return actual }
            throw ModelError(
                code: .configuration, source: path, message: "\(name) is \(stated), the weights say \(actual)")
        }
        func shape(_ name: String, rank: Int) throws -> [Int] {
            let shape = try weights.shape(of: name)
            guard shape.count == rank, shape.allSatisfy({ $0 > 0 }) else {
                throw ModelError(
                    code: .configuration, source: path, message: "\(name) has shape \(shape), expected rank \(rank)")
            }
            return shape
        }
        let patch = try shape("patch_embed.proj.weight", rank: 4)
        width = try deduced("embed_dim", file.embed_dim ?? file.hidden_size, patch[0])
        patchSize = try deduced("patch_size", file.patch_size, patch[3])
        var layerCount = 0
        while weights.contains("blocks.\(layerCount).norm1.weight") { layerCount += 1 }
        self.layerCount = try deduced("depth", file.depth ?? file.num_hidden_layers, layerCount)
        // Without a statement: every published DINOv2 has heads of width 64.
        headCount = file.num_heads ?? file.num_attention_heads ?? width / 64
        guard headCount > 0, width % headCount == 0 else {
            throw ModelError(
                code: .configuration, source: path, message: "\(headCount) heads do not divide width \(width)")
        }
        feedForwardWidth = try shape("blocks.0.mlp.fc2.weight", rank: 2)[1]
        usesSwiGLU = try shape("blocks.0.mlp.fc1.weight", rank: 2)[0] == 2 * feedForwardWidth
        registerCount = weights.contains("reg_token") ? try shape("reg_token", rank: 3)[1] : 0
        registerCount = try deduced("num_register_tokens", file.num_register_tokens, registerCount)
        hasLayerScale = weights.contains("blocks.0.ls1.gamma")
        hasPositionTable = weights.contains("pos_embed")
        let rows = hasPositionTable ? try shape("pos_embed", rank: 3)[1] : 0
        let side = Int(Double(rows).squareRoot())
        hasClassPosition = side * side != rows
        guard side * side + (hasClassPosition ? 1 : 0) == rows else {
            throw ModelError(
                code: .unsupported, source: path, message: "the position table's \(rows) rows are not a square")
        }
        tableSide = side
        resizesWithAntialiasing = weights.contains("blocks.0.attn.qkv.weight") || registerCount > 0
        guard hasPositionTable || width / headCount % 4 == 0 else {
            throw ModelError(
                code: .configuration, source: path,
                message: "rotary positions need heads whose width is a multiple of 4, not \(width / headCount)")
        }
        // Without a table and a statement: the size DINOv3 was released for.
        let tableSize = hasPositionTable ? side * patchSize : 256
        self.imageSize =
            imageSize ?? file.img_size ?? file.image_size ?? file.pretrained_cfg?.input_size?.last ?? tableSize
        // As large as images may be; positions are made for all of it.
        guard (1...8192).contains(self.imageSize), self.imageSize % patchSize == 0 else {
            throw ModelError(
                code: .configuration, source: path,
                message: "image size \(self.imageSize) is no multiple of the patch size \(patchSize) up to 8192")
        }
        if let activation = file.hidden_act, activation != "gelu" {
            throw ModelError(code: .unsupported, source: path, message: "hidden_act \(activation) is not supported")
        }
        rotaryTemperature = file.rope_temperature ?? file.rope_theta ?? 100
        normEpsilon = file.layer_norm_eps ?? (hasPositionTable ? 1e-6 : 1e-5)
        mean = file.mean ?? file.pretrained_cfg?.mean ?? [0.485, 0.456, 0.406]
        deviation = file.std ?? file.pretrained_cfg?.std ?? [0.229, 0.224, 0.225]
        guard mean.count == 3, deviation.count == 3, deviation.allSatisfy({ $0 > 0 }) else {
            throw ModelError(
                code: .configuration, source: path,
                message: "mean \(mean) and std \(deviation) are not three numbers each, std above 0")
        }
    }

    private struct File: Decodable {
        var embed_dim: Int?, hidden_size: Int?, patch_size: Int?, depth: Int?, num_hidden_layers: Int?
        var num_heads: Int?, num_attention_heads: Int?, num_register_tokens: Int?, img_size: Int?, image_size: Int?
        var layer_norm_eps: Float?
        var hidden_act: String?
        var rope_temperature: Double?, rope_theta: Double?
        var mean: [Float]?, std: [Float]?
        var pretrained_cfg: Pretrained?

        struct Pretrained: Decodable {
            var mean: [Float]?, std: [Float]?
            var input_size: [Int]?
        }
    }
}
