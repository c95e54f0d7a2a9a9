import Foundation
import SafeTensors
import TestSupport
import Testing

/// Tests of the program with real processes run one after the other: they need the machine.
@Suite("Processes", .serialized)
enum ProcessTests {}

extension ProcessTests {
    /// `advgrpo train` from settings to report.
    @Suite("Train", .timeLimit(.minutes(3 * patience)))
    struct TrainTests {
        @Test("a run leaves metrics, exact counts, a checkpoint that loads, an adapter, a report, and no process")
        func wholeRun() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=3", "--set",
                    "run.previewPrompts=2",
                    "--set", "run.previewEvery=2", "--set", "run.evaluation.prompts=2")
                #expect(workspace.processes.isEmpty, "processes are left")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(finished.output.contains("frechetDistance"))
                #expect(finished.output.contains("report: run/report.html"))
                let names = FileManager.default.enumerator(atPath: workspace.path)?.compactMap { $0 as? String } ?? []
                let left = names.filter { $0.hasSuffix(".lock") || $0.contains("sockets/") || $0.hasSuffix(".partial") }
                #expect(left.isEmpty, "left behind: \(left)")
                let run = workspace.files("run")
                try checkMetrics(run)
                #expect(
                    try run.ledger(step: 3) == [
                        "leased": 6, "accepted": 6, "trained": 6, "expired": 0, "failed": 0, "duplicates": 0,
                        "refused": 0,
                        "quarantined": 0,
                    ])
                let report = String(
                    decoding: FileManager.default.contents(atPath: run.path + "/report.html") ?? Data(), as: UTF8.self)
                #expect(report.contains("<html") && report.contains("</html>"))
                try checkRoles(report)
                for name in ["epoch-000000.png", "epoch-000002.png", "epoch-000003.png", "before-after.png"] {
                    #expect(workspace.exists("run/images/\(name)"), "\(name)")
                }
                try checkAdapter(run.snapshot(3) + "/adapter")
                let sampled = try await workspace.run(
                    "sample", "--model", Repository.models + "/emoji-sd3-tiny", "--lora", run.snapshot(3) + "/adapter",
                    "--prompt", "a red circle", "--out", "images", "--steps", "2")
                #expect(sampled.exit == .status(0), "\(sampled.errors)")
                #expect(workspace.exists("images/0000-00.png"))
            }
        }

        @Test("full fine-tuning leaves a transformer that a pipeline takes and --transformer names, to the same image")
        func wholeTransformer() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=1", "--set",
                    "policy.adapter=full")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let base = Repository.models + "/emoji-sd3-tiny"
                let trained = workspace.path + "/run/checkpoints/latest/transformer"
                let (files, old) = (
                    try SafeTensorsFolder(path: trained), try SafeTensorsFolder(path: base + "/transformer")
                )
                #expect(files.entries.map(\.name).sorted() == old.entries.map(\.name).sorted())
                #expect(try files.floats(of: "pos_embed.pos_embed") == old.floats(of: "pos_embed.pos_embed"))
                #expect(try files.floats(of: "proj_out.weight") != old.floats(of: "proj_out.weight"))
                let average = try SafeTensorsFile(path: trained + "/../policy-average.safetensors")
                for entry in average.entries {
                    #expect(try files.floats(of: entry.name) == average.floats(of: entry.name))
                }
                let copy = workspace.path + "/model"
                try FileManager.default.copyItem(atPath: base, toPath: copy)
                try FileManager.default.removeItem(atPath: copy + "/transformer")
                try FileManager.default.copyItem(atPath: trained, toPath: copy + "/transformer")
                var latents: [[Float]] = []
                for model in [["--model", base], ["--model", base, "--transformer", trained], ["--model", copy]] {
                    let file = workspace.path + "/\(latents.count).safetensors"
                    let sampled = try await RunningProcess(
                        ["sample", "--prompt", "a red circle", "--steps", "2", "--out", "out", "--save-latents", file]
                            + model,
                        folder: workspace.path, name: "sample"
                    ).finish()
                    #expect(sampled.exit == .status(0), "\(sampled.errors)")
                    latents.append(try SafeTensorsFile(path: file).floats(of: "latents"))
                }
                #expect(latents[1] == latents[2] && latents[0] != latents[1])
            }
        }

        @Test("frozen rewards enter the weighted sum beside the discriminator's")
        func frozenRewards() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=1",
                    "--set", "reward.weights.jpeg_compressibility=2", "--set", "reward.weights.pickscore=3",
                    "--set", "rewardModels.pickscore=\(Repository.fixtures)/clip-dual-a")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let line = try #require(workspace.files("run").reproducibleMetrics.first)
                let (texture, jpeg, pickScore) = (
                    try #require(line["reward.texture"]), try #require(line["reward.jpeg_compressibility"]),
                    try #require(line["reward.pickscore"])
                )
                #expect(jpeg < 0 && jpeg > -0.05 && pickScore != 0)
                let mean = try #require(line["reward.mean"])
                #expect(abs(mean - (texture + 2 * jpeg + 3 * pickScore)) < 1e-5)
            }
        }

        @Test("patches of images have advantages of their own, whoever samples them", arguments: ["patch", "both"])
        func patches(advantage: String) async throws {
            try await withWorkspace { workspace in
                var policies: [[Float]] = []
                for workers in 1...2 {
                    let run = "run\(workers)"
                    let finished = try await workspace.run(
                        "train", "settings.yaml", "--run-dir", run, "--set", "run.epochs=2", "--set",
                        "policy.advantage=\(advantage)", "--set", "reward.weights.dino_patch=1", "--set",
                        "cluster.workers=\(workers)")
                    #expect(finished.exit == .status(0), "\(finished.errors)")
                    #expect(workspace.files(run).reproducibleMetrics.last?["policy.firstRatioMean"] == 1)
                    let file = workspace.path + "/\(run)/checkpoints/latest/policy.safetensors"
                    let weights = try SafeTensorsFile(path: file)
                    policies.append(try weights.entries.flatMap { try weights.floats(of: $0.name) })
                }
                #expect(policies[0] == policies[1] && policies[0].contains { $0 != 0 })
            }
        }

        @Test("PickScore learns while it prefers the policy's images, and the policy while it does not")
        func tunedPickScore() async throws {
            let lines = try await UndisturbedRun.tunedPickScore.result.metrics
            try #require(lines.count == 5)
            for line in lines {
                #expect(line["reward.mean"] == line["reward.pickscore_adversarial"] && line["reward.mean"] != 0)
                #expect(line["trainsPolicy"] == 1 - (line["trainsDiscriminator"] ?? 1))
            }
            let trained = lines.filter { $0["trainsDiscriminator"] == 1 }
            #expect(!trained.isEmpty && trained.count < 5, "\(lines.map { $0["trainsDiscriminator"] })")
            #expect(
                lines.last?["discriminatorVersion"] == Double(lines.dropLast().count { $0["trainsDiscriminator"] == 1 })
            )
            for line in trained {
                let (accuracy, loss) = (line["discriminator.accuracy"] ?? -1, line["discriminator.loss"] ?? -1)
                #expect((0...1).contains(accuracy) && loss > 0)
            }
        }

        @Test("embeddings that were kept on disk leave no trace in a run")
        func keptEmbeddings() async throws {
            try await withWorkspace { workspace in
                func train(_ name: String, _ changes: String...) async throws -> (
                    metrics: [[String: Double]], policy: Data
                ) {
                    let finished = try await RunningProcess(
                        ["train", "settings.yaml", "--run-dir", name, "--set", "run.epochs=2"] + changes,
                        folder: workspace.path, name: name
                    ).finish()
                    #expect(finished.exit == .status(0), "\(finished.errors)")
                    let run = workspace.files(name)
                    return (
                        run.reproducibleMetrics,
                        try Data(contentsOf: URL(fileURLWithPath: run.snapshot(2) + "/policy.safetensors"))
                    )
                }
                let plain = try await train("plain")
                let cold = try await train("cold", "--set", "data.embeddings=embeddings")
                let names = FileManager.default.enumerator(atPath: workspace.path + "/embeddings")?.allObjects ?? []
                let files = names.compactMap { $0 as? String }.filter { $0.hasSuffix(".safetensors") }
                #expect(files.count > 1 && files.count <= Workspace.trainingPrompts.count + 1)
                let warm = try await train("warm", "--set", "data.embeddings=embeddings")
                #expect(plain.policy == cold.policy && cold.policy == warm.policy)
                #expect(plain.metrics == cold.metrics && cold.metrics == warm.metrics)
            }
        }

        /// Learner, reward server and both workers, each with the whole of its time.
        private func checkRoles(_ report: String) throws {
            let rows = report.split(separator: "<tr>").filter { $0.contains("class=\"bar\"") }
            // One of the workers may have been too late for any group.
            for (role, part) in [
                ("learner", "evaluation"), ("reward server", "training"), ("worker-0", "starting"),
                ("worker-1", "starting"),
            ] {
                let row = try #require(rows.first { $0.contains("<th scope=\"row\">\(role)</th>") }, "\(role)")
                #expect(row.contains("</span>\(part) "), "\(role): \(row)")
                let widths = row.matches(of: /width:([0-9.]+)%/).compactMap { Double($0.output.1) }
                #expect(abs(widths.reduce(0, +) - 100) < 0.1, "\(role): \(widths)")
            }
            #expect(rows.contains { $0.contains("</span>rollingOut ") })
        }

        private func checkMetrics(_ run: RunFiles) throws {
            let lines = run.reproducibleMetrics
            try #require(lines.count == 3)
            for (index, line) in lines.enumerated() {
                #expect(line["step"] == Double(index + 1))
                #expect(line["epoch"] == Double(index))
                #expect(line["images"] == Double(4 * (index + 1)))
                #expect(line["policyVersion"] == Double(index + 1))
                #expect(line["discriminatorVersion"] == Double(index))
                #expect(line["trainsPolicy"] == 1 && line["trainsDiscriminator"] == 1)
                #expect(line["policy.firstRatioMean"] == 1, "the learner computes what the workers sampled with")
                #expect(line["reward.mean"] == line["reward.texture"])
                let gradientNorm = try #require(line["policy.gradientNorm"])
                #expect(gradientNorm > 0 && gradientNorm.isFinite)
            }
            for phase in ["rollout", "training", "policy", "epoch", "worker.sample", "worker.decode", "worker.score"] {
                #expect(run.metrics.allSatisfy { ($0["seconds.\(phase)"] as? Double ?? 0) > 0 }, "seconds.\(phase)")
            }
        }

        /// The file that `peft` loads: both factors of every target, with the rank of the settings.
        private func checkAdapter(_ folder: String) throws {
            let configuration =
                try JSONSerialization.jsonObject(
                    with: Data(contentsOf: URL(fileURLWithPath: folder + "/adapter_config.json"))) as? [String: Any]
            #expect(configuration?["peft_type"] as? String == "LORA")
            #expect(configuration?["r"] as? Int == 4)
            let file = try SafeTensorsFile(path: folder + "/adapter_model.safetensors")
            let names = Set(file.entries.map(\.name))
            #expect(!names.isEmpty)
            for entry in file.entries {
                #expect(entry.name.hasPrefix("base_model.model.transformer_blocks."), "\(entry.name)")
                if entry.name.hasSuffix(".lora_A.weight") {
                    #expect(entry.shape[0] == 4)
                    #expect(names.contains(entry.name.replacing(".lora_A.", with: ".lora_B.")))
                } else {
                    #expect(entry.name.hasSuffix(".lora_B.weight") && entry.shape[1] == 4, "\(entry.name)")
                }
            }
            // Training moved B away from zero.
            let moved = try file.entries.filter { $0.name.hasSuffix(".lora_B.weight") }.contains {
                try file.floats(of: $0.name).contains { $0 != 0 }
            }
            #expect(moved)
        }
    }
}
