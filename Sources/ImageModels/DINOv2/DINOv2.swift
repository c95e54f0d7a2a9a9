public import NeuralNetworks
import SafeTensors
public import TensorCore

// Legend: B batch, H, W image size, N patches, T tokens (class, registers, patches), D width.

/// What the backbone sees in a batch of images; fp32.
public struct DINOv2Features: Sendable {
    /// Class token after the final norm, [B, D].
    public let classToken: Tensor
    /// Patch tokens after the final norm, row by row, [B, N, D].
    public let patches: Tensor
    /// All tokens of the layers that were asked for, before the final norm, [B, T, D]; `DINOv2.split` takes them apart.
    public let layers: [Int: Tensor]
}

/// The vision transformer of DINOv2 and DINOv3, frozen under the discriminator.
///
/// - Source: timm models/vision_transformer.py (`vit_*_patch14_dinov2`, `_reg4_`) and eva.py (`vit_*_patch16_dinov3`), which load
///   Meta's weights; transformers' `Dinov2Model`, `Dinov2WithRegistersModel` and `DINOv3ViTModel` give the same tokens.
///   Differences: square images, all of one size; no drop path.
public struct DINOv2: Sendable {
    /// Sizes.
    public let configuration: DINOv2Configuration
    /// Precision of weights and activations.
    public let dtype: DType
    /// Tensors of the file that are no part of the features and were not read: heads of a classifier or of the pretraining.
    public private(set) var leftOut: [String] = []
    private let engine: any Engine
    private let patchEmbedding: PatchEmbedding
    private let classToken: Tensor
    private let registers: Tensor?
    /// [1 + N, D] or [N, D].
    private let positions: Tensor?
    private let rotary: RotaryPositions?
    private let blocks: [DINOv2Block]
    private let norm: LayerNorm

    /// Loads a folder with weights and, where present, `config.json`.
    ///
    /// - Parameters:
    ///   - folder: of the model.
    ///   - engine: what computes.
    ///   - dtype: precision of weights and activations.
    ///   - imageSize: side features are computed at, a multiple of the patch size; nil for the model's own.
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(folder: String, engine: any Engine, dtype: DType = .float32, imageSize: Int? = nil) throws {
        let file = try SafeTensorsFolder(path: folder)
        let names = try DINOv2WeightNames(of: file.entries.map(\.name), source: folder)
        let weights = try Weights(file, engine: engine, dtype: dtype) { names.canonical[$0] }
        try self.init(
            DINOv2Configuration(path: folder + "/config.json", weights: weights, imageSize: imageSize), weights: weights
        )
        leftOut = names.leftOut
    }

    /// Takes all its tensors from `weights`, whose names are timm's.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: DINOv2Configuration, weights: Weights) throws {
        let width = configuration.width
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        patchEmbedding = try PatchEmbedding(
            weights.scoped("patch_embed.proj"), channels: 3, patch: configuration.patchSize, width: width)
        classToken = try weights.tensor("cls_token", shape: [1, 1, width])
        let registerCount = configuration.registerCount
        registers = registerCount > 0 ? try weights.tensor("reg_token", shape: [1, registerCount, width]) : nil
        positions = configuration.hasPositionTable ? try DINOv2.positions(configuration, weights: weights) : nil
        rotary =
            configuration.hasPositionTable
            ? nil
            : RotaryPositions(
                configuration, engine: weights.engine, dtype: weights.dtype)
        try DINOv2.checkPeriods(configuration, weights: weights)
        blocks = try (0..<configuration.layerCount).map {
            try DINOv2Block(weights.scoped("blocks.\($0)"), configuration)
        }
        norm = try LayerNorm(weights.scoped("norm"), width: width, epsilon: configuration.normEpsilon)
        try weights.finish()
    }

    /// Features of images.
    ///
    /// - Parameters:
    ///   - images_BHWC: in [0, 1], any size; resized bicubically without antialiasing and normalised.
    ///   - layers: of which all tokens are wanted; 0 is the embedding, k the output of block k, `layerCount` the last.
    public func features(_ images_BHWC: Tensor, layers: [Int] = []) -> DINOv2Features {
        let last = configuration.layerCount
        let states = hiddenStates(normalizedPixels(images_BHWC), layers: layers + [last])
        let (classToken, patches) = split(normalized(states[layers.count]))
        return DINOv2Features(
            classToken: classToken, patches: patches,
            layers: Dictionary(zip(layers, states).map { ($0, $1.converted(to: .float32)) }) { first, _ in first })
    }

    /// Pixels as the network wants them.
    ///
    /// - Parameter images_BHWC: in [0, 1].
    /// - Returns: fp32 [B, 3, imageSize, imageSize], (pixel - mean) / deviation.
    public func normalizedPixels(_ images_BHWC: Tensor) -> Tensor {
        let side = configuration.imageSize
        let isRightSize = images_BHWC.shape[1] == side && images_BHWC.shape[2] == side
        let images = isRightSize ? images_BHWC : images_BHWC.resizedBicubic(height: side, width: side)
        // Row by row: three columns at a time would leave most of a vector unused.
        func row(_ channels: [Float]) -> Tensor {
            engine.tensor((0..<side).flatMap { _ in channels }, shape: [side * 3])
        }
        let scale = row(configuration.deviation.map { 1 / $0 })
        let offset = row(zip(configuration.mean, configuration.deviation).map { -$0 / $1 })
        let rows = images.reshaped(images.shape[0], side, side * 3) * scale + offset
        return rows.reshaped(images.shape).transposed(0, 3, 1, 2)
    }

    /// All tokens after some layers, before the final norm, in the model's precision. Blocks behind the last layer asked
    /// for are not computed.
    ///
    /// - Parameters:
    ///   - pixels_BCHW: normalised, of the configured size.
    ///   - layers: 0 is the embedding, k the output of block k.
    /// - Returns: [B, T, D] for each entry of `layers`.
    public func hiddenStates(_ pixels_BCHW: Tensor, layers: [Int]) -> [Tensor] {
        let side = configuration.imageSize
        precondition(
            pixels_BCHW.shape == [pixels_BCHW.shape[0], 3, side, side],
            "DINOv2: pixels \(pixels_BCHW.shape), side \(side)")
        precondition(
            layers.allSatisfy { $0 >= 0 && $0 <= configuration.layerCount },
            "DINOv2: layers \(layers) of \(configuration.layerCount)")
        var tokens = embedding(pixels_BCHW.converted(to: dtype))
        var states = [0: tokens]
        for (index, block) in blocks.prefix(layers.max() ?? 0).enumerated() {
            tokens = block(tokens, rotary: rotary)
            if layers.contains(index + 1) { states[index + 1] = tokens }
        }
        return layers.compactMap { states[$0] }
    }

    /// The final norm: -> fp32.
    public func normalized(_ tokens_BTD: Tensor) -> Tensor { norm(tokens_BTD).converted(to: .float32) }

    /// Class token [B, D] and patches [B, N, D] of all tokens [B, T, D].
    public func split(_ tokens_BTD: Tensor) -> (classToken: Tensor, patches: Tensor) {
        configuration.split(tokens_BTD)
    }

    /// Meta's files hold the periods of the rotary positions: they must be those of the configured base, up to bf16's precision.
    private static func checkPeriods(_ configuration: DINOv2Configuration, weights: Weights) throws {
        let name = "rope_embed.periods"
        guard weights.contains(name) else { return }
        let (stored, expected) = (try weights.values(name), RotaryPositions.periods(configuration))
        let agree = zip(stored, expected).allSatisfy { abs(Double($0) - $1) <= 0.01 * $1 }
        guard !configuration.hasPositionTable, stored.count == expected.count, agree else {
            throw ModelError(
                code: .unsupported, source: weights.source,
                message: "\(name) are not the periods of base \(configuration.rotaryTemperature); state the base "
                    + "they were made with as rope_theta in config.json")
        }
    }

    /// The table's rows for the configured grid; a table of that size stays as it is, tracked if it was.
    private static func positions(_ configuration: DINOv2Configuration, weights: Weights) throws -> Tensor {
        let (side, width) = (configuration.tableSide, configuration.width)
        let first = configuration.hasClassPosition ? 1 : 0
        let table = try weights.tensor("pos_embed", shape: [1, first + side * side, width])
            .reshaped(first + side * side, width)
        let grid = configuration.gridSize
        guard grid != side else { return table }
        let values = table.detached.values
        let patches = PositionTable.resized(
            Array(values[(first * width)...]), side: side, width: width, rows: grid, columns: grid,
            antialias: configuration.resizesWithAntialiasing)
        return weights.engine.tensor(
            Array(values[..<(first * width)]) + patches, shape: [first + grid * grid, width], dtype: weights.dtype)
    }

    /// [class ; registers ; patches], positions of a table added; registers have none.
    private func embedding(_ pixels_BCHW: Tensor) -> Tensor {
        let width = configuration.width
        var patches = patchEmbedding(pixels_BCHW)
        var first = classToken.reshaped(1, width)
        if let positions {
            let rows = positions.shape[0]
            patches = patches + positions.rows(rows - patches.shape[1]..<rows)
            if configuration.hasClassPosition { first = first + positions.rows(0..<1) }
        }
        let prefix = concatenated([first] + (registers.map { [$0.reshaped(-1, width)] } ?? []), axis: 0)
        let repeated = [Tensor](repeating: prefix.reshaped(1, prefix.shape[0], width), count: patches.shape[0])
        return concatenated([concatenated(repeated, axis: 0), patches], axis: 1)
    }
}

extension DINOv2Configuration {
    /// Class token [B, D] and patches [B, N, D] of all tokens [B, T, D].
    public func split(_ tokens_BTD: Tensor) -> (classToken: Tensor, patches: Tensor) {
        let (B, T, D) = (tokens_BTD.shape[0], tokens_BTD.shape[1], tokens_BTD.shape[2])
        return (tokens_BTD.sliced(axis: 1, 0..<1).reshaped(B, D), tokens_BTD.sliced(axis: 1, prefixCount..<T))
    }
}
