/// The discriminator's heads. A new one is a row at the end and a `DiscriminatorHead`.
extension RewardComponent {
    /// The head on the CLS token.
    public static let cls: RewardComponent = .init(
        "dino_cls",
        .head {
            ClassTokenHead(
                width: $0.backbone.width, hiddenWidth: $0.discriminator.hiddenWidth,
                normalization: $0.reward.featureNormalization)
        }, model: .backbone, maps: .gradient, "the head's logit on the CLS token")

    /// The head on the CLS token and on drawn patches, the released recipe.
    public static let patch: RewardComponent = .init(
        "dino_patch",
        .head {
            PatchHead(
                width: $0.backbone.width, hiddenWidth: $0.discriminator.hiddenWidth, reward: $0.reward,
                globalLossWeight: Float($0.discriminator.globalLossWeight),
                patchLossWeight: Float($0.discriminator.patchLossWeight))
        }, model: .backbone, maps: .places,
        "the head's logits on the CLS token and on drawn patches, with one shared head")

    /// One head a block, best patches, fused.
    public static let multilayer: RewardComponent = .init(
        "dino_multilayer",
        .head { (request) throws(SettingViolation) in
            MultilayerHead(
                width: request.backbone.width, hiddenWidth: request.discriminator.hiddenWidth, reward: request.reward,
                blockNumbers: try request.blocks(request.reward.layers, key: "layers"))
        }, model: .backbone, maps: .places, "the heads on several blocks, best patches averaged, then fused")

    /// A head on pooled statistics of one block's patches.
    public static let statistics: RewardComponent = .init(
        "dino_statistics",
        .head { (request) throws(SettingViolation) in
            request.statisticsHead(
                .statistics,
                .blocks(
                    try request.blocks([request.reward.statisticsLayer], key: "statisticsLayer"),
                    tokenWidth: request.backbone.width, request.reward.statistics, normalized: false))
        }, model: .backbone, maps: .places,
        "the head on mean, deviation, maximum and minimum of one block's patch tokens")

    /// A head on pooled texture statistics of the pixels; needs no backbone.
    public static let texture: RewardComponent = .init(
        "texture", .head { $0.statisticsHead(.texture, .texture($0.reward.statistics)) }, maps: .places,
        "the head on mean, deviation, maximum and minimum of the texture of 8 x 8 squares; no backbone")

    /// A head on an 8 x 8 thumbnail and the colours of the image; needs no backbone.
    public static let thumbnail: RewardComponent = .init(
        "thumbnail", .head { $0.statisticsHead(.thumbnail, .thumbnail) }, maps: .places,
        "the head on an 8 x 8 thumbnail and the mean and deviation of its colours; no backbone")

    /// How well image and prompt fit, by CLIP-H tuned on human choices whose last layers learn to prefer the references.
    public static let pickScoreAdversarial: RewardComponent = .init(
        "pickscore_adversarial",
        .head { request in
            guard let encoder = request.encoder else {
                preconditionFailure("pickscore_adversarial without its dual encoder")
            }
            return ImageTextHead(encoder: encoder)
        }, reads: [.prompt],
        model: .folder(
            "the `CLIPModel`, PickScore_v1 for example, whose last layers the run tunes without writing to its files",
            source: "method 1.13"),
        divisor: 26, "PickScore, its last layers tuned against the policy")

    /// Convolutional heads on several blocks that are told the prompt.
    public static let projected: RewardComponent = .init(
        "dino_projected",
        .head { (request) throws(SettingViolation) in
            guard let promptWidth = request.promptWidth else {
                preconditionFailure("dino_projected without the prompt's embedding")
            }
            return ProjectedHead(
                width: request.backbone.width, channels: request.discriminator.hiddenWidth, promptWidth: promptWidth,
                blockNumbers: try request.projectedBlocks(), viewCount: request.discriminator.augmentedViews)
        }, reads: [.prompt, .embedding], model: .backbone, maps: .places,
        "the convolutional heads on several blocks, told the prompt's pooled embedding")

    /// A head on statistics of several blocks and their distance to those of the prompt's other references.
    public static let relative: RewardComponent = .init(
        "dino_relative",
        .head { (request) throws(SettingViolation) in
            StatisticsHead(
                component: .relative,
                statistics: .blocks(
                    try request.relativeBlocks(), tokenWidth: request.backbone.width, [.mean, .deviation],
                    normalized: true), relation: .others, hiddenWidth: request.discriminator.hiddenWidth)
        }, reads: [.prompt, .references], model: .backbone, maps: .places,
        "the head on mean and deviation of several blocks' patch tokens and their distance to those of the prompt's other references"
    )

    static let heads = [
        cls, patch, multilayer, statistics, texture, thumbnail, pickScoreAdversarial, projected, relative,
    ]
}

/// What a head is made from.
struct HeadRequest {
    let reward: RewardSettings
    let discriminator: DiscriminatorSettings
    let backbone: BackboneShape
    /// What `pickscore_adversarial` tunes; needed where its weight is above 0.
    let encoder: TunedEncoder?
    /// Length of a prompt's pooled embedding; needed where a head reads it.
    let promptWidth: Int?

    /// Blocks that `dino_projected` reads.
    func projectedBlocks() throws(SettingViolation) -> [Int] {
        let layers = reward.projectedLayers
        return layers.isEmpty
            ? Set((1...4).map { max(backbone.depth * $0 / 4, 1) - 1 }).sorted()
            : try blocks(layers, key: "projectedLayers")
    }

    /// Block numbers counted from the first.
    ///
    /// - Parameter key: of `reward`, which holds them.
    func blocks(_ layers: [Int], key: String) throws(SettingViolation) -> [Int] {
        guard let blocks = RewardSettings.blockIndices(layers, depth: backbone.depth) else {
            throw SettingViolation(
                path: "reward.\(key)", message: "\(layers) is not among the backbone's \(backbone.depth) blocks")
        }
        return blocks
    }

    /// Those of `reward.relativeLayers`; without any, the last of each third.
    func relativeBlocks() throws(SettingViolation) -> [Int] {
        if !reward.relativeLayers.isEmpty { return try blocks(reward.relativeLayers, key: "relativeLayers") }
        return Set((1...3).map { max(1, backbone.depth * $0 / 3) - 1 }).sorted()
    }

    func statisticsHead(_ component: RewardComponent, _ statistics: ImageStatistics) -> StatisticsHead {
        StatisticsHead(
            component: component, statistics: statistics,
            relation: reward.relativeToReferences ? .difference : .none, hiddenWidth: discriminator.hiddenWidth)
    }
}
