internal import AdvGRPO
public import Configuration
internal import Foundation
internal import Platform
public import Processes

/// The folder of one run, held by one process.
///
/// ```
/// settings.yaml   complete, as the run uses them      metrics.jsonl   one object a step
/// tensorboard/    event files                         images/         contact sheets over time
/// checkpoints/    step-NNNNNN/ and latest             logs/           one file a role
/// report.html     self-contained                      run.lock        held while the run is going on
/// ```
public final class RunDirectory: Sendable {
    /// The folder.
    public let path: String
    /// The settings of the run.
    public let settings: Settings
    private let lock: FileLock

    private init(path: String, settings: Settings, lock: FileLock) {
        self.path = path
        self.settings = settings
        self.lock = lock
    }

    /// Starts a run in a new or empty folder.
    ///
    /// - Throws: `runExists` if the folder holds a run, `runInUse` if a process works there, or what the disk says.
    public static func create(path: String, settings: Settings) throws(RuntimeError) -> RunDirectory {
        let directory = try open(path: path, settings: settings)
        try checkVacant(path)
        try FileStore.replace(path + "/settings.yaml", with: Array(settings.resolved().utf8))
        return directory
    }

    /// Whether a run was begun in a folder.
    public static func holdsRun(_ path: String) -> Bool { FileStore.exists(path + "/settings.yaml") }

    /// - Throws: `runExists` if the folder holds a run.
    public static func checkVacant(_ path: String) throws(RuntimeError) {
        guard !holdsRun(path) else {
            throw RuntimeError(
                code: .runExists, subject: path, message: "already holds a run",
                remedy: "continue it with --resume or choose another --run-dir")
        }
    }

    /// Continues the run of a folder.
    ///
    /// Lengths, threads, endpoints and paths may differ from before; seed, precision and method may not, because the
    /// continued run would not be the run that was begun.
    ///
    /// - Throws: `noRun`, `runInUse`, `settingsChanged` with the keys that differ, or what the disk says.
    public static func resume(path: String, settings: Settings) throws(RuntimeError) -> RunDirectory {
        let before = try storedSettings(in: path)
        let directory = try open(path: path, settings: settings)
        if before.methodDigest != settings.methodDigest {
            let keys = before.differingKeys(from: settings).joined(separator: ", ")
            throw RuntimeError(
                code: .settingsChanged, subject: path, message: "the run was begun with another \(keys)",
                remedy: "resume with the old values or start a new run")
        }
        try FileStore.replace(path + "/settings.yaml", with: Array(settings.resolved().utf8))
        return directory
    }

    /// The settings that a run was begun or last resumed with.
    ///
    /// - Throws: `noRun`, or `unreadable` if the file was damaged.
    public static func storedSettings(in path: String) throws(RuntimeError) -> Settings {
        let file = path + "/settings.yaml"
        guard FileStore.exists(file) else {
            throw RuntimeError(
                code: .noRun, subject: path, message: "holds no run to resume",
                remedy: "check --run-dir or start without --resume")
        }
        do {
            return try Settings.load(path: file)
        } catch {
            throw RuntimeError(code: .unreadable, subject: file, message: error.description)
        }
    }

    /// Removes a run directory without snapshots, whatever else is in it.
    public static func removeUnlessBegun(_ path: String) {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path + "/checkpoints")) ?? []
        if !names.contains(where: { $0.hasPrefix("step-") }) { try? FileManager.default.removeItem(atPath: path) }
    }

    /// Creates the folders that exist in every run and takes the lock.
    private static func open(path: String, settings: Settings) throws(RuntimeError) -> RunDirectory {
        try createFolders(path: path)
        let lock = try FileLock.held(path + "/run.lock", subject: path)
        return RunDirectory(path: path, settings: settings, lock: lock)
    }

    /// Creates the folders of a run without claiming it: what a supervisor does before it starts the roles.
    public static func createFolders(path: String) throws(RuntimeError) {
        for name in ["", "/tensorboard", "/images", "/checkpoints", "/logs", "/sockets"] {
            try FileStore.createFolder(path + name)
        }
    }

    /// `metrics.jsonl`.
    public var metricsFile: String { path + "/metrics.jsonl" }
    /// `tensorboard`.
    public var tensorBoardFolder: String { path + "/tensorboard" }
    /// `images`.
    public var imagesFolder: String { path + "/images" }
    /// `checkpoints`.
    public var checkpointsFolder: String { path + "/checkpoints" }
    /// `logs`.
    public var logsFolder: String { path + "/logs" }
    /// `report.html`.
    public var reportFile: String { path + "/report.html" }

    /// Replaces a file of the run as a whole, for example a contact sheet or the report.
    ///
    /// - Parameters:
    ///   - name: path below the run directory.
    ///   - bytes: the file's contents.
    public func write(_ name: String, _ bytes: [UInt8]) throws(RuntimeError) {
        try FileStore.replace(path + "/" + name, with: bytes)
    }

    /// The local socket of a role, an `ipc://` endpoint below the run directory.
    ///
    /// - Parameters:
    ///   - role: the listening role's name.
    ///   - path: the run directory.
    public static func localEndpoint(of role: String, in path: String) -> String {
        "ipc://\(URL(fileURLWithPath: path).standardizedFileURL.path)/sockets/\(role)"
    }
}
