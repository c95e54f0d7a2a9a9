/// Rewards of models and formulas that no run trains.
///
/// - Source: Flow-GRPO `flow_grpo/rewards.py`, as Adv-GRPO's `adv_grpo/rewards.py` has it (method.md 1.6). Neither has
///   SigLIP's logit, which is taken as it is.
extension RewardComponent {
    /// Those that are.
    public static let frozen = allCases.filter(\.isFrozen)

    /// Whether the reward is of a model or formula that no run trains.
    public var isFrozen: Bool {
        switch self {
        case .pickScore, .siglip, .aesthetic, .jpegCompressibility: true
        case .cls, .patch, .multilayer, .statistics, .texture, .thumbnail, .pickScoreAdversarial, .imageSimilarity:
            false
        }
    }

    /// Whether the run's discriminator gives it.
    public var isAdversarial: Bool { !isFrozen && self != .imageSimilarity }

    /// Whether its value depends on the prompt, rather than on how the image looks alone.
    public var readsPrompt: Bool { [.pickScoreAdversarial, .imageSimilarity, .pickScore, .siglip].contains(self) }

    /// Whether it reads a model that no run trains.
    public var readsModel: Bool { self == .imageSimilarity || isFrozen && self != .jpegCompressibility }

    /// What a score is divided by where it enters a weighted sum, so that rewards are of the order of 1.
    public var divisor: Float {
        switch self {
        case .pickScore, .pickScoreAdversarial: 26
        case .jpegCompressibility: 500
        case .cls, .patch, .multilayer, .statistics, .texture, .thumbnail, .imageSimilarity, .siglip, .aesthetic: 1
        }
    }
}
