import Configuration
import Foundation
import LibC
import Raster
import SafeTensors
import TestSupport
import Testing
import TinyRun

/// A folder with a data set and settings in which a test runs the program; nothing in it outlives the test.
final class Workspace: Sendable {
    /// The folder; every process that a test starts works there.
    let path: String

    static let settings = TinyRun.settings
    static let trainingPrompts = TinyRun.trainingPrompts
    static let evaluationPrompts = TinyRun.evaluationPrompts

    init() throws {
        // The real path: a process's working directory is compared with it.
        let folder = FileManager.default.temporaryDirectory.resolvingSymlinksInPath().path
        path = "\(folder)/cmd-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try write("settings.yaml", Self.settings)
        try TinyRun.writeData(to: path)
    }

    /// `pickscore`: the fixture's CLIPModel with its image directions turned round. It prefers what the policy makes from the
    /// workspace's prompts; the fixture itself prefers the references.
    func writeContraryPickScore() throws {
        let folder = "\(path)/pickscore"
        try FileManager.default.copyItem(atPath: Repository.fixtures + "/clip-dual-a", toPath: folder)
        let file = try SafeTensorsFile(path: folder + "/model.safetensors")
        let tensors = try file.entries.map { entry in
            let sign: Float = entry.name == "visual_projection.weight" ? -1 : 1
            let values = try file.floats(of: entry.name).map { $0 * sign }
            return SafeTensor(
                name: entry.name, dtype: .float32, shape: entry.shape,
                bytes: values.withUnsafeBytes { SharedBytes(copying: $0) })
        }
        try SafeTensorsWriter.write(tensors, metadata: ["format": "pt"], to: folder + "/model.safetensors")
    }

    /// `judge`: the fixture's classifier, for six other captions.
    func writeJudge(_ captions: [String]) throws {
        let folder = path + "/judge"
        try FileManager.default.copyItem(atPath: Repository.fixtures + "/judge-a", toPath: folder)
        try JSONEncoder().encode(captions).write(to: URL(fileURLWithPath: folder + "/classes.json"))
    }

    func write(_ name: String, _ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(path)/\(name)") }

    // MARK: Processes

    /// Starts the program.
    func start(_ arguments: String...) throws -> RunningProcess {
        try RunningProcess(arguments, folder: path, name: "process-\(UUID().uuidString.prefix(8))")
    }

    /// Runs the program to its end.
    func run(_ arguments: String...) async throws -> Finished {
        try await RunningProcess(arguments, folder: path, name: "process-\(UUID().uuidString.prefix(8))").finish()
    }

    /// Everything that runs here.
    var processes: [(processID: Int32, arguments: [String])] { ProcessTable.processes(in: path) }

    /// The process of a role: `learner`, `reward-server` or `worker-N`.
    func processID(of role: String) -> Int32? {
        processes.first { _, arguments in
            arguments.count > 1 && (arguments[1] == role || arguments.last == role && arguments[1] == "rollout-worker")
        }?.processID
    }

    /// Kills everything that runs here and removes the folder.
    func close() {
        while true {
            let left = processes
            if left.isEmpty { break }
            for process in left { kill(process.processID, SIGKILL) }
            usleep(10_000)
        }
        try? FileManager.default.removeItem(atPath: path)
    }

    // MARK: Runs

    /// The files of a run below this folder.
    func files(_ run: String) -> RunFiles { RunFiles(path: "\(path)/\(run)") }

    /// Every log of a run, for the message of a failing test.
    func logs() -> String {
        let names = (FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []).filter {
            $0.hasSuffix(".log") || $0.hasSuffix(".err")
        }
        return names.sorted().map { name in
            "== \(name)\n"
                + String(decoding: FileManager.default.contents(atPath: "\(path)/\(name)") ?? Data(), as: UTF8.self)
        }.joined()
    }
}

/// Gives a test a workspace and closes it, however the test ends. A failure comes with the logs.
func withWorkspace(_ body: (Workspace) async throws -> Void) async throws {
    let workspace = try Workspace()
    defer { workspace.close() }
    do {
        try await body(workspace)
    } catch {
        Issue.record("\(error)\n\(workspace.logs())")
    }
}
