/// How images are scored (method.md 1.6).
public struct RewardSettings: Codable, Sendable, Equatable {
    /// Weight of every component in the reward; components of weight 0 are not computed.
    public var weights = RewardWeights()
    /// Weight of the CLS logit in `dino_patch`.
    public var globalWeight = 0.7
    /// Weight of the mean patch logit in `dino_patch`.
    public var localWeight = 0.3
    /// Patches drawn with replacement from every image.
    public var patchCount = 64
    /// Whether features are scaled to unit length before the head.
    public var featureNormalization = FeatureNormalization.raw
    /// How images are brought to the backbone's size.
    public var resize = ResizeMethod.tensor
    /// Which form of the references the discriminator and the similarity see.
    public var references = ReferenceForm.decoded
    /// Blocks whose outputs `dino_multilayer` reads; negative numbers count from the last block.
    public var layers = [-1]
    /// Blocks whose outputs `dino_projected` reads; negative numbers count from the last block, none are the ends of the
    /// backbone's quarters.
    public var projectedLayers: [Int] = []
    /// Block whose patch tokens `dino_statistics` pools; negative numbers count from the last block.
    public var statisticsLayer = -3
    /// What `dino_statistics` and `texture` read of an image's tokens.
    public var statistics = TokenStatistic.allCases
    /// Whether `dino_statistics`, `texture` and `thumbnail` read how an image differs from its prompt's references.
    public var relativeToReferences = false
    /// Blocks whose patch tokens `dino_relative` reads; negative numbers count from the last block; none: the last of each third.
    public var relativeLayers: [Int] = []
    /// Share of an image's highest patch logits that `dino_multilayer` averages.
    public var topFraction = 0.2
    /// Divisor of the fused logit before the sigmoid of `dino_multilayer`.
    public var temperature = 2.0

    /// The settings of a preset.
    public init(fidelity: Fidelity) {
        if fidelity != .fixed { references = .raw }
        if fidelity == .released {
            featureNormalization = .trainRawScoreUnit
            resize = .trainPILScoreTensor
        }
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<RewardSettings>] =
        RewardComponent.allCases.map { component in
            .make(
                "weights.\(component.rawValue)", .number, ">= 0", "", component.weightMeaning, "method 1.6"
            ) { group in
                let weight = group.weights[component]
                return weight >= 0 && weight.isFinite ? nil : "must be >= 0, not \(weight)"
            }
        } + [
            .number(
                "globalWeight", \.globalWeight, .atLeast(0), "Weight of the CLS logit in `dino_patch`.",
                source: "method 1.6"),
            .number(
                "localWeight", \.localWeight, .atLeast(0), "Weight of the mean patch logit in `dino_patch`.",
                source: "method 1.6"),
            .integer(
                "patchCount", \.patchCount, 1...65536, unit: "patches",
                "Patches drawn with replacement from every image, in score and loss.", source: "method 1.6"),
            .choice(
                "featureNormalization", \.featureNormalization,
                "Length of the features that the head sees: as they are in training and unit length in scoring "
                    + "(released), unit length in both, or as they are in both.", source: "method 1.7, 4.10"),
            .choice(
                "references", \.references,
                "The references as they are (raw), or encoded and decoded by the model's own autoencoder (decoded): what the "
                    + "decoder does to every image cannot tell the classes apart then.", source: "own; method 4.11"),
            .choice(
                "resize", \.resize,
                "Bicubic resizing to the backbone's size: PIL (antialiased, 8 bits) in training and tensor "
                    + "(not antialiased) in scoring (released), or one of them in both.", source: "method 1.7, 4.11"),
            .integers(
                "layers", \.layers, -256...255, unit: "block index",
                "Blocks read by `dino_multilayer`; -1 is the last block.", source: "method 1.6"),
            .integers(
                "projectedLayers", \.projectedLayers, -256...255, unit: "block index", mayBeEmpty: true,
                "Blocks read by `dino_projected`, each by a head of its own; -1 is the last block. Empty: the last block of "
                    + "each quarter of the backbone.", source: "arXiv 2301.09515"),
            .integer(
                "statisticsLayer", \.statisticsLayer, -256...255, unit: "block index",
                "Block pooled by `dino_statistics`; -1 is the last block.", source: "measured"),
            .choices(
                "statistics", \.statistics,
                "What `dino_statistics` and `texture` read of each feature over an image's tokens: few tell less apart, and what "
                    + "they tell is easier to follow.", source: "measured"),
            .boolean(
                "relativeToReferences", \.relativeToReferences,
                "Whether `dino_statistics`, `texture` and `thumbnail` read an image's difference from the mean of its prompt's references (a "
                    + "reference's own: from that of the others), which needs two of them for every prompt.",
                source: "measured"),
            .integers(
                "relativeLayers", \.relativeLayers, -256...255, unit: "block index", mayBeEmpty: true,
                "Blocks read by `dino_relative`; -1 is the last block; empty: the last of each third of the backbone. It compares an "
                    + "image with its prompt's references, never with itself; where a prompt has one only, it reads the image alone.",
                source: "measured"),
            .number(
                "topFraction", \.topFraction, .between(0.001, 1),
                "Share of an image's highest patch logits that `dino_multilayer` averages.", source: "method 1.6"),
            .number(
                "temperature", \.temperature, .above(0), "Divisor before the sigmoid of `dino_multilayer`.",
                source: "method 1.6"),
        ]

    /// Combinations that make no sense.
    func combinationViolations() -> [SettingViolation] {
        var violations: [SettingViolation] = []
        if weights[.patch] > 0, globalWeight + localWeight == 0 {
            violations.append(
                .init(path: "globalWeight", message: "globalWeight and localWeight must not both be 0"))
        }
        return violations
    }

    /// Block indices counted from the first block.
    ///
    /// - Parameters:
    ///   - layers: indices as in the settings; negative ones count from the last block.
    ///   - depth: number of blocks of the backbone.
    /// - Returns: indices in 0..<depth, or nil if one of them lies outside.
    public static func blockIndices(_ layers: [Int], depth: Int) -> [Int]? {
        let indices = layers.map { $0 < 0 ? depth + $0 : $0 }
        return indices.allSatisfy { (0..<depth).contains($0) } ? indices : nil
    }
}

/// A number that is taken over the tokens of an image, for each of their features.
public enum TokenStatistic: String, Codable, Sendable, CaseIterable {
    case mean
    /// Population standard deviation.
    case deviation
    case maximum
    case minimum
}

/// Whether the head sees features as they are or scaled to unit length.
public enum FeatureNormalization: String, Codable, Sendable, CaseIterable {
    /// As they are in the loss, unit length in the score: the released code's accident.
    case trainRawScoreUnit = "train-raw-score-unit"
    /// Unit length in both.
    case unit
    /// As they are in both.
    case raw
}

/// How images reach the backbone's size.
public enum ResizeMethod: String, Codable, Sendable, CaseIterable {
    /// PIL in the loss, tensor in the score: the released code.
    case trainPILScoreTensor = "train-pil-score-tensor"
    /// Bicubic on floating-point tensors without antialiasing.
    case tensor
    /// Bicubic with antialiasing on truncated 8-bit images.
    case pil
}

/// Which form of the reference images the reward sees.
public enum ReferenceForm: String, Codable, Sendable, CaseIterable {
    /// As they are.
    case raw
    /// Through the autoencoder's encoder and decoder, as generated images come out of the decoder.
    case decoded
}
