import AdvGRPO
import ArgumentParser
import Configuration
import Foundation
import Learner
import Logging
import Processes
import RunFiles

/// `advgrpo train`: the whole run on this machine, three kinds of processes under one supervisor.
struct Train: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run everything on this machine: reward server, learner and rollout workers as child processes.")

    @Argument(help: "Settings file (YAML); the run directory's own with --resume.", transform: expandingHome)
    var settings: String?

    @Option(help: "Folder of the run; runs/DATE-TIME unless given.", transform: expandingHome)
    var runDir: String?

    @Flag(help: "Continue the run in --run-dir from its last snapshot.")
    var resume = false

    @Option(help: "Rollout workers; the settings' number unless given.")
    var workers: Int?

    @Option(
        name: .customLong("set"), parsing: .singleValue, help: "Change one setting: key.path=value. May be repeated.")
    var changes: [String] = []

    func validate() throws {
        if resume, runDir == nil { throw ValidationError("--resume needs the run's --run-dir") }
        if settings == nil, !resume {
            throw ValidationError("give a settings file, for example deploy/settings/emoji.yaml")
        }
        if let workers, workers < 1 { throw ValidationError("--workers must be at least 1") }
    }

    func run() async throws {
        let runDirectory = runDir ?? "runs/" + Self.timestamp()
        let file = settings ?? runDirectory + "/settings.yaml"
        let overrides = changes + (workers.map { ["cluster.workers=\($0)"] } ?? [])
        if resume {
            _ = try RunDirectory.storedSettings(in: runDirectory)
        } else {
            try RunDirectory.checkVacant(runDirectory)
        }
        let settings = try Settings.load(path: file, overrides: overrides)
        try settings.checkPaths(file: file)
        try await onThread("references") { try Preflight.checkReferences(settings, evaluates: true) }
        try await onThread("judge") { try Preflight.checkJudge(settings) }
        try await onThread("prompts") { try Preflight.notePromptCuts(settings) }
        try await onThread("reward processes") { try Preflight.checkRewardProcesses(settings) }
        try await onThread("plan") { try Preflight.checkMemory(settings) }
        try await beginning(runDirectory) {
            try await supervise(settings, file: file, overrides: overrides, runDirectory: runDirectory)
        }
    }

    private func supervise(_ settings: Settings, file: String, overrides: [String], runDirectory: String) async throws {
        try Logs.bootstrap(file: runDirectory + "/logs/train.log")
        let shutdown = ShutdownSignal()
        // A second Ctrl-C ends the children at once; this process stays to see them gone.
        shutdown.listen(endsOnSecond: false)
        let progress = ProgressLine()
        let began = Date()
        let executable = try Self.executable()
        let common = [file] + overrides.flatMap { ["--set", $0] } + ["--run-dir", runDirectory]
        let learner = ChildCommand(
            name: "learner", executable: executable, arguments: ["learner"] + common + (resume ? ["--resume"] : []),
            restartArguments: ["learner"] + common + [resume ? "--resume" : "--again"])
        let rewardServer = ChildCommand(
            name: "reward-server", executable: executable, arguments: ["reward-server"] + common)
        let workers = (0..<settings.cluster.workers).map { index in
            ChildCommand(
                name: "worker-\(index)", executable: executable,
                arguments: ["rollout-worker"] + common + ["--name", "worker-\(index)"])
        }
        let others = settings.method.usesRollouts ? [rewardServer] + workers : []
        let outcome = try await onThread("supervisor") {
            let claim = try RunClaim(logsFolder: runDirectory + "/logs")
            try Preflight.checkEndpoints(settings, runDirectory: runDirectory)
            note("run directory \(runDirectory)")
            if settings.cluster.workers == 0, settings.method.usesRollouts {
                note(
                    "cluster.workers is 0: the run waits for workers; start each with: advgrpo rollout-worker "
                        + "\(runDirectory)/settings.yaml --run-dir \(runDirectory)")
            }
            return try Supervisor(
                [learner] + others, claim: claim, shutdown: shutdown, logger: Logger(label: "train"),
                onProgress: { progress.update($0) }
            ).run()
        }
        progress.finish()
        switch outcome {
        case .completed where Self.isWritten(runDirectory + "/report.html", since: began):
            print(try RunSummary(runDirectory: runDirectory).table)
            print("report: \(runDirectory)/report.html")
        case .completed, .interrupted:
            guard RunDirectory.holdsRun(runDirectory) else { return print("stopped before the run began") }
            print("stopped after a snapshot; continue with: advgrpo train --resume --run-dir \(runDirectory)")
        }
    }

    /// Whether this run wrote its report: a learner that was stopped behind the supervisor's back ended in good order, too.
    private static func isWritten(_ path: String, since date: Date) -> Bool {
        guard let written = try? FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date else {
            return false
        }
        return written >= date
    }

    /// This very program.
    private static func executable() throws -> String {
        guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
            throw CommandFailure("the path of this program is unknown; start it by its full path.")
        }
        return path
    }

    private static func timestamp() -> String {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "yyyyMMdd-HHmmss"
        return formatter.string(from: Date())
    }
}
