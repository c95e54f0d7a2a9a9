/// How the policy learns (method.md 1.9 to 1.12).
public struct PolicySettings: Codable, Sendable, Equatable {
    /// Which weights are trained.
    public var adapter = AdapterKind.lora
    /// The adapter's shape; unused when all weights are trained.
    public var lora = LoRASettings()
    /// From where it sets out.
    public var start = PolicyStart.base
    /// Learning rate of AdamW, constant.
    public var learningRate = 3e-4
    /// Decay rates of AdamW.
    public var betas = AdamBetas(0.9, 0.999)
    /// Denominator offset of AdamW.
    public var epsilon = 1e-8
    /// Decoupled weight decay of AdamW.
    public var weightDecay = 1e-4
    /// Half-width of the ratio's clipping interval around 1.
    public var clipRange = 1e-5
    /// Bound on the absolute advantage in the loss.
    public var advantageClip = 5.0
    /// Over which rewards the advantage's standard deviation is taken.
    public var advantageStandardDeviation = DeviationScope.global
    /// What is normalised: the reward's weighted sum, or each of its components.
    public var advantageNormalization = AdvantageNormalization.sum
    /// What has an advantage of its own.
    public var advantage = AdvantageKind.image
    /// Weight of a patch's own advantage beside the image's; 1 unless `advantage` is `both`.
    public var patchWeight = 1.0
    /// Deviation of the Gaussian that smooths reward maps, in tokens; 0 for none.
    public var patchBlur = 0.0
    /// Weight of the squared distance to the adapter-free policy's step mean.
    public var klWeight = 0.0
    /// Global norm to which gradients are clipped.
    public var maximumGradientNorm = 1.0
    /// Optimiser steps of an epoch; the epoch's groups are divided among them.
    public var updatesPerEpoch = 2
    /// The averaged copy of the trained weights.
    public var ema = EMASettings()
    /// Whether the training forward applies guidance as the rollout does.
    public var guidanceInTraining = true
    /// Whether the training forward keeps its activations or computes them again on the way back.
    public var gradientCheckpointing = GradientCheckpointing.automatic

    /// The settings of a preset.
    public init(fidelity: Fidelity) {
        if fidelity == .paper { advantageStandardDeviation = .group }
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<PolicySettings>] = [
        .choice(
            "adapter", \.adapter, "Which weights are trained: a low-rank adapter or all of them.",
            source: "method 1.12"),
        .integer("lora.rank", \.lora.rank, 1...4096, "Rank of the adapter.", source: "method 1.12"),
        .number(
            "lora.alpha", \.lora.alpha, .above(0), "Scale of the adapter times its rank.", source: "method 1.12"),
        .texts(
            "lora.targets", \.lora.targets, mayBeEmpty: true,
            "Linear layers that get an adapter, by the ends of their names; empty: those of the policy model.",
            source: "method 1.12"),
        .make(
            "start", .text, PolicyStart.range, "",
            "From where the policy sets out: the base model as it is, or that after so many supervised steps on the references "
                + "(`supervised`), which are the run's first epochs. The optimiser then begins anew.",
            "FAIL, arXiv 2602.12155"
        ) { group in
            group.start.steps == nil ? "must be \(PolicyStart.range), not \(group.start)" : nil
        },
        .number("learningRate", \.learningRate, .above(0), "Learning rate of AdamW.", source: "method 1.12"),
        .betas("betas", \.betas, "Decay rates of AdamW.", source: "method 1.12"),
        .number("epsilon", \.epsilon, .above(0), "Denominator offset of AdamW.", source: "method 1.12"),
        .number("weightDecay", \.weightDecay, .atLeast(0), "Decoupled weight decay.", source: "method 1.12"),
        .number(
            "clipRange", \.clipRange, .above(0), "Half-width of the ratio's clipping interval around 1.",
            source: "method 1.10"),
        .number(
            "advantageClip", \.advantageClip, .above(0), "Bound on the absolute advantage in the loss.",
            source: "method 1.9"),
        .choice(
            "advantageStandardDeviation", \.advantageStandardDeviation,
            "Rewards whose deviation scales the advantage: all of the epoch or the group's own.",
            source: "method 1.9, 1.16"),
        .choice(
            "advantageNormalization", \.advantageNormalization,
            "What advantages are made of: the weighted sum of the rewards, or each reward's own advantage, weighted, added up and "
                + "divided by the deviation of all (GDPO), so that none is drowned by another's spread.",
            source: "arXiv 2601.05242"),
        .choice(
            "advantage", \.advantage,
            "What has an advantage of its own: an image, each of its patches (a token of the transformer), or both, added up. "
                + "With patches, ratio and clipRange are a token's.", source: "method 1.9"),
        .number(
            "patchWeight", \.patchWeight, .above(0),
            "Weight of a patch's own advantage beside the image's; only with advantage both.", source: "method 1.9"),
        .number(
            "patchBlur", \.patchBlur, .between(0, 64), unit: "tokens",
            "Deviation of the Gaussian that smooths reward maps, so that a token is credited with its neighbourhood; 0 smooths "
                + "nothing. Not with advantage image.", source: "method 1.9"),
        .number(
            "klWeight", \.klWeight, .atLeast(0), "Weight of the squared distance to the adapter-free policy's mean.",
            source: "method 1.10"),
        .number(
            "maximumGradientNorm", \.maximumGradientNorm, .above(0), "Global norm to which gradients are clipped.",
            source: "method 1.12"),
        .integer(
            "updatesPerEpoch", \.updatesPerEpoch, 1...1_000_000, unit: "steps",
            "Optimiser steps of an epoch, its groups divided among them; at most rollout.groupsPerEpoch.",
            source: "method 1.2"),
        .number(
            "ema.decay", \.ema.decay, .halfOpen(0, 1),
            "Share of the average that one averaging keeps; less in the beginning, (1 + n) / (10 + n) at update n.",
            source: "method 1.11"),
        .integer(
            "ema.every", \.ema.every, 1...1_000_000, unit: "policy updates", "Policy updates between two averagings.",
            source: "method 1.11"),
        .boolean(
            "guidanceInTraining", \.guidanceInTraining, "Whether the training forward applies guidance.",
            source: "method 1.3"),
        .choice(
            "gradientCheckpointing", \.gradientCheckpointing,
            "Whether each block of the transformer is computed a second time in the backward pass instead of keeping its "
                + "activations: same gradients, 40% more time; automatic: where a piece would keep more than 2 GiB.",
            source: "arXiv 1604.06174"),
    ]

    /// Combinations that make no sense.
    func combinationViolations() -> [SettingViolation] {
        var violations: [SettingViolation] = []
        if adapter == .full && klWeight > 0 {
            violations.append(
                .init(
                    path: "klWeight",
                    message: "needs policy.adapter lora: the adapter-free policy is the reference; use 0 with full"))
        }
        if advantage != .both && patchWeight != 1 {
            violations.append(
                .init(
                    path: "patchWeight",
                    message:
                        "weighs a patch's advantage against the image's, and policy.advantage \(advantage.rawValue) "
                        + "has one of them only; use 1, or both"))
        }
        if advantage == .image && patchBlur > 0 {
            violations.append(
                .init(
                    path: "patchBlur",
                    message: "smooths reward maps, which policy.advantage image does not read; use 0, or patch or both")
            )
        }
        if advantage != .image && advantageNormalization == .decoupled {
            violations.append(
                .init(
                    path: "advantageNormalization",
                    message:
                        "decoupled gives an image one advantage, and policy.advantage \(advantage.rawValue) gives its "
                        + "patches their own, by maps of the weighted sum; use sum, or image"))
        }
        return violations
    }
}

/// What advantages are made of.
public enum AdvantageNormalization: String, Codable, Sendable, CaseIterable {
    /// The weighted sum of the rewards.
    case sum
    /// Each reward by itself, then their weighted sum (GDPO).
    case decoupled
}

extension MethodSettings {
    /// Weights of all rewards by name where advantages are decoupled; else nil.
    public var decoupledWeights: [String: Double]? {
        guard policy.advantageNormalization == .decoupled else { return nil }
        let own = reward.weights.active.map { ($0.rawValue, reward.weights[$0]) }
        return Dictionary(uniqueKeysWithValues: own + activeRewardProcesses.map { ($0.name, $0.process.weight) })
    }
}

/// What has an advantage of its own.
public enum AdvantageKind: String, Codable, Sendable, CaseIterable {
    /// An image: one number for all of its tokens.
    case image
    /// A token, by what the reward map says of its place.
    case patch
    /// A token, by its image's advantage and its own.
    case both
}

/// Which weights are trained.
public enum AdapterKind: String, Codable, Sendable, CaseIterable {
    /// Low-rank matrices beside the attention's linear layers.
    case lora
    /// All weights of the transformer.
    case full
}

/// Whether the policy's training computes blocks a second time instead of keeping what their backward pass needs.
public enum GradientCheckpointing: String, Codable, Sendable, CaseIterable {
    /// Where one piece of work (a chunk at one window step) would keep more than 2 GiB.
    case automatic
    /// For every piece.
    case always
    /// For none.
    case never

    /// Bytes of activations that a piece may keep.
    public var activationByteLimit: Int {
        switch self {
        case .automatic: 2 << 30
        case .always: 0
        case .never: .max
        }
    }
}

/// Over which rewards the advantage's standard deviation is taken.
public enum DeviationScope: String, Codable, Sendable, CaseIterable {
    /// All rewards of the epoch.
    case global
    /// The rewards of the group.
    case group
}

/// The shape of a low-rank adapter.
public struct LoRASettings: Codable, Sendable, Equatable {
    /// Rank of both matrices.
    public var rank = 32
    /// The product B A is scaled by alpha / rank.
    public var alpha = 64.0
    /// Name endings of the adapted layers, as PEFT's `target_modules` has them; empty for those that the policy model names.
    public var targets: [String] = []

    public init() {}
}

/// The averaged copy of the trained weights.
public struct EMASettings: Codable, Sendable, Equatable {
    /// Share of the average that one update keeps.
    public var decay = 0.9
    /// Policy updates between two averagings.
    public var every = 8

    public init() {}
}
