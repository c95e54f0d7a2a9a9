/// Every switch of the method, as one plain value: no tensors, no files, no defaults hidden elsewhere.
///
/// A preset (`fidelity`) fixes the switches on which paper and released code differ; every single key may then be
/// changed. `keys` documents them all and `validate()` names every violation at once.
public struct MethodSettings: Codable, Sendable, Equatable {
    /// The preset that the other groups started from.
    public var fidelity: Fidelity
    /// What moves the policy.
    public var algorithm = Algorithm.advGRPO
    /// How images are sampled.
    public var rollout: RolloutSettings
    /// How images are scored.
    public var reward: RewardSettings
    /// How the discriminator learns.
    public var discriminator: DiscriminatorSettings
    /// How the policy learns.
    public var policy: PolicySettings
    /// How the policy learns from references alone.
    public var supervised = SupervisedSettings()
    /// Which of the two learns in which epoch.
    public var schedule: ScheduleSettings
    /// Rewards of one's own, by the names that settings give them.
    public var rewardProcesses: [String: RewardProcess] = [:]
    /// When a run is taken to cheat.
    public var gauge = GaugeSettings()

    /// The settings of a preset.
    public init(fidelity: Fidelity = .fixed) {
        self.fidelity = fidelity
        rollout = RolloutSettings(fidelity: fidelity)
        reward = RewardSettings(fidelity: fidelity)
        discriminator = DiscriminatorSettings(fidelity: fidelity)
        policy = PolicySettings(fidelity: fidelity)
        schedule = ScheduleSettings(fidelity: fidelity)
    }

    /// Documentation and check of every key, in file order.
    public static let keys: [SettingKey<MethodSettings>] =
        [
            .choice(
                "fidelity", \.fidelity,
                "Preset for the switches on which paper and released code differ; single keys override it.",
                source: "method 5"),
            .choice(
                "algorithm", \.algorithm,
                "What moves the policy: rewards of a discriminator that learns (`adv-grpo`), rewards that nothing trains "
                    + "(`flow-grpo`), or flow matching on the references without rewards, reward server and workers (`sft`).",
                source: "paper section 4; sft: arXiv 2403.03206"),
        ]
        + RolloutSettings.keys.nested(under: "rollout", \.rollout)
        + RewardSettings.keys.nested(under: "reward", \.reward)
        + DiscriminatorSettings.keys.nested(under: "discriminator", \.discriminator)
        + PolicySettings.keys.nested(under: "policy", \.policy)
        + SupervisedSettings.keys.nested(under: "supervised", \.supervised)
        + ScheduleSettings.keys.nested(under: "schedule", \.schedule)
        + GaugeSettings.keys.nested(under: "gauge", \.gauge)
        + processKeys

    /// Every violation: values out of range, or where there are none, combinations that make no sense.
    public func validate() -> [SettingViolation] {
        let outOfRange = Self.keys.violations(in: self) + processViolations()
        guard outOfRange.isEmpty else { return outOfRange }
        return rollout.combinationViolations().map { $0.nested(under: "rollout") }
            + reward.combinationViolations().map { $0.nested(under: "reward") }
            + discriminator.combinationViolations().map { $0.nested(under: "discriminator") }
            + policy.combinationViolations().map { $0.nested(under: "policy") }
            + algorithmViolations() + combinationViolations()
    }

    /// Combinations across groups.
    private func combinationViolations() -> [SettingViolation] {
        var violations: [SettingViolation] = []
        if policy.updatesPerEpoch > rollout.groupsPerEpoch {
            violations.append(
                .init(
                    path: "policy.updatesPerEpoch",
                    message: "must be at most rollout.groupsPerEpoch (\(rollout.groupsPerEpoch)), "
                        + "so that every update has a group; not \(policy.updatesPerEpoch)"))
        }
        // Ratios against a policy one update old differ from 1 by about 1e-4: a narrower interval clips most samples away.
        if rollout.overlap, policy.clipRange < 1e-3 {
            violations.append(
                .init(
                    path: "policy.clipRange",
                    message:
                        "must be at least 0.001 with rollout.overlap, or the ratios against a policy one update old are "
                        + "clipped; not \(policy.clipRange)"))
        }
        if reward.weights.active.filter(\.isAdversarial) == [.pickScoreAdversarial], discriminator.realBatch != 0 {
            violations.append(
                .init(
                    path: "discriminator.realBatch",
                    message:
                        "must be 0, not \(discriminator.realBatch): pickscore_adversarial learns from pairs and takes a "
                        + "reference of the prompt of each of the fakeBatch generated images"))
        }
        if reward.weights[.pickScoreAdversarial] > 0, discriminator.targetAUC > 0 {
            violations.append(
                .init(
                    path: "discriminator.targetAUC",
                    message:
                        "must be 0 with pickscore_adversarial, not \(shortest(discriminator.targetAUC)): its scores compare within "
                        + "a prompt only, and the references of the epoch's prompts train"))
        }
        let backbone = reward.weights.active.filter { $0.isAdversarial && $0.model == .backbone }
        if discriminator.backbone != .frozen, backbone.isEmpty {
            violations.append(
                .init(
                    path: "discriminator.backbone",
                    message: "must be frozen, not \(discriminator.backbone.rawValue): no head of the reward reads the "
                        + "backbone; weigh one of "
                        + RewardComponent.heads.filter { $0.model == .backbone }.map(\.rawValue).joined(separator: ", ")
                ))
        }
        return violations + mapViolations() + refreshViolations()
    }

    /// A refresh without a discriminator that learns.
    private func refreshViolations() -> [SettingViolation] {
        guard gauge.action == .refresh, !trainsDiscriminator else { return [] }
        return [
            .init(
                path: "gauge.action",
                message: "refresh trains the discriminator, and none learns in this run; use warn, slow or rollback")
        ]
    }

    /// Patch advantages without a reward that tells places apart.
    private func mapViolations() -> [SettingViolation] {
        guard policy.advantage != .image else { return [] }
        let active = reward.weights.active
        let names = { (rows: [RewardComponent]) in rows.map(\.rawValue).joined(separator: ", ") }
        if active.allSatisfy({ $0.maps == nil }), activeRewardProcesses.allSatisfy({ !$0.process.maps }) {
            return [
                .init(
                    path: "policy.advantage",
                    message:
                        "\(policy.advantage.rawValue) needs a reward that makes a map, and \(names(active)) makes none; "
                        + "use image, or weigh one of "
                        + names(RewardComponent.allCases.filter { $0.maps != nil }))
            ]
        }
        let attributed = active.filter { $0.maps == .gradient }
        if reward.resize == .pil, !attributed.isEmpty {
            return [
                .init(
                    path: "reward.resize",
                    message: "must be tensor with policy.advantage \(policy.advantage.rawValue): the maps of "
                        + "\(names(attributed)) follow gradients to the pixels, which 8-bit images do not have")
            ]
        }
        return []
    }
}

/// Which text is followed where the paper and the released code differ (method.md 1.16 and 5).
public enum Fidelity: String, Codable, Sendable, CaseIterable {
    /// The released code, accidents included.
    case released
    /// The paper's text.
    case paper
    /// What is meant: one feature function in loss and reward, fp32 latents, every rollout trains both.
    case fixed
}

/// A number format of a computation.
public enum NumericPrecision: String, Codable, Sendable, CaseIterable {
    case fp32
    case bf16
}

/// The two decay rates of Adam, written as a list: `[0.9, 0.999]`.
public struct AdamBetas: Sendable, Equatable, Codable {
    /// Decay of the gradient's running mean.
    public var first: Double
    /// Decay of the squared gradient's running mean.
    public var second: Double

    public init(_ first: Double, _ second: Double) {
        self.first = first
        self.second = second
    }

    public init(from decoder: any Decoder) throws {
        let values = try [Double](from: decoder)
        guard values.count == 2 else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "expected two numbers, found \(values.count)"))
        }
        self.init(values[0], values[1])
    }

    public func encode(to encoder: any Encoder) throws {
        try [first, second].encode(to: encoder)
    }
}

extension SettingKey {
    /// Adam's decay rates.
    static func betas(
        _ name: String, _ path: any KeyPath<Group, AdamBetas> & Sendable, _ meaning: String, source: String
    ) -> SettingKey {
        make(name, .numbers, "two numbers, each 0..<1", "", meaning, source) { group in
            let betas = group[keyPath: path]
            let valid = [betas.first, betas.second].allSatisfy { $0 >= 0 && $0 < 1 }
            return valid ? nil : "must be two numbers, each 0..<1, not [\(betas.first), \(betas.second)]"
        }
    }
}
