public import AdvGRPO
public import TensorCore

/// The whole settings file as one validated value.
///
/// A value made by `load` is complete and in range. `resolved()` writes it back as YAML with every key, and `digest`
/// is the SHA-256 of exactly that text.
public struct Settings: Codable, Sendable, Equatable {
    /// Seed of all noise and all draws of the run.
    public var seed = 42
    /// Folder of the diffusers pipeline that is fine-tuned.
    public var model = "Models/emoji-sd3-tiny"
    /// Folder of the vision backbone that the discriminator reads.
    public var rewardBackbone = "Models/emoji-sd3-tiny/dino"
    /// Folders of the frozen models that rewards read.
    public var rewardModels = RewardModelSettings()
    /// Folder of the backbone that the evaluation reads; empty takes `rewardBackbone`.
    public var evaluationBackbone = ""
    /// Folder of a classifier of captions that judges contact sheets; empty for none.
    public var judge = ""
    /// Format of model forward and backward passes.
    public var precision = NumericPrecision.fp32
    /// Library that computes.
    public var engine = EngineKind.default
    /// Prompts and reference images.
    public var data = DataSettings()
    /// The method: fidelity, rollout, reward, discriminator, policy and schedule, written at the file's top level.
    public var method: MethodSettings
    /// Length and outputs of the run.
    public var run = RunSettings()
    /// Processes, threads and sockets.
    public var cluster = ClusterSettings()

    /// The defaults of a preset.
    public init(fidelity: Fidelity = .fixed) {
        method = MethodSettings(fidelity: fidelity)
    }

    private enum CodingKeys: String, CodingKey {
        case seed, model, rewardBackbone, rewardModels, evaluationBackbone, judge, precision, engine, data, run, cluster
    }

    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        seed = try values.decode(Int.self, forKey: .seed)
        model = try values.decode(String.self, forKey: .model)
        rewardBackbone = try values.decode(String.self, forKey: .rewardBackbone)
        rewardModels = try values.decode(RewardModelSettings.self, forKey: .rewardModels)
        evaluationBackbone = try values.decode(String.self, forKey: .evaluationBackbone)
        judge = try values.decode(String.self, forKey: .judge)
        precision = try values.decode(NumericPrecision.self, forKey: .precision)
        engine = try values.decode(EngineKind.self, forKey: .engine)
        data = try values.decode(DataSettings.self, forKey: .data)
        run = try values.decode(RunSettings.self, forKey: .run)
        cluster = try values.decode(ClusterSettings.self, forKey: .cluster)
        method = try MethodSettings(from: decoder)
    }

    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(seed, forKey: .seed)
        try values.encode(model, forKey: .model)
        try values.encode(rewardBackbone, forKey: .rewardBackbone)
        try values.encode(rewardModels, forKey: .rewardModels)
        try values.encode(evaluationBackbone, forKey: .evaluationBackbone)
        try values.encode(judge, forKey: .judge)
        try values.encode(precision, forKey: .precision)
        try values.encode(engine, forKey: .engine)
        try values.encode(data, forKey: .data)
        try values.encode(run, forKey: .run)
        try values.encode(cluster, forKey: .cluster)
        try method.encode(to: encoder)
    }

    /// Documentation and check of every key, in file order.
    public static let keys: [SettingKey<Settings>] =
        [.integer("seed", \.seed, 0...Int(UInt32.max), "Seed of all noise and all draws.", source: "method 1.12")]
        // The method's first keys are `fidelity` and `algorithm`; they stand with the other single keys at the file's top.
        + MethodSettings.keys.prefix(2).map(lifted)
        + [
            .path(
                "model", \.model,
                "Folder of the pipeline that is fine-tuned, as diffusers saves it, or a single-file checkpoint in such a folder.",
                source: "own"),
            .path("rewardBackbone", \.rewardBackbone, "Folder of the vision backbone of the reward.", source: "own"),
            .path(
                "evaluationBackbone", \.evaluationBackbone, mayBeEmpty: true,
                "Folder of the vision backbone of the evaluation; empty: rewardBackbone, and a gain proves less.",
                source: "own"),
            .path(
                "judge", \.judge, mayBeEmpty: true,
                "Folder of a classifier of captions that neither reward nor evaluation reads, Models/emoji-judge for example: the gauge "
                    + "has it judge every contact sheet (`gauge.judgeTop1`, `gauge.judgeSimilarity`); empty: none.",
                source: "own"),
            .choice("precision", \.precision, "Format of model forward and backward passes.", source: "own"),
            .choice(
                "engine", \.engine,
                "Library that computes: "
                    + EngineKind.allCases.map { "\($0.rawValue) (\($0.meaning))" }.joined(separator: " or ") + ".",
                source: "own"),
        ]
        + DataSettings.keys.nested(under: "data", \.data)
        + RewardModelSettings.keys.nested(under: "rewardModels", \.rewardModels)
        + MethodSettings.keys.dropFirst(2).map(lifted)
        + RunSettings.keys.nested(under: "run", \.run)
        + ClusterSettings.keys.nested(under: "cluster", \.cluster)

    /// A method key at the file's top level.
    private static func lifted(_ key: SettingKey<MethodSettings>) -> SettingKey<Settings> {
        SettingKey(key.description) { key.violation($0.method) }
    }

    /// Every violation: own values, then the method's.
    public func validate() -> [SettingViolation] {
        let methodPaths = Set(MethodSettings.keys.map(\.description.path))
        return Self.keys.filter { !methodPaths.contains($0.description.path) }.violations(in: self)
            + method.validate() + missingRewardModels() + startViolations() + judgeViolations()
    }

    /// A judge without contact sheets.
    private func judgeViolations() -> [SettingViolation] {
        guard !judge.isEmpty, run.previewEvery == 0 || run.previewPrompts == 0 else { return [] }
        return [
            SettingViolation(
                path: "judge",
                message: "judges contact sheets, and there are none: run.previewEvery (\(run.previewEvery)) and "
                    + "run.previewPrompts (\(run.previewPrompts)) must be above 0")
        ]
    }

    /// A supervised start that leaves no epoch to what it is the start of.
    private func startViolations() -> [SettingViolation] {
        // Steps of no size are told on their own.
        guard method.supervised.stepsPerEpoch >= 1, let start = method.supervisedStart, run.epochs <= start else {
            return []
        }
        return [
            SettingViolation(
                path: "run.epochs",
                message: "must be above \(start), the epochs of policy.start \(method.policy.start) at "
                    + "supervised.stepsPerEpoch \(method.supervised.stepsPerEpoch), or no epoch of \(method.algorithm.rawValue) "
                    + "follows; not \(run.epochs); use algorithm sft for supervised steps alone")
        ]
    }

    /// Rewards that count and whose model is not named.
    private func missingRewardModels() -> [SettingViolation] {
        method.reward.weights.active.filter { rewardModels[$0]?.isEmpty == true }.map { component in
            SettingViolation(
                path: "rewardModels.\(component.rawValue)",
                message: "must name the model's folder: reward.weights.\(component.rawValue) is above 0")
        }
    }

    /// The folder of the model that a component reads; empty for one that reads none.
    public func modelFolder(of component: RewardComponent) -> String {
        switch component.model {
        case .backbone: rewardBackbone
        case .folder: rewardModels[component] ?? ""
        case nil: ""
        }
    }

    /// The backbone that the evaluation reads.
    public var resolvedEvaluationBackbone: String {
        evaluationBackbone.isEmpty ? rewardBackbone : evaluationBackbone
    }
}
