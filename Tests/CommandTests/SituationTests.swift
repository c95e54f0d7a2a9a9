import Configuration
import Foundation
import LibC
import Raster
import SafeTensors
import TestSupport
import Testing

extension ProcessTests {
    /// Places and models as people have them: what is usable runs, what is not is refused by name.
    @Suite("Situations", .optimized, .timeLimit(.minutes(3)))
    struct SituationTests {
        private func train(_ workspace: Workspace, _ run: String, _ changes: String...) async throws -> Finished {
            try await RunningProcess(
                ["train", "settings.yaml", "--run-dir", run, "--set", "run.epochs=1"]
                    + changes.flatMap { ["--set", $0] }, folder: workspace.path, name: "train"
            ).finish()
        }

        @Test("a run directory whose path no socket's address can hold")
        func longRunDirectory() async throws {
            try await withWorkspace { workspace in
                let run = (0..<8).map { "a-folder-of-a-research-group-\($0)" }.joined(separator: "/")
                let finished = try await train(workspace, run)
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(workspace.exists(run + "/report.html"))
            }
        }

        @Test("a home folder that the shell left as ~ is the home folder, in options and in settings")
        func homeFolder() async throws {
            try await withWorkspace { workspace in
                try workspace.write("data/images/keep", "")
                let home = workspace.path + "/home"
                let finished = try await RunningProcess(
                    [
                        "HOME=\(home)", Product.path, "train", "settings.yaml", "--run-dir=~/runs/x", "--set",
                        "run.epochs=1",
                        "--set", "data.embeddings=~/embeddings",
                    ], program: "/usr/bin/env", folder: workspace.path, name: "train"
                ).finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(workspace.exists("home/runs/x/report.html") && workspace.exists("home/embeddings"))
                #expect(!workspace.exists("~"))
                let nobody = try await workspace.run("inspect", "~no-such-user/model")
                #expect(nobody.exit == .status(64) && nobody.errors.contains("no user has this home folder"))
            }
        }

        @Test("a model in a single file is trained, sampled with its adapter, and known again at --resume")
        func singleFile() async throws {
            try await withWorkspace { workspace in
                let model = workspace.path + "/model"
                try FileManager.default.copyItem(atPath: Repository.fixtures + "/single-file", toPath: model)
                let file = model + "/checkpoint.safetensors"
                let changes = ["model=\(file)", "rollout.resolution=32", "precision=fp32"]
                let options = ["train", "settings.yaml", "--run-dir", "run"] + changes.flatMap { ["--set", $0] }
                func run(_ more: String...) async throws -> Finished {
                    try await RunningProcess(options + more, folder: workspace.path, name: "train").finish()
                }
                let first = try await run("--set", "run.epochs=1")
                #expect(first.exit == .status(0), "\(first.errors)")
                let sampled = try await workspace.run(
                    "sample", "--model", file, "--lora", "run/checkpoints/latest/adapter", "--prompt", "cab", "--size",
                    "32",
                    "--out", "images")
                #expect(sampled.exit == .status(0), "\(sampled.errors)")
                #expect(workspace.exists("images/0000-00.png"))
                let again = try await run("--set", "run.epochs=2", "--resume")
                #expect(again.exit == .status(0), "\(again.errors)")
                // One weight of the autoencoder.
                var bytes = try Data(contentsOf: URL(fileURLWithPath: file))
                let weights = try SafeTensorsFile(path: file)
                let entry = try #require(weights["first_stage_model.decoder.conv_out.bias"])
                let length = weights.entries.map(\.byteRange.upperBound).max() ?? 0
                bytes[bytes.count - length + entry.byteRange.lowerBound] ^= 1
                try bytes.write(to: URL(fileURLWithPath: file))
                let other = try await run("--set", "run.epochs=3", "--resume")
                #expect(other.exit != .status(0) && other.errors.contains("another model/vae"), "\(other.errors)")
            }
        }

        @Test("a file system that takes no writes is told as it is")
        func readOnly() async throws {
            try await withWorkspace { workspace in
                let disk = workspace.path + "/disk"
                mkdir(disk, 0o755)
                guard mount("tmpfs", disk, "tmpfs", UInt(MS_RDONLY), "size=1m") == 0 else {
                    withKnownIssue("no temporary file system can be mounted: not root") {
                        Issue.record("cannot be tried")
                    }
                    return
                }
                defer { umount2(disk, Int32(MNT_DETACH)) }
                let images = [
                    "sample", "--model", Repository.models + "/emoji-sd3-tiny", "--prompt", "a", "--steps", "1",
                    "--size", "8",
                ]
                for arguments in [
                    ["train", "settings.yaml", "--run-dir", "disk/run"], ["keygen", "--out", "disk/keys"],
                    images + ["--out", "disk/images"], images + ["--out", "x", "--save-latents", "disk/l.safetensors"],
                    ["prepare-emoji", "--out", "disk/emoji"],
                ] {
                    let finished = try await RunningProcess(
                        arguments, folder: workspace.path, name: "process-\(arguments[0])"
                    ).finish()
                    #expect(
                        finished.exit == .status(1) && finished.errors.contains("Read-only file system"),
                        "\(arguments): \(finished.errors)")
                }
            }
        }

        @Test(
            "an evaluation of few images leaves out what it cannot measure, in plan, train and evaluate",
            arguments: [(1, 1), (1, 2), (2, 1), (2, 2)])
        func fewImages(prompts: Int, seeds: Int) async throws {
            try await withWorkspace { workspace in
                let changes = ["run.evaluation.prompts=\(prompts)", "run.evaluation.seeds=\(seeds)"]
                let plan = try await workspace.run("plan", "settings.yaml", "--set", changes[0], "--set", changes[1])
                #expect(plan.exit == .status(0), "\(plan.errors)")
                let finished = try await train(workspace, "run", changes[0], changes[1])
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let evaluated = try await workspace.run(
                    "evaluate", "--model", Repository.models + "/emoji-sd3-tiny", "--references",
                    "data/prompt2img.json",
                    "--prompts", "data/test.txt", "--limit", "\(prompts)", "--count", "\(seeds)", "--steps", "1",
                    "--size", "64", "--json")
                #expect(evaluated.exit == .status(0), "\(evaluated.errors)")
                let after = try Data(contentsOf: URL(fileURLWithPath: workspace.path + "/run/evaluation-after.json"))
                for document in [after, Data(evaluated.output.utf8)] {
                    let figures = try #require(try JSONSerialization.jsonObject(with: document) as? [String: Any])
                    #expect(figures["dinoSimilarity"] != nil)
                    #expect((figures["frechetDistance"] != nil) == (prompts * seeds > 1))
                    #expect((figures["diversity"] != nil) == (seeds > 1))
                    #expect((figures["discriminatorAUC"] != nil) == (prompts > 1))
                }
                #expect(finished.output.contains("too few images to measure") == (min(prompts, seeds) == 1))
            }
        }

        @Test(
            "a run is measured as it measures itself, and against its base by a judge that says what it does not know")
        func against() async throws {
            try await withWorkspace { workspace in
                try workspace.writeJudge(["a grey moon"] + (1...5).map { "another \($0)" })
                let trained = try await train(
                    workspace, "run", "run.evaluation.prompts=2", "run.evaluation.seeds=2", "run.epochs=2")
                #expect(trained.exit == .status(0), "\(trained.errors)")
                #expect(trained.output.contains("±"), "\(trained.output)")
                let finished = try await workspace.run(
                    "evaluate", "run", "--against", "base", "--judge", "judge", "--json")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(
                    finished.errors.contains("no caption for 1 of 2 prompts")
                        && finished.errors.contains("a white cloud"))
                func object(_ data: Data) throws -> [String: Any] {
                    try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
                }
                let document = try object(Data(finished.output.utf8))
                let against = try #require(document["against"] as? [String: Any])
                for (moment, figures) in [("before", against), ("after", document)] {
                    let file = URL(fileURLWithPath: "\(workspace.path)/run/evaluation-\(moment).json")
                    let own = try object(Data(contentsOf: file))
                    for name in ["dinoSimilarity", "frechetDistance", "diversity"] {
                        let (value, expected) = (figures[name] as? Double ?? .nan, own[name] as? Double ?? .infinity)
                        #expect(abs(value - expected) <= 1e-4 * max(1, abs(expected)), "\(moment): \(name)")
                    }
                    #expect((figures["judge"] as? [String: Any])?["images"] as? Int == 2)
                }
                let wins = try #require(document["wins"] as? [String: [String: Any]])
                for by in ["caption", "references"] {
                    let counts = ["wins", "losses", "ties"].compactMap { wins[by]?[$0] as? Int }
                    #expect(counts.count == 3 && counts.reduce(0, +) == 2, "\(by)")
                }
                // The same policy twice: ties alone, half of them wins.
                let same = try await workspace.run("evaluate", "run", "--against", "run", "--judge", "judge")
                #expect(same.output.contains("50.0%") && same.output.contains("0 won, 0 lost, 2 tied of 2 pairs"))
            }
        }

        @Test("a judge that is the reward's or the evaluation's backbone, or knows no prompt, is refused")
        func seenJudge() async throws {
            try await withWorkspace { workspace in
                try workspace.writeJudge((1...6).map { "another \($0)" })
                let model = Repository.models + "/emoji-sd3-tiny"
                for (judge, words) in [
                    ("\(model)/dino", "the reward's backbone"),
                    ("\(model)/dino-evaluation", "the evaluation's backbone"), ("judge", "none of the 2 prompts"),
                    ("data", "data: holds no .safetensors file"),
                ] {
                    let finished = try await workspace.run(
                        "evaluate", "--model", model, "--references", "data/prompt2img.json", "--prompts",
                        "data/test.txt", "--judge", judge, "--count", "1", "--steps", "1", "--size", "64")
                    #expect(
                        finished.exit == .status(1) && finished.errors.contains(words) && finished.output.isEmpty,
                        "\(judge): \(finished.errors)")
                }
            }
        }

        @Test("evaluate of a folder that is no run says so")
        func noRun() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run("evaluate", "data")
                #expect(finished.exit == .status(1) && finished.errors.contains("data holds no run"))
            }
        }

        @Test("evaluate asks for a backbone where the model's folder has none")
        func noBackbone() async throws {
            try await withWorkspace { workspace in
                try copyModel(to: workspace.path + "/model")
                let finished = try await workspace.run(
                    "evaluate", "--model", "model", "--references", "data/prompt2img.json")
                #expect(finished.exit == .status(1) && finished.errors.contains("--backbone"), "\(finished.errors)")
            }
        }

        @Test("a run without workers says how to start one")
        func noWorkers() async throws {
            try await withWorkspace { workspace in
                let train = try workspace.start(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "cluster.workers=0", "--set", "run.epochs=1")
                let line = try await eventually("the command") {
                    train.errors.split(separator: "\n").first { $0.contains("advgrpo rollout-worker ") }.map(
                        String.init)
                }
                try await eventually("the run's settings") { workspace.exists("run/settings.yaml") ? true : nil }
                let words = try #require(line.components(separatedBy: "advgrpo ").last).split(separator: " ")
                let worker = try RunningProcess(words.map(String.init), folder: workspace.path, name: "worker")
                #expect(try await train.finish().exit == .status(0), "\(train.errors)")
                #expect(try await worker.finish().exit == .status(0))
            }
        }

        // MARK: Other models

        private func copyModel(to path: String) throws {
            try FileManager.default.copyItem(atPath: Repository.models + "/emoji-sd3-tiny", toPath: path)
            for part in ["dino", "dino-evaluation"] {
                try FileManager.default.removeItem(atPath: "\(path)/\(part)")
            }
        }

        /// The same shapes with one number changed.
        private func change(_ path: String) throws {
            let file = try SafeTensorsFile(path: path)
            let largest = try #require(file.entries.max { $0.byteRange.count < $1.byteRange.count })
            let tensors = try file.entries.map { entry in
                var bytes = try file.bytes(of: entry.name).array
                if entry.name == largest.name { bytes[0] ^= 1 }
                return SafeTensor(
                    name: entry.name, dtype: entry.dtype, shape: entry.shape, bytes: SharedBytes(copying: bytes))
            }
            try SafeTensorsWriter.write(tensors, metadata: file.metadata, to: path)
        }

        @Test(
            "a worker or a reward server with another model than the learner is refused by name",
            arguments: [
                ("rollout-worker", "transformer", "model/transformer"), ("rollout-worker", "vae", "model/vae"),
                ("reward-server", "vae", "model/vae"),
            ])
        func otherModel(role: String, part: String, name: String) async throws {
            try await withWorkspace { workspace in
                try copyModel(to: workspace.path + "/other")
                try change("\(workspace.path)/other/\(part)/diffusion_pytorch_model.safetensors")
                let own = ["--set", "reward.references=decoded"]
                func start(_ name: String) throws -> RunningProcess {
                    try RunningProcess(
                        [name, "settings.yaml", "--run-dir", "run"] + own
                            + (name == role ? ["--set", "model=other"] : []),
                        folder: workspace.path, name: name)
                }
                let (server, learner) = (try start("reward-server"), try start("learner"))
                let refused = role == "reward-server" ? learner : try start(role)
                let finished = try await refused.finish()
                #expect(
                    finished.exit == .status(1) && finished.errors.contains("another \(name) than the learner"),
                    "\(finished.errors)")
                for process in [server, learner] { process.signal(SIGTERM) }
            }
        }

        @Test(
            "a run is not resumed with another model or backbone",
            arguments: [
                ("model", "transformer/diffusion_pytorch_model.safetensors", "model/transformer"),
                ("model", "tokenizer/merges.txt", "model/tokenizer"),
                ("rewardBackbone", "model.safetensors", "rewardBackbone"),
            ])
        func resumedWithOther(setting: String, file: String, name: String) async throws {
            try await withWorkspace { workspace in
                try copyModel(to: workspace.path + "/model")
                try FileManager.default.copyItem(
                    atPath: Repository.models + "/emoji-sd3-tiny/dino", toPath: workspace.path + "/rewardBackbone")
                let changes = ["model=model", "rewardBackbone=rewardBackbone"]
                #expect(try await train(workspace, "run", changes[0], changes[1]).exit == .status(0))
                let path = "\(workspace.path)/\(setting)/\(file)"
                if file.hasSuffix(".txt") {
                    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
                    try workspace.write("\(setting)/\(file)", lines.dropLast().joined(separator: "\n") + "\n")
                } else {
                    try change(path)
                }
                let resumed = try await workspace.run(
                    "train", "--resume", "--run-dir", "run", "--set", "run.epochs=2")
                #expect(
                    resumed.exit == .status(1) && resumed.errors.contains("begun with another \(name)"),
                    "\(resumed.errors)")
            }
        }
    }
}
