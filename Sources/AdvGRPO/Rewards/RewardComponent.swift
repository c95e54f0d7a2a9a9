internal import TensorCore

/// One part of the reward: a row of the table `allCases`.
///
/// Settings keys, their documentation, the wire, metrics and `advgrpo score` follow the rows. A row is one of the discriminator's
/// heads (`RewardComponent+Discriminator`) or a reward that no run trains (`RewardComponent+Frozen`).
public struct RewardComponent: Sendable {
    /// The name in settings, on the wire and in metrics.
    public let rawValue: String
    /// What its value depends on beside the image.
    public let reads: Set<Input>
    /// The model it reads; nil where it reads pixels alone.
    public let model: Model?
    /// What a score is divided by where it enters a weighted sum, so that rewards are of the order of 1.
    public let divisor: Float
    /// What it is on its own scale, as the end of the sentence "Weight of ...".
    public let meaning: String
    let origin: Origin
    /// What tells where in an image its score comes from; nil where nothing does.
    let maps: MapSource?

    /// What tells where in an image its score comes from.
    enum MapSource: Sendable {
        /// What has a place: logits or tokens of its own, or the pixels that its own model sees.
        case places
        /// The image's pixels, by a gradient through `reward.resize`.
        case gradient
    }

    /// What a reward may depend on beside the image.
    public enum Input: Sendable {
        /// The image's prompt.
        case prompt
        /// The reference images of the prompt.
        case references
        /// The prompt's pooled embedding by the policy's own text encoders.
        case embedding
    }

    /// A model that a reward reads.
    public enum Model: Sendable, Equatable {
        /// The backbone that all of the method shares, `rewardBackbone`.
        case backbone
        /// One of its own, whose folder `rewardModels.NAME` names: what the folder holds, and where that is described.
        case folder(String, source: String)
    }

    /// Where scores come from in a run.
    enum Origin: Sendable {
        /// A head of the discriminator.
        case head(@Sendable (HeadRequest) throws(SettingViolation) -> any DiscriminatorHead)
        /// The backbone's CLS tokens of images and of the prompt's references, [B, D] and [R, D], which the method has; elsewhere
        /// the reward's own loader.
        case classTokens(@Sendable (Tensor, Tensor) -> [Float], alone: any FrozenRewardName.Type)
        /// The reward's loader.
        case frozen(any FrozenRewardName.Type)
    }

    init(
        _ rawValue: String, _ origin: Origin, reads: Set<Input> = [], model: Model? = nil, divisor: Float = 1,
        maps: MapSource? = nil, _ meaning: String
    ) {
        self.rawValue = rawValue
        self.origin = origin
        self.reads = reads
        self.model = model
        self.divisor = divisor
        self.maps = maps
        self.meaning = meaning
    }

    /// Whether the run's discriminator gives it.
    public var isAdversarial: Bool { if case .head = origin { true } else { false } }

    /// Whether a run loads it as a reward of its own, which it does not train.
    public var isFrozen: Bool { if case .frozen = origin { true } else { false } }

    /// One sentence on the setting that is its weight.
    var weightMeaning: String {
        let divided = divisor == 1 ? "" : ", divided by \(shortest(Double(divisor)))"
        guard case .folder = model else { return "Weight of \(meaning)\(divided)." }
        return "Weight of \(meaning)\(divided); `rewardModels.\(rawValue)` names the model."
    }

    /// By what its loader is found; nil for the discriminator's heads.
    public var frozenName: (any FrozenRewardName.Type)? {
        switch origin {
        case .head: nil
        case .classTokens(_, let name), .frozen(let name): name
        }
    }
}

/// The name of a reward that no run trains, in types: `MethodModels/Rewards` has an extension of each that loads it.
///
/// Method and settings know a reward by its row and must not know models; the type is what row and loader have in common.
public protocol FrozenRewardName: SendableMetatype {}

extension RewardComponent: CaseIterable {
    /// The whole table, heads first. Heads begin with random weights that depend on their place: a new one goes to their end.
    public static let allCases: [RewardComponent] = heads + untrained
}

extension RewardComponent: RawRepresentable, Hashable, Codable, CodingKeyRepresentable {
    /// The row of this name, or nil.
    public init?(rawValue: String) {
        guard let row = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
        self = row
    }

    public static func == (a: RewardComponent, b: RewardComponent) -> Bool { a.rawValue == b.rawValue }

    public func hash(into hasher: inout Hasher) { hasher.combine(rawValue) }
}
