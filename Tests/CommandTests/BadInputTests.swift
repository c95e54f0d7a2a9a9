import Foundation
import SafeTensors
import TestSupport
import Testing

extension ProcessTests {
    /// What a user sees who made a mistake: one sentence that names it and says what to do, status 1 (64 for wrong usage), and
    /// nothing left behind.
    @Suite("Bad input", .timeLimit(.minutes(2)))
    struct BadInputTests {
        /// Checks a failed command: its status, its words, and what it left.
        private func expect(
            _ finished: Finished, _ words: [String], status: Int32 = 1, _ workspace: Workspace,
            leaving left: [String] = []
        ) {
            #expect(finished.exit == .status(status), "\(finished.errors)")
            for word in words { #expect(finished.errors.contains(word), "\(word) is not in: \(finished.errors)") }
            let sentences = finished.errors.split(separator: "\n").filter { $0.hasPrefix("advgrpo: ") }
            if status == 1 { #expect(sentences.count == 1, "\(finished.errors)") }
            for word in ["Fatal error", "Stack dump", "Error Domain", "NSCocoaErrorDomain", "Error: "] where status == 1
            {
                #expect(!finished.errors.contains(word), "\(finished.errors)")
            }
            #expect(workspace.processes.isEmpty, "processes are left")
            #expect(
                left == (try? FileManager.default.contentsOfDirectory(atPath: workspace.path + "/run").sorted()) ?? [],
                "files are left")
        }

        private func train(_ workspace: Workspace, _ changes: String...) async throws -> Finished {
            try await RunningProcess(
                ["train", "settings.yaml", "--run-dir", "run"] + changes.flatMap { ["--set", $0] },
                folder: workspace.path,
                name: "train"
            ).finish()
        }

        @Test("misspelt settings are listed all at once, each with the nearest key")
        func misspelt() async throws {
            try await withWorkspace { workspace in
                try workspace.write(
                    "settings.yaml",
                    Workspace.settings.replacing("groupSize:", with: "groupsize:").replacing(
                        "  epochs: 5", with: "  epoch: 5"))
                let finished = try await train(workspace, "rollout.stepz=3", "seed=many")
                expect(
                    finished, ["settings.yaml", "rollout.groupSize", "run.epochs", "rollout.steps", "seed"], workspace)
            }
        }

        @Test("a settings file or a folder that is not there is named")
        func missing() async throws {
            try await withWorkspace { workspace in
                expect(
                    try await workspace.run("train", "nowhere.yaml", "--run-dir", "run"),
                    ["nowhere.yaml", "does not exist"], workspace)
                expect(
                    try await train(workspace, "model=nowhere", "data.prompts=none.txt"),
                    ["model nowhere", "data.prompts none.txt", "does not exist"], workspace)
            }
        }

        @Test("a truncated safetensors file is named")
        func truncated() async throws {
            try await withWorkspace { workspace in
                try FileManager.default.copyItem(
                    atPath: Repository.models + "/emoji-sd3-tiny", toPath: workspace.path + "/model")
                let file = workspace.path + "/model/transformer/diffusion_pytorch_model.safetensors"
                let handle = try #require(FileHandle(forWritingAtPath: file))
                try handle.truncate(atOffset: 100_000)
                try handle.close()
                expect(
                    try await train(workspace, "model=model"),
                    ["model/transformer/diffusion_pytorch_model.safetensors"], workspace)
            }
        }

        @Test("a weight that is NaN is named before anything starts, in whichever model it is")
        func notFinite() async throws {
            try await withWorkspace { workspace in
                for part in ["transformer", "vae", "text_encoder"] {
                    let model = workspace.path + "/" + part
                    try FileManager.default.copyItem(atPath: Repository.models + "/emoji-sd3-tiny", toPath: model)
                    let folder = try SafeTensorsFolder(path: model + "/" + part)
                    let file = try #require(folder.files.first)
                    let entry = try #require(file.entries.first)
                    // The first element of the file's data, in either type of the model's files.
                    let handle = try #require(FileHandle(forUpdatingAtPath: file.path))
                    let length = try #require(try handle.read(upToCount: 8)).enumerated().reduce(0) {
                        $0 | Int($1.element) << (8 * $1.offset)
                    }
                    try handle.seek(toOffset: UInt64(8 + length))
                    try handle.write(contentsOf: entry.dtype == .float32 ? [0, 0, 0xC0, 0x7F] : [0xC0, 0x7F])
                    try handle.close()
                    expect(
                        try await train(workspace, "model=\(model)"), [file.path, "is not finite (NaN at element 0)"],
                        workspace)
                }
            }
        }

        @Test("a single file in a pipeline's place is refused with the command that converts it")
        func singleFile() async throws {
            try await withWorkspace { workspace in
                let file = workspace.path + "/sd3.safetensors"
                try SafeTensorsWriter.write(
                    [
                        SafeTensor(
                            name: "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", shape: [1],
                            floats: [1])
                    ], to: file)
                let words = ["single-file checkpoint of Stable Diffusion 3", "from_single_file", file]
                expect(try await train(workspace, "model=\(file)"), words, workspace)
                expect(
                    try await workspace.run("sample", "--model", file, "--prompt", "x", "--out", "out"), words,
                    workspace)
                expect(
                    try await workspace.run(
                        "evaluate", "--model", file, "--references", "data/prompt2img.json", "--backbone",
                        Repository.models + "/emoji-sd3-tiny/dino"), words, workspace)
            }
        }

        @Test("corrupt pictures and prompts without references are named")
        func references() async throws {
            try await withWorkspace { workspace in
                try workspace.write("data/images/1-0.png", "no picture")
                try workspace.write(
                    "data/train.txt", Workspace.trainingPrompts.joined(separator: "\n") + "\na pink cube\n")
                expect(
                    try await train(workspace),
                    [
                        "data/prompt2img.json", "\"a green square\": data/images/1-0.png",
                        "no references for 1 of 5 prompts: \"a pink cube\"; add", "data.missingReferences: leaveOut",
                    ], workspace)
            }
        }

        @Test("a style without some prompts is trained and measured without them where the settings say so")
        func styleWithoutPrompts() async throws {
            try await withWorkspace { workspace in
                try workspace.write(
                    "data/train.txt", Workspace.trainingPrompts.joined(separator: "\n") + "\na pink cube\n")
                try workspace.write(
                    "data/test.txt", "a blue cone\n" + Workspace.evaluationPrompts.joined(separator: "\n") + "\n")
                let changes = ["run.evaluation.prompts=3", "run.previewPrompts=3", "run.epochs=1"]
                func train(_ more: [String]) async throws -> Finished {
                    try await RunningProcess(
                        ["train", "settings.yaml", "--run-dir", "run"] + (changes + more).flatMap { ["--set", $0] },
                        folder: workspace.path, name: "train-\(more.count)"
                    ).finish()
                }
                let words = ["no references for 2 of 8 prompts: \"a pink cube\", \"a blue cone\"; add them"]
                expect(try await train([]), words, workspace)
                let plan = try await workspace.run("plan", "settings.yaml")
                #expect(plan.exit != .status(0) && plan.errors.contains("\"a pink cube\""), "\(plan.errors)")
                let planned = try await workspace.run(
                    "plan", "settings.yaml", "--set", "data.missingReferences=leaveOut")
                #expect(
                    planned.exit == .status(0) && planned.errors.contains("left out: \"a pink cube\""),
                    "\(planned.errors)")

                let run = try await train(["data.missingReferences=leaveOut"])
                #expect(run.exit == .status(0), "\(run.errors)\(workspace.logs())")
                let named = "no references for 2 of 8 prompts, which are left out: \"a pink cube\", \"a blue cone\""
                #expect(run.errors.contains(named), "\(run.errors)")
                let evaluated = try await workspace.run("evaluate", "run", "--json")
                #expect(evaluated.exit == .status(0), "\(evaluated.errors)")
                #expect(
                    evaluated.errors.contains("no references for 1 of 3 prompts, which are left out: \"a blue cone\""))
                #expect(evaluated.output.contains("\"a blue cone\"") && evaluated.output.contains("\"prompts\" : 2"))
                let refused = try await workspace.run("evaluate", "run", "--missing-references", "refuse")
                #expect(refused.exit == .status(1), "\(refused.errors)")
                #expect(refused.errors.contains("no references for 1 of 3 prompts: \"a blue cone\"; add them"))
            }
        }

        @Test("a picture that is damaged beyond its header is named before anything starts")
        func damagedPicture() async throws {
            try await withWorkspace { workspace in
                let path = workspace.path + "/data/images/5-1.png"
                var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
                for index in bytes.count / 2..<bytes.count / 2 + 8 { bytes[index] ^= 0xFF }
                try bytes.write(to: URL(fileURLWithPath: path))
                let words = [
                    "data/prompt2img.json: \"a white cloud\": data/images/5-1.png: not a readable PNG",
                    "export the image again",
                ]
                let finished = try await train(workspace)
                expect(finished, words, workspace)
                #expect(!workspace.exists("run") && !finished.errors.contains("run directory"), "a run began")
                expect(try await workspace.run("reward-server", "settings.yaml", "--run-dir", "run"), words, workspace)
                #expect(!workspace.exists("run"))
            }
        }

        @Test("a resolution that does not fit the model is told with the sizes that do")
        func resolution() async throws {
            try await withWorkspace { workspace in
                expect(
                    try await train(workspace, "rollout.resolution=50"),
                    ["rollout.resolution", "50 x 50", "multiples of 8"], workspace)
            }
        }

        /// A reward server that listens at an endpoint, and the endpoint as its log names it: the system may have chosen the port.
        private func occupy(_ endpoint: String, _ workspace: Workspace) async throws -> (RunningProcess, String) {
            let server = try workspace.start(
                "reward-server", "settings.yaml", "--run-dir", "other", "--bind", endpoint)
            let taken = try await eventually("the server") {
                server.errors.split(separator: "\n").first { $0.contains("ready at ") }?.split(separator: " ").last
                    .map(String.init)
            }
            return (server, taken)
        }

        @Test("an endpoint in use is named", arguments: ["tcp://127.0.0.1:0", "ipc://taken"])
        func endpointInUse(endpoint: String) async throws {
            try await withWorkspace { workspace in
                let (server, taken) = try await occupy(endpoint, workspace)
                let second = try await workspace.run(
                    "reward-server", "settings.yaml", "--run-dir", "second", "--bind", taken)
                #expect(second.exit == .status(1))
                #expect(second.errors.contains("advgrpo: \(taken) is in use"), "\(second.errors)")
                server.signal(SIGTERM)
                #expect(try await server.finish().exit == .status(0))
            }
        }

        @Test(
            "a whole run whose endpoint is in use ends at once and leaves nothing",
            arguments: [("learner", "tcp://127.0.0.1:0"), ("rewardServer", "ipc://taken")])
        func endpointOfRunInUse(role: String, endpoint: String) async throws {
            try await withWorkspace { workspace in
                let (server, taken) = try await occupy(endpoint, workspace)
                let begin = ContinuousClock.now
                let finished = try await train(workspace, "cluster.endpoints.\(role)=\(taken)")
                #expect(ContinuousClock.now - begin < .seconds(isOptimized ? 4 : 20))
                server.signal(SIGTERM)
                #expect(try await server.finish().exit == .status(0))
                expect(finished, ["advgrpo: \(taken) is in use", "stop it, or choose another"], workspace)
                #expect(!workspace.exists("run"), "a run began")
                if endpoint.hasPrefix("ipc") { #expect(!workspace.exists("taken") && !workspace.exists("taken.lock")) }
            }
        }

        @Test("prompts that are all kept for the evaluation leave nothing to train on: told before anything starts")
        func nothingToTrainOn() async throws {
            try await withWorkspace { workspace in
                expect(
                    try await train(workspace, "data.evaluationPrompts=data/train.txt"),
                    ["data/train.txt", "every prompt is also in", "keep the prompts to measure on"], workspace)
            }
        }

        @Test("a font that is not there is named")
        func font() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run("prepare-emoji", "--font", "/nope", "--out", "run")
                expect(finished, ["/nope", "fonts-noto-color-emoji"], workspace)
            }
        }

        @Test("latents of the wrong shape are told with the right one")
        func latents() async throws {
            try await withWorkspace { workspace in
                try SafeTensorsWriter.write(
                    [SafeTensor(name: "latents", shape: [1, 4, 8, 8], floats: [Float](repeating: 0, count: 256))],
                    metadata: [:], to: workspace.path + "/latents.safetensors")
                let finished = try await workspace.run(
                    "sample", "--model", Repository.models + "/emoji-sd3-tiny", "--prompt", "a red circle", "--out",
                    "run",
                    "--latents", "latents.safetensors")
                expect(finished, ["latents.safetensors", "[1, 4, 8, 8]", "[1, 16, 16, 16]"], workspace)
            }
        }

        @Test("--resume without a run, and a run where one should begin")
        func runDirectories() async throws {
            try await withWorkspace { workspace in
                let resumed = try await workspace.run("train", "settings.yaml", "--resume", "--run-dir", "run")
                expect(resumed, ["run: holds no run to resume", "--run-dir"], workspace)
                try FileManager.default.createDirectory(
                    atPath: workspace.path + "/run", withIntermediateDirectories: false)
                try workspace.write("run/settings.yaml", Workspace.settings)
                expect(
                    try await train(workspace), ["run: already holds a run", "--resume"], workspace,
                    leaving: ["settings.yaml"])
            }
        }

        @Test(
            "wrong usage is status 64",
            arguments: [["train"], ["train", "settings.yaml", "--resume"], ["sample"], ["nonsense"]])
        func usage(arguments: [String]) async throws {
            try await withWorkspace { workspace in
                let finished = try await RunningProcess(arguments, folder: workspace.path, name: "usage").finish()
                expect(finished, ["Usage"], status: 64, workspace)
            }
        }
    }
}
