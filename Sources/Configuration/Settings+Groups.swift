public import AdvGRPO

/// Prompts and reference images.
public struct DataSettings: Codable, Sendable, Equatable {
    /// JSON file `{prompt: [image files]}`; the paths in it are relative to its folder.
    public var references = "data/emoji/prompt2img.json"
    /// Prompts, one a line or a row of `.jsonl`; those that are not evaluation prompts are trained on.
    public var prompts = "data/emoji/train.txt"
    /// Prompts, one a line or a row of `.jsonl`, that training never sees, nor their references.
    public var evaluationPrompts = "data/emoji/validation.txt"
    /// What is done about prompts that have no references.
    public var missingReferences = MissingReferencesAnswer.refuse
    /// Folder that keeps embeddings of prompts between processes and runs; empty keeps none.
    public var embeddings = ""

    public init() {}

    /// Documentation and check of every key.
    public static let keys: [SettingKey<DataSettings>] = [
        .path(
            "references", \.references,
            "JSON file {prompt: [image files]}, image paths relative to the file's folder.", source: "method 1.12"),
        .path(
            "prompts", \.prompts,
            "Training prompts, one a line or a row of .jsonl; evaluation prompts among them are left out.",
            source: "own"),
        .path(
            "evaluationPrompts", \.evaluationPrompts,
            "Prompts, one a line or a row of .jsonl; neither they nor their references are used in training.",
            source: "own"),
        .choice(
            "missingReferences", \.missingReferences,
            "Prompts that the references do not have. `refuse`: the run does not begin, and they are named; `leaveOut`: they are neither "
                + "trained on nor evaluated, and are named.", source: "own"),
        .path(
            "embeddings", \.embeddings, mayBeEmpty: true,
            "Folder that keeps embeddings of prompts between processes and runs, so that text encoders are loaded only for "
                + "prompts that are not there; empty: none are kept.", source: "own"),
    ]
}

/// What is done about prompts that have no references.
public enum MissingReferencesAnswer: String, Codable, Sendable, CaseIterable {
    /// The run does not begin.
    case refuse
    /// The run goes without them.
    case leaveOut
}

/// Folders of the models that rewards have of their own, as transformers saves them, by the rewards' names; empty where not given.
public struct RewardModelSettings: Codable, Sendable, Equatable {
    private var folders = Dictionary(uniqueKeysWithValues: owners.map { ($0.component, "") })

    public init() {}

    /// - Throws: `DecodingError` for a name that no component with a model of its own has.
    public init(from decoder: any Decoder) throws {
        for (component, folder) in try [RewardComponent: String](from: decoder) {
            guard folders[component] != nil else {
                throw DecodingError.dataCorrupted(
                    .init(
                        codingPath: decoder.codingPath,
                        debugDescription: "\(component.rawValue) has no model of its own"))
            }
            folders[component] = folder
        }
    }

    public func encode(to encoder: any Encoder) throws { try folders.encode(to: encoder) }

    /// The folder of a component's model; nil for components without one of their own.
    public subscript(component: RewardComponent) -> String? { folders[component] }

    /// Components with a model of their own, what its folder holds and where that is described.
    private static let owners = RewardComponent.allCases.compactMap { component in
        if case .folder(let content, let source) = component.model {
            (component: component, content, source)
        } else {
            nil
        }
    }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<RewardModelSettings>] = owners.map { component, content, source in
        .make(
            component.rawValue, .path, "a path, may be empty", "",
            "Folder of \(content); needed where its weight is above 0.", source
        ) { _ in nil }
    }
}

/// Length and outputs of a run.
public struct RunSettings: Codable, Sendable, Equatable {
    /// Epochs after which the run ends.
    public var epochs = 100
    /// Minutes of training after which the run ends; 0 sets no limit.
    public var minutes = 0.0
    /// Epochs between two snapshots.
    public var snapshotEvery = 10
    /// Snapshots that are kept; older ones are deleted.
    public var snapshotsKept = 3
    /// Epochs between two contact sheets; 0 makes only the first and the last.
    public var previewEvery = 10
    /// Evaluation prompts shown on contact sheets.
    public var previewPrompts = 8
    /// The evaluation before and after training.
    public var evaluation = EvaluationSettings()

    public init() {}

    /// Documentation and check of every key.
    public static let keys: [SettingKey<RunSettings>] =
        [
            .integer(
                "epochs", \.epochs, 1...100_000_000, unit: "epochs", "Epochs after which the run ends.", source: "own"),
            .number(
                "minutes", \.minutes, .atLeast(0), unit: "minutes",
                "Time of training after which the run ends, evaluations not counted; 0: no limit.", source: "own"),
            .integer(
                "snapshotEvery", \.snapshotEvery, 1...100_000_000, unit: "epochs", "Epochs between two snapshots.",
                source: "method 1.12: 60"),
            .integer(
                "snapshotsKept", \.snapshotsKept, 2...1_000_000, unit: "snapshots",
                "Snapshots kept; older ones are deleted.", source: "own"),
            .integer(
                "previewEvery", \.previewEvery, 0...100_000_000, unit: "epochs",
                "Epochs between two contact sheets; 0: only before and after.", source: "own"),
            .integer(
                "previewPrompts", \.previewPrompts, 0...1000, unit: "prompts",
                "Evaluation prompts on a contact sheet, taken from the file's start.", source: "own"),
        ] + EvaluationSettings.keys.nested(under: "evaluation", \.evaluation)
}

/// The evaluation before and after training: fixed prompts and seeds, averaged weights, no noise inside the steps.
public struct EvaluationSettings: Codable, Sendable, Equatable {
    /// Evaluation prompts used, from the file's start; 0 skips the evaluation.
    public var prompts = 64
    /// Images of every prompt, each from a seed of its own.
    public var seeds = 2
    /// Denoising steps of an image.
    public var steps = 20

    public init() {}

    /// Images of one evaluation.
    public var imageCount: Int { prompts * seeds }

    /// Documentation and check of every key.
    public static let keys: [SettingKey<EvaluationSettings>] = [
        .integer(
            "prompts", \.prompts, 0...1_000_000, unit: "prompts",
            "Evaluation prompts used, from the file's start; 0: no evaluation.", source: "own"),
        .integer("seeds", \.seeds, 1...10_000, unit: "images", "Images of every prompt.", source: "own"),
        .integer(
            "steps", \.steps, 1...1000, unit: "steps", "Denoising steps of an evaluation image.",
            source: "method 1.2: 40"),
    ]
}

/// Processes, threads and sockets.
public struct ClusterSettings: Codable, Sendable, Equatable {
    /// Rollout workers that `advgrpo train` starts.
    public var workers = 1
    /// Threads of every worker.
    public var threadsPerWorker = 1
    /// Threads of the learner.
    public var learnerThreads = 1
    /// Threads of the reward server.
    public var rewardServerThreads = 1
    /// Time after which a group that was not delivered is given to another worker.
    public var leaseSeconds = 60.0
    /// Where the servers listen.
    public var endpoints = EndpointSettings()
    /// Folder with the CURVE keys; empty leaves connections unencrypted.
    public var keys = ""
    /// Whether a server may listen beyond this machine without keys.
    public var insecure = false

    public init() {}

    /// Documentation and check of every key.
    public static let keys: [SettingKey<ClusterSettings>] = [
        .integer(
            "workers", \.workers, 0...10_000, unit: "processes", "Rollout workers that `advgrpo train` starts.",
            source: "own"),
        .integer(
            "threadsPerWorker", \.threadsPerWorker, 1...1024, unit: "threads", "Threads of every worker.",
            source: "own"),
        .integer(
            "learnerThreads", \.learnerThreads, 1...1024, unit: "threads", "Threads of the learner.", source: "own"),
        .integer(
            "rewardServerThreads", \.rewardServerThreads, 1...1024, unit: "threads", "Threads of the reward server.",
            source: "own"),
        .number(
            "leaseSeconds", \.leaseSeconds, .between(1, 86_400), unit: "seconds",
            "Time after which a group that was not delivered goes to another worker.", source: "own"),
        .endpoint(
            "endpoints.learner", \.endpoints.learner,
            "Where the learner listens; empty: a local socket in the run directory."),
        .endpoint(
            "endpoints.rewardServer", \.endpoints.rewardServer,
            "Where the reward server listens; empty: a local socket in the run directory."),
        .path(
            "keys", \.keys, mayBeEmpty: true, "Folder of the keys that `advgrpo keygen` wrote; empty: no encryption.",
            source: "own"),
        .boolean(
            "insecure", \.insecure, "Whether a server may listen beyond this machine without keys.", source: "own"),
    ]
}

/// Where the servers listen.
public struct EndpointSettings: Codable, Sendable, Equatable {
    /// The learner's endpoint, for example `tcp://127.0.0.1:5601`.
    public var learner = ""
    /// The reward server's endpoint.
    public var rewardServer = ""

    public init() {}
}

extension SettingKey {
    /// A ZeroMQ endpoint, or nothing.
    static func endpoint(
        _ name: String, _ path: any KeyPath<Group, String> & Sendable, _ meaning: String
    ) -> SettingKey {
        make(name, .text, "tcp://HOST:PORT, ipc://PATH or empty", "", meaning, "own") { group in
            let value = group[keyPath: path]
            let known = value.isEmpty || ["tcp://", "ipc://"].contains { value.hasPrefix($0) && value != $0 }
            return known ? nil : "must be tcp://HOST:PORT, ipc://PATH or empty, not \(value)"
        }
    }
}
