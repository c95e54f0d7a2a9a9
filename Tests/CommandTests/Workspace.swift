import Configuration
import Foundation
import LibC
import Raster
import SafeTensors
import TestSupport
import Testing

/// A folder with a data set and settings in which a test runs the program; nothing in it outlives the test.
final class Workspace: Sendable {
    /// The folder; every process that a test starts works there.
    let path: String

    /// Settings of a run of seconds: like deploy/settings/tiny.yaml, with a reward that needs no backbone.
    static let settings = """
        seed: 7
        fidelity: fixed
        model: \(Repository.models)/emoji-sd3-tiny
        rewardBackbone: \(Repository.models)/emoji-sd3-tiny/dino
        data: {references: data/prompt2img.json, prompts: data/train.txt, evaluationPrompts: data/test.txt}
        rollout:
          resolution: 64
          steps: 3
          groupSize: 2
          groupsPerEpoch: 2
          window: {size: 1, start: 0}
        reward:
          weights: {dino_patch: 0, texture: 1}
        discriminator:
          hiddenWidth: 8
          stepsPerTraining: 2
          replayCapacity: 4
          warmUp: {minimumAUC: 0, maximumEpochs: 0}
        policy:
          lora: {rank: 4, alpha: 8}
          ema: {decay: 0.9, every: 1}
        run:
          epochs: 5
          snapshotEvery: 2
          previewEvery: 0
          previewPrompts: 0
          evaluation: {prompts: 0, seeds: 1, steps: 2}
        cluster:
          workers: 2
          leaseSeconds: 20

        """
    static let trainingPrompts = ["a red circle", "a green square", "two blue dots", "a yellow star"]
    static let evaluationPrompts = ["a grey moon", "a white cloud"]

    init() throws {
        // The real path: a process's working directory is compared with it.
        let folder = FileManager.default.temporaryDirectory.resolvingSymlinksInPath().path
        path = "\(folder)/cmd-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: path + "/data/images", withIntermediateDirectories: true)
        try write("settings.yaml", Self.settings)
        try writeData()
    }

    /// Six prompts with two pictures each: discs of the prompt's colour on a ground of noise.
    private func writeData() throws {
        var references: [String: [String]] = [:]
        for (index, prompt) in (Self.trainingPrompts + Self.evaluationPrompts).enumerated() {
            for copy in 0..<2 {
                var state = UInt64(index * 2 + copy + 1)
                let pixels = (0..<64 * 64).flatMap { position -> [UInt8] in
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    let (x, y) = (position % 64 - 32, position / 64 - 32)
                    if x * x + y * y < 400 { return [UInt8(40 * index), UInt8(255 - 40 * index), UInt8(100 * copy)] }
                    return [UInt8(truncatingIfNeeded: state >> 40) | 128, 200, 220]
                }
                let name = "\(index)-\(copy).png"
                try RGBImage(width: 64, height: 64, pixels: pixels).writePNG(to: "\(path)/data/images/\(name)")
                references[prompt, default: []].append("images/\(name)")
            }
        }
        try JSONEncoder().encode(references).write(to: URL(fileURLWithPath: path + "/data/prompt2img.json"))
        try write("data/train.txt", Self.trainingPrompts.joined(separator: "\n") + "\n")
        try write("data/test.txt", Self.evaluationPrompts.joined(separator: "\n") + "\n")
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
