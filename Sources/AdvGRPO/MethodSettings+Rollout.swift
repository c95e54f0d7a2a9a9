/// How a group of images is sampled (method.md 1.2 to 1.5).
public struct RolloutSettings: Codable, Sendable, Equatable {
    /// Side of the square images.
    public var resolution = 512
    /// Denoising steps of a rollout.
    public var steps = 10
    /// Classifier-free guidance scale; 1 turns guidance off.
    public var guidance = 4.5
    /// Noise level eta of the stochastic steps; all other steps are deterministic.
    public var noiseLevel = 0.8
    /// Which stochastic step is taken inside the window.
    public var sde = StochasticStep.cps
    /// Which steps are stochastic, stored and trained.
    public var window = WindowSettings()
    /// Images of one prompt that are compared with each other.
    public var groupSize = 16
    /// Groups that make one epoch.
    public var groupsPerEpoch = 48
    /// Images of a group that one thread computes at once. Part of the method's numbers: kernels may round differently for
    /// other batch sizes, so this and not the number of threads decides how a group is cut.
    public var chunkSize = 8
    /// Whether an epoch is sampled while the one before trains, by a policy that is one update old.
    public var overlap = false
    /// Whether a group's images share their start.
    public var sharedInitialNoise = SharedNoise.none
    /// Format in which latents are kept between steps and stored for training.
    public var latentPrecision = NumericPrecision.fp32

    /// The settings of a preset.
    public init(fidelity: Fidelity) {
        switch fidelity {
        case .released:
            window.start = .fixed(0)
            latentPrecision = .bf16
        case .paper:
            window.start = .noiseRange
        case .fixed:
            window.start = .drawn
        }
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<RolloutSettings>] = [
        .integer(
            "resolution", \.resolution, 8...8192, unit: "pixels", "Side of the square images.", source: "method 1.2"),
        .integer("steps", \.steps, 1...1000, unit: "steps", "Denoising steps of a rollout.", source: "method 1.2"),
        .integer(
            "chunkSize", \.chunkSize, 1...4096, unit: "images",
            "Images of a group that one thread computes at once; more is faster until a chunk leaves the cache.",
            source: "own"),
        .number(
            "guidance", \.guidance, .atLeast(1), "Classifier-free guidance scale; 1 turns guidance off.",
            source: "method 1.2"),
        .number(
            "noiseLevel", \.noiseLevel, .above(0),
            "Noise level eta of the steps inside the window; at most 1 for `cps`.", source: "method 1.4"),
        .choice("sde", \.sde, "The stochastic step taken inside the window.", source: "method 1.5"),
        .integer(
            "window.size", \.window.size, 1...1000, unit: "steps", "Stochastic steps of a rollout; these are trained.",
            source: "method 1.4"),
        .make(
            "window.start", .integerOr(WindowStart.words),
            "a step index in 0...999, " + WindowStart.words.joined(separator: ", "),
            "steps",
            "First stochastic step: always this one, drawn for every group from the first half of the steps, or drawn "
                + "for every group from the steps in the noisier half of the noise range.", "method 1.4, 1.16"
        ) { group in
            guard case .fixed(let index) = group.window.start, !(0...999).contains(index) else { return nil }
            return "must be a step index in 0...999, not \(index)"
        },
        .integer(
            "groupSize", \.groupSize, 2...4096, unit: "images", "Images of one prompt that are compared.",
            source: "method 1.2"),
        .integer(
            "groupsPerEpoch", \.groupsPerEpoch, 1...1_000_000, unit: "groups", "Groups that make one epoch.",
            source: "method 1.2"),
        .boolean(
            "overlap", \.overlap,
            "Whether an epoch is sampled while the one before it trains: the policy it samples with is then one update old, the "
                + "discriminator that scores it is not. Needs policy.clipRange of at least 1e-3.", source: "own"),
        .choice(
            "sharedInitialNoise", \.sharedInitialNoise,
            "`none`: every image starts from its own noise; `branch`: one start, images part at the window.",
            source: "method 1.4"),
        .choice(
            "latentPrecision", \.latentPrecision, "Format of latents between steps and in storage.",
            source: "method 4.1"),
    ]

    /// Combinations that make no sense.
    func combinationViolations() -> [SettingViolation] {
        var violations: [SettingViolation] = []
        if sde == .cps, noiseLevel > 1 {
            violations.append(.init(path: "noiseLevel", message: "must be at most 1 for sde cps, not \(noiseLevel)"))
        }
        if window.size > 0, steps > 0, window.startCandidates(steps: steps).isEmpty {
            violations.append(
                .init(
                    path: "window",
                    message: "\(window.size) steps from \(window.start) do not fit into \(steps) steps"))
        }
        // The last step ends at sigma 0: CPS adds no noise there, so its log-probability means nothing.
        if window.size > 0, window.startCandidates(steps: steps).contains(where: { $0 + window.size == steps }),
            sde == .cps
        {
            violations.append(
                .init(path: "window", message: "must not reach the last of \(steps) steps: cps adds no noise there"))
        }
        return violations
    }
}

/// The stochastic step of a rollout (method.md 1.5).
public enum StochasticStep: String, Codable, Sendable, CaseIterable {
    /// Coefficient-preserving sampling; log-probability is the plain negative mean square.
    case cps
    /// Flow-GRPO's stochastic differential equation with the full Gaussian log-density.
    case flowSDE = "flow-sde"
}

/// Whether the images of a group share their start.
public enum SharedNoise: String, Codable, Sendable, CaseIterable {
    /// Every image starts from noise of its own.
    case none
    /// All images share start and deterministic prefix, and part at the window.
    case branch
}

/// The steps of a rollout that are stochastic, stored and trained.
public struct WindowSettings: Codable, Sendable, Equatable {
    /// Number of consecutive steps.
    public var size = 2
    /// How the first of them is chosen.
    public var start = WindowStart.drawn

    public init(size: Int = 2, start: WindowStart = .drawn) {
        self.size = size
        self.start = start
    }

    /// The first steps that may be drawn, equally likely, for a rollout of `steps` steps.
    ///
    /// - `fixed(i)`: i alone.
    /// - `drawn`: 0...steps/2 as the released code intends, limited to windows that end before the last step.
    /// - `noiseRange`: the windows whose steps all lie in the noisier half of the step sequence.
    /// - Returns: empty if the window does not fit.
    public func startCandidates(steps: Int) -> [Int] {
        switch start {
        case .fixed(let index):
            return index >= 0 && index + size <= steps ? [index] : []
        case .drawn:
            let last = min(steps / 2, steps - size - 1)
            return last >= 0 ? Array(0...last) : []
        case .noiseRange:
            let last = (steps + 1) / 2 - size
            return last >= 0 ? Array(0...last) : []
        }
    }
}

/// How a group's first stochastic step is chosen; in YAML a step index, `drawn` or `noise-range`.
public enum WindowStart: Sendable, Equatable, Codable, CustomStringConvertible {
    /// Always this step.
    case fixed(Int)
    /// Drawn for every group from the first half of the steps.
    case drawn
    /// Drawn for every group so that the whole window lies in the noisier half (the paper's 50-100% range).
    case noiseRange

    static let words = ["drawn", "noise-range"]

    public var description: String {
        switch self {
        case .fixed(let index): String(index)
        case .drawn: "drawn"
        case .noiseRange: "noise-range"
        }
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let index = try? container.decode(Int.self) {
            self = .fixed(index)
            return
        }
        switch try container.decode(String.self) {
        case "drawn": self = .drawn
        case "noise-range": self = .noiseRange
        case let other:
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected a step index, drawn or noise-range, found \(other)")
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if case .fixed(let index) = self {
            try container.encode(index)
        } else {
            try container.encode(description)
        }
    }
}
