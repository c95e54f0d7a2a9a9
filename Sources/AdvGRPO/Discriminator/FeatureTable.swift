public import TensorCore

/// What a frozen backbone says about a batch of images.
public struct BackboneFeatures: Sendable {
    /// CLS token after the final norm, fp32 [B, D].
    public var classToken_BD: Tensor
    /// Patch tokens after the final norm, without registers, fp32 [B, N, D].
    public var patches_BND: Tensor
    /// Outputs of the asked-for blocks before the final norm, CLS first, then patches, fp32 [B, 1 + N, D], by the block's number.
    public var blocks: [Int: Tensor]

    /// All features.
    public init(classToken_BD: Tensor, patches_BND: Tensor, blocks: [Int: Tensor] = [:]) {
        self.classToken_BD = classToken_BD
        self.patches_BND = patches_BND
        self.blocks = blocks
    }
}

/// Which of the two ways to prepare images is asked for: the released code resizes differently in score and loss.
public enum FeaturePurpose: Sendable, Equatable {
    /// For the reward.
    case score
    /// For the discriminator's loss.
    case training
}

/// The backbone as a function: images [B, H, W, 3] in [0, 1], numbers of the blocks whose outputs are wanted (from 0) -> features.
/// Resizing and normalising are its own.
public typealias BackboneFunction =
    @Sendable (_ images_BHWC: Tensor, _ blocks: [Int], _ purpose: FeaturePurpose) -> BackboneFeatures

/// The backbone up to its first trained block as a function: images [B, H, W, 3] in [0, 1] -> what that block reads, fp32 [B, T, D].
/// Resizing and normalising are its own.
public typealias StatesFunction = @Sendable (_ images_BHWC: Tensor, _ purpose: FeaturePurpose) -> Tensor

/// What the frozen part of a dual encoder says about images of one prompt.
public struct TrunkFeatures: Sendable {
    /// What the trained layers read, all tokens, fp32 [B, T, D].
    public var states_BTD: Tensor
    /// Direction of each image's prompt in the common space, of unit length, fp32 [B, P].
    public var texts_BP: Tensor

    /// Both features.
    public init(states_BTD: Tensor, texts_BP: Tensor) {
        self.states_BTD = states_BTD
        self.texts_BP = texts_BP
    }
}

/// The frozen part of a dual encoder as a function: images [B, H, W, 3] in [0, 1] and their prompt -> features. Resizing and
/// normalising are its own, and the same for every purpose.
public typealias TrunkFunction = @Sendable (_ images_BHWC: Tensor, _ prompt: String) -> TrunkFeatures

/// The frozen networks as the heads of a discriminator read them.
public struct FrozenNetworks: Sendable {
    /// The vision transformer.
    public let backbone: BackboneFunction
    /// The dual encoder up to its trained layers; nil where no component reads it.
    public let trunk: TrunkFunction?
    /// The policy's text encoders: a prompt -> its pooled embedding, fp32 [P]; nil where no component reads it.
    public let prompt: (@Sendable (String) -> Tensor)?
    /// The frozen part of a backbone whose end is trained; nil where it is frozen whole.
    public let states: StatesFunction?

    /// All networks.
    public init(
        backbone: @escaping BackboneFunction, trunk: TrunkFunction? = nil,
        prompt: (@Sendable (String) -> Tensor)? = nil, states: StatesFunction? = nil
    ) {
        self.states = states
        self.backbone = backbone
        self.trunk = trunk
        self.prompt = prompt
    }
}

/// What the frozen networks say about a batch of images, as far as a discriminator's heads asked for it.
struct FrozenFeatures {
    /// The images, [B, H, W, 3] in [0, 1].
    var images_BHWC: Tensor
    /// nil where no head reads the backbone.
    var backbone: BackboneFeatures?
    /// nil where no head reads the dual encoder.
    var trunk: TrunkFeatures?
}

/// Width and depth of a backbone.
public struct BackboneShape: Sendable, Equatable {
    /// Features of a token.
    public let width: Int
    /// Number of blocks.
    public let depth: Int

    /// Both sizes.
    public init(width: Int, depth: Int) {
        self.width = width
        self.depth = depth
    }
}

/// Features of some images, by name, one row an image: what the heads read and what a replay keeps.
public struct FeatureTable: Sendable {
    /// Tensors with the same first axis.
    public let tensors: [String: Tensor]
    /// Images.
    public let count: Int

    /// - Precondition: at least one tensor; equal first axes.
    public init(_ tensors: [String: Tensor]) {
        let counts = Set(tensors.values.map { $0.shape[0] })
        precondition(counts.count == 1, "feature table: \(tensors.mapValues(\.shape))")
        self.tensors = tensors
        count = counts.first ?? 0
    }

    /// The tensor of this name.
    ///
    /// - Precondition: the table was extracted for a head that reads it.
    public subscript(name: String) -> Tensor {
        guard let tensor = tensors[name] else {
            preconditionFailure("no feature \(name) among \(tensors.keys.sorted())")
        }
        return tensor
    }

    /// Some rows, in the order given; a row may be taken twice.
    public func rows(_ indices: [Int]) -> FeatureTable {
        FeatureTable(
            tensors.mapValues { tensor in
                tensor.reshaped(count, -1).gatheredRows(indices.map(Int32.init))
                    .reshaped([indices.count] + tensor.shape.dropFirst())
            })
    }

    /// Some rows that follow each other, without copying.
    public func rows(_ range: Range<Int>) -> FeatureTable { FeatureTable(tensors.mapValues { $0.rows(range) }) }

    /// Tables one after the other.
    ///
    /// - Precondition: at least one; equal names.
    public init(joining tables: [FeatureTable]) {
        guard let first = tables.first else { preconditionFailure("feature table: nothing to join") }
        var joined: [String: Tensor] = [:]
        for name in first.tensors.keys { joined[name] = concatenated(tables.map { $0[name] }, axis: 0) }
        self.init(joined)
    }
}

/// Which patches of each image a head reads: drawn with replacement from one random stream an image.
public struct PatchDraws: Sendable {
    private let imageCount: Int
    private let index: @Sendable (_ image: Int, _ layer: Int, _ draw: Int, _ drawCount: Int, _ patchCount: Int) -> Int

    private init(imageCount: Int, index: @escaping @Sendable (Int, Int, Int, Int, Int) -> Int) {
        self.imageCount = imageCount
        self.index = index
    }

    /// One stream an image; layers draw from different parts of it. None where no head draws.
    public init(_ streams: [Philox]) {
        self.init(imageCount: streams.count) { image, layer, draw, drawCount, patchCount in
            streams[image].integer(layer * drawCount + draw, below: patchCount)
        }
    }

    /// Given patches, [layer][image][draw].
    init(indices: [[[Int]]]) {
        self.init(imageCount: indices.first?.count ?? 0) { image, layer, draw, _, _ in indices[layer][image][draw] }
    }

    /// The draws of some images that follow each other.
    func images(_ range: Range<Int>) -> PatchDraws {
        PatchDraws(imageCount: min(imageCount, range.count)) { [index] image, layer, draw, drawCount, patchCount in
            index(range.lowerBound + image, layer, draw, drawCount, patchCount)
        }
    }

    /// The rows [B · count] of a table [B · patchCount, D] that hold each image's drawn patches.
    func rows(count: Int, of patchCount: Int, layer: Int = 0) -> [Int32] {
        (0..<imageCount).flatMap { image in
            (0..<count).map { Int32(image * patchCount + index(image, layer, $0, count, patchCount)) }
        }
    }
}
