import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// Runs that are moved by something else than an adversarial reward, or set out from something else than the base.
    @Suite("Algorithms", .optimized, .timeLimit(.minutes(3)))
    struct AlgorithmRunTests {
        private static let supervised = [
            "--set", "supervised.stepsPerEpoch=2", "--set", "supervised.batch=3", "--set", "run.previewPrompts=1",
            "--set",
            "run.snapshotEvery=1", "--set", "run.snapshotsKept=9",
        ]

        /// Runs to `epochs`, in one piece and as if killed after `cut` of them and resumed, which must leave the same bits.
        private func whole(_ workspace: Workspace, _ settings: [String], cut: Int, epochs: Int) async throws -> RunFiles
        {
            let changes = settings.flatMap { ["--set", $0] } + Self.supervised
            let finished = try await RunningProcess(
                ["train", "settings.yaml", "--run-dir", "whole", "--set", "run.epochs=\(epochs)"] + changes,
                folder: workspace.path, name: "whole"
            ).finish()
            #expect(finished.exit == .status(0), "\(finished.errors)\n\(workspace.logs())")
            let (a, b) = (workspace.files("whole"), workspace.files("cut"))
            try a.copy(to: b, upTo: cut, of: epochs)
            let resumed = try await workspace.run("train", "--resume", "--run-dir", "cut")
            #expect(resumed.exit == .status(0), "\(resumed.errors)\n\(workspace.logs())")
            #expect(try a.digests(step: epochs) == b.digests(step: epochs))
            #expect(a.reproducibleMetrics == b.reproducibleMetrics)
            return a
        }

        @Test("sft needs neither reward server nor workers, and resumes to the bit")
        func supervised() async throws {
            try await withWorkspace { workspace in
                let run = try await whole(workspace, ["algorithm=sft", "reward.weights.texture=0"], cut: 1, epochs: 3)
                let logs = try FileManager.default.contentsOfDirectory(atPath: run.path + "/logs")
                #expect(!logs.contains { $0.hasPrefix("worker") || $0.hasPrefix("reward-server") }, "\(logs)")
                #expect(run.metrics.count == 3)
                for line in run.reproducibleMetrics {
                    #expect((line["policy.supervisedLoss"] ?? 0) > 0 && (line["policy.gradientNorm"] ?? 0) > 0)
                    #expect(!line.keys.contains { $0.hasPrefix("reward.") || $0.hasPrefix("discriminator.") })
                }
                #expect(FileManager.default.fileExists(atPath: run.snapshot(3) + "/adapter/adapter_model.safetensors"))
                let report = try String(contentsOfFile: run.path + "/report.html", encoding: .utf8)
                #expect(report.contains("Supervised loss"))
            }
        }

        @Test("a supervised epoch of any length ends at the signal, with what was before it")
        func interrupted() async throws {
            try await withWorkspace { workspace in
                let process = try RunningProcess(
                    [
                        "train", "settings.yaml", "--run-dir", "run", "--set", "algorithm=sft", "--set",
                        "reward.weights.texture=0", "--set", "supervised.stepsPerEpoch=10000",
                    ], folder: workspace.path, name: "run")
                try await eventually("a learner that trains") {
                    workspace.logs().contains("training from epoch 0") ? true : nil
                }
                process.signal(SIGTERM)
                let finished = try await process.finish()
                #expect(!workspace.logs().contains("did not stop in time"), "\(workspace.logs())")
                #expect(!finished.errors.contains("did not stop in time"), "\(finished.errors)")
                #expect(FileManager.default.fileExists(atPath: workspace.path + "/run/checkpoints/step-000000"))
            }
        }

        @Test("a supervised start comes before the rollouts, and a run resumes at its end to the bit")
        func start() async throws {
            try await withWorkspace { workspace in
                let run = try await whole(
                    workspace, ["policy.start=sft(3)", "run.evaluation.prompts=2", "run.evaluation.seeds=2"], cut: 2,
                    epochs: 4)
                let metrics = run.reproducibleMetrics
                #expect(metrics.map { $0["policy.supervisedLoss"] != nil } == [true, true, false, false])
                #expect(metrics.map { $0["reward.mean"] != nil } == [false, false, true, true])
                #expect(metrics.map { $0["policyVersion"] } == [1, 2, 3, 4])
                #expect(try run.ledger(step: 4)["trained"] == 4)
                let counts = try run.document("checkpoints/step-000004/policy.json")
                // Measured and kept at the start's end, wherever the run was cut.
                for run in ["whole", "cut"].map(workspace.files) {
                    let start = try run.document("evaluation-start.json")
                    let before = try run.document("evaluation-before.json")
                    #expect(start["images"] as? Int == 4 && start["dinoSimilarity"] as? Double != nil, "\(start)")
                    #expect(start["dinoSimilarity"] as? Double != before["dinoSimilarity"] as? Double)
                    #expect(
                        FileManager.default.fileExists(atPath: run.path + "/start/adapter/adapter_model.safetensors"))
                }
                let report = try String(contentsOfFile: run.path + "/report.html", encoding: .utf8)
                #expect(report.contains("<th>supervised start</th>") && report.contains("after the supervised start: "))
                // Two updates in each epoch of rollouts: the supervised steps' are forgotten.
                #expect(counts["optimizerUpdates"] as? Int == 4, "\(counts)")
                // What the start left is kept: alarms show what became of it.
                let (first, end, later) = (try run.digests(step: 1), try run.digests(step: 2), try run.digests(step: 4))
                #expect(first["policy-start.safetensors"] == nil)
                #expect(end["policy-start.safetensors"] == end["policy.safetensors"])
                #expect(later["policy-start.safetensors"] == end["policy.safetensors"])
                #expect(later["policy.safetensors"] != end["policy.safetensors"])
            }
        }

        @Test("flow-grpo follows a reward that nothing trains")
        func frozen() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=2", "--set",
                    "algorithm=flow-grpo", "--set", "reward.weights.texture=0", "--set",
                    "reward.weights.image_similarity=1")
                #expect(finished.exit == .status(0), "\(finished.errors)\n\(workspace.logs())")
                for line in workspace.files("run").reproducibleMetrics {
                    #expect(line["trainsDiscriminator"] == 0 && line["trainsPolicy"] == 1)
                    #expect(line["reward.image_similarity"] != nil)
                    #expect(!line.keys.contains { $0.hasPrefix("discriminator.") })
                }
            }
        }
    }
}
