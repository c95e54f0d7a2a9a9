/// How the policy learns from references alone: `algorithm: sft`, and the start of other runs (`policy.start`).
public struct SupervisedSettings: Codable, Sendable, Equatable {
    /// Learning rate of AdamW, constant.
    public var learningRate = 4e-4
    /// References in one optimiser step.
    public var batch = 32
    /// Optimiser steps that make one epoch of the run.
    public var stepsPerEpoch = 10
    /// Share of samples that are learned without their prompt, which guidance needs.
    public var promptDropout = 0.1

    /// The defaults of every preset: neither paper nor released code has this.
    public init() {}

    /// Documentation and check of every key.
    public static let keys: [SettingKey<SupervisedSettings>] = [
        .number(
            "learningRate", \.learningRate, .above(0), "Learning rate of AdamW; its other numbers are the policy's.",
            source: "diffusers examples/dreambooth/README_sd3.md"),
        .integer(
            "batch", \.batch, 1...1_000_000, unit: "images", "References in one optimiser step.", source: "measured"),
        .integer(
            "stepsPerEpoch", \.stepsPerEpoch, 1...1_000_000, unit: "steps",
            "Optimiser steps that make one epoch: between epochs are snapshots, previews and metrics.", source: "own"),
        .number(
            "promptDropout", \.promptDropout, .between(0, 1), unit: "share",
            "Samples that are learned with the empty prompt, so that guidance keeps what it points away from.",
            source: "arXiv 2207.12598"),
    ]
}

/// What moves the policy.
public enum Algorithm: String, Codable, Sendable, CaseIterable {
    /// The paper's: rewards of a discriminator that learns, too.
    case advGRPO = "adv-grpo"
    /// Rewards that nothing trains.
    case flowGRPO = "flow-grpo"
    /// Flow matching on the references, without rewards.
    case sft
}

/// From where the policy sets out; in YAML `base` or `sft(STEPS)`.
public struct PolicyStart: Codable, Sendable, Equatable, CustomStringConvertible {
    /// As it is written.
    public let description: String

    /// The base model as it is.
    public static let base = PolicyStart("base")

    /// What `text` says; `steps` is nil where it says nothing that is known.
    public init(_ text: String) { description = text }

    public init(from decoder: any Decoder) throws { self.init(try String(from: decoder)) }

    public func encode(to encoder: any Encoder) throws { try description.encode(to: encoder) }

    /// Supervised steps before the first rollout; nil for text that is neither `base` nor `sft(STEPS)`.
    public var steps: Int? {
        if self == .base { return 0 }
        guard description.hasPrefix("sft("), description.hasSuffix(")"),
            let steps = Int(description.dropFirst(4).dropLast()), (1...1_000_000).contains(steps)
        else { return nil }
        return steps
    }

    static let range = "base, or sft(STEPS) with STEPS 1...1000000"
}

extension MethodSettings {
    /// The supervised steps of an epoch, numbered from the run's start; nil for an epoch of rollouts.
    public func supervisedSteps(ofEpoch epoch: Int) -> Range<Int>? {
        let first = epoch * supervised.stepsPerEpoch
        let total = algorithm == .sft ? Int.max : policy.start.steps ?? 0
        return first < total ? first..<min(first + supervised.stepsPerEpoch, total) : nil
    }

    /// Epochs of the supervised start before those of rollouts; nil where none of one kind come before any of the other.
    public var supervisedStart: Int? {
        guard algorithm != .sft, let steps = policy.start.steps, steps > 0 else { return nil }
        return (steps + supervised.stepsPerEpoch - 1) / supervised.stepsPerEpoch
    }

    /// Whether any image is sampled to learn from and scored.
    public var usesRollouts: Bool { algorithm != .sft }

    /// Whether a discriminator learns.
    public var trainsDiscriminator: Bool {
        algorithm == .advGRPO && discriminator.train && reward.weights.active.contains(where: \.isAdversarial)
    }

    /// Combinations of the algorithm with rewards, players and start.
    func algorithmViolations() -> [SettingViolation] {
        let adversarial = reward.weights.active.filter(\.isAdversarial).map(\.rawValue)
        let names = RewardComponent.allCases.filter(\.isAdversarial).map(\.rawValue).joined(separator: ", ")
        switch algorithm {
        case .advGRPO where adversarial.isEmpty:
            return [
                .init(
                    path: "reward.weights",
                    message: "at least one weight of the discriminator's must be above 0: \(names); "
                        + "or use algorithm flow-grpo")
            ]
        case .flowGRPO where !adversarial.isEmpty:
            return [
                .init(
                    path: "reward.weights",
                    message: "must be 0 for \(adversarial.joined(separator: ", ")) with algorithm flow-grpo, "
                        + "which trains no discriminator")
            ]
        case .flowGRPO where rewardNames.isEmpty:
            return [.init(path: "reward.weights", message: "at least one weight must be above 0")]
        case .sft where policy.start != .base:
            return [
                .init(
                    path: "policy.start",
                    message: "must be base with algorithm sft: all of its epochs are supervised")
            ]
        case .advGRPO, .flowGRPO, .sft: return []
        }
    }
}
