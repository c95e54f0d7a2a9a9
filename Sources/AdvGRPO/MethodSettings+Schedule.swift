/// Which of the two players learns in which epoch (method.md 1.8).
public struct ScheduleSettings: Codable, Sendable, Equatable {
    /// The rule.
    public var kind: ScheduleKind
    /// Discriminator epochs before every policy epoch, or, with `once`, before all of them.
    public var discriminatorEpochs: Int

    /// The settings of a preset.
    public init(fidelity: Fidelity) {
        switch fidelity {
        case .released: (kind, discriminatorEpochs) = (.released, 9)
        case .paper: (kind, discriminatorEpochs) = (.paper, 10)
        case .fixed: (kind, discriminatorEpochs) = (.everyRollout, 9)
        }
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<ScheduleSettings>] = [
        .choice(
            "kind", \.kind,
            "`released` and `paper`: discriminatorEpochs discriminator epochs, then one policy epoch; `trigger`: the "
                + "discriminator learns whenever the epoch's images score above references of their prompts, else the policy; "
                + "`every-rollout`: each rollout trains both; `once`: discriminatorEpochs discriminator epochs, then the policy "
                + "alone, against a frozen head.", source: "method 1.8, 1.16"),
        .integer(
            "discriminatorEpochs", \.discriminatorEpochs, 1...1_000_000, unit: "epochs",
            "Discriminator epochs before every policy epoch (`released`: 9, `paper`: 10), or before all of them (`once`).",
            source: "method 1.8, 1.16"),
    ]
}

/// The rule by which epochs are divided.
public enum ScheduleKind: String, Codable, Sendable, CaseIterable {
    /// The released code's: 9 discriminator epochs on fresh rollouts, then one policy epoch.
    case released
    /// The paper's 10:1.
    case paper
    /// The paper's equation 7, as the PickScore script has it.
    case trigger
    /// Each rollout trains the discriminator and the policy.
    case everyRollout = "every-rollout"
    /// A discriminator that is trained first and then frozen: the baseline that adversarial training is compared with.
    case once
}
