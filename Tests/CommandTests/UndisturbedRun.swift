import Foundation
import Testing

/// An undisturbed run that disturbed ones are compared with; made once.
actor UndisturbedRun {
    /// With the workspace's settings.
    static let shared = UndisturbedRun([])
    /// With `rollout.overlap`.
    static let overlapping = UndisturbedRun(["rollout.overlap=true", "policy.clipRange=0.001"])

    /// PickScore as the discriminator, with the schedule that compares.
    static let tunedPickScore = UndisturbedRun([
        "reward.weights.texture=0", "reward.weights.pickscore_adversarial=1",
        "rewardModels.pickscore_adversarial=pickscore", "schedule.kind=trigger",
        "discriminator.tunedLearningRate=0.001",
    ])

    /// How it is told its settings on the command line.
    let arguments: [String]
    private var task: Task<Result, any Error>?

    private init(_ changes: [String]) { arguments = changes.flatMap { ["--set", $0] } }

    /// What it left.
    struct Result: Sendable {
        /// Files of the last snapshot, with their digests.
        var digests: [String: String]
        var metrics: [[String: Double]]
    }

    var result: Result {
        get async throws {
            if let task { return try await task.value }
            let made = Task { () throws -> Result in
                let workspace = try Workspace()
                defer { workspace.close() }
                try workspace.writeContraryPickScore()
                let finished = try await RunningProcess(
                    ["train", "settings.yaml", "--run-dir", "run"] + arguments, folder: workspace.path, name: "train"
                ).finish()
                guard finished.exit == .status(0) else {
                    throw TestFailure("undisturbed run: \(finished.errors)\(workspace.logs())")
                }
                let run = workspace.files("run")
                return Result(digests: try run.digests(step: 5), metrics: run.reproducibleMetrics)
            }
            task = made
            return try await made.value
        }
    }
}

/// Expects a run to have ended well, without a process left, and as the undisturbed one did: trained files, metrics, every
/// group trained once.
func expectSameBits(
    _ run: RunFiles, of finished: Finished, _ workspace: Workspace, as undisturbed: UndisturbedRun = .shared,
    _ comment: Comment? = nil
) async throws {
    #expect(finished.exit == .status(0), "\(finished.errors)")
    #expect(workspace.processes.isEmpty, "processes are left")
    try await expectSameBits(run, as: undisturbed, comment)
}

/// Expects what a run left to be what the undisturbed one left.
func expectSameBits(
    _ run: RunFiles, as undisturbed: UndisturbedRun = .shared, _ comment: Comment? = nil
) async throws {
    let expected = try await undisturbed.result
    let digests = try run.digests(step: 5)
    for name in [
        "policy.safetensors", "policy-moment1.safetensors", "policy-moment2.safetensors", "policy-average.safetensors",
        "discriminator.safetensors", "adapter/adapter_model.safetensors",
    ] {
        #expect(digests[name] != nil, "\(name)")
    }
    #expect(digests == expected.digests, comment)
    #expect(run.reproducibleMetrics == expected.metrics, comment)
    let ledger = try run.ledger(step: 5)
    #expect(ledger["trained"] == 10, "\(ledger)")
    #expect(ledger["quarantined"] == 0, "\(ledger)")
}

/// Waits until a run has done some epochs.
func epochs(_ count: Int, of run: RunFiles, _ process: RunningProcess) async throws {
    try await eventually("\(count) epochs") {
        if let exit = process.exit { throw TestFailure("the run ended early: \(exit)\n\(process.errors)") }
        return run.metrics.count >= count ? true : nil
    }
}

/// A run of `advgrpo train` in a workspace of its own, handed over once it has had some epochs.
///
/// - Parameters:
///   - settings: what `--set` says.
///   - like: the undisturbed run whose settings it has, too.
///   - body: has the run's files and its process.
func withTraining(
    _ settings: String..., epochs count: Int, like: UndisturbedRun = .shared,
    _ body: (Workspace, RunFiles, RunningProcess) async throws -> Void
) async throws {
    try await withWorkspace { workspace in
        try workspace.writeContraryPickScore()
        let run = workspace.files("run")
        let train = try RunningProcess(
            ["train", "settings.yaml", "--run-dir", "run"] + like.arguments + settings.flatMap { ["--set", $0] },
            folder: workspace.path, name: "train")
        try await epochs(count, of: run, train)
        try await body(workspace, run, train)
    }
}
