import Foundation
import Raster
import TestSupport
import Testing

extension ProcessTests {
    /// Runs made to cheat, and what the gauge does about them.
    @Suite("Gauge", .optimized, .timeLimit(.minutes(3 * patience)))
    struct GaugeTests {
        /// A head that never learned, climbed in large steps: the ratio leaves its band at once.
        private static let cheat = [
            "discriminator.train=false", "policy.learningRate=0.03", "policy.updatesPerEpoch=2", "gauge.window=3",
            "gauge.maximumLogRatio=0.001", "run.snapshotEvery=1", "run.snapshotsKept=9",
        ]

        /// Runs `train` with some settings changed.
        private func train(
            _ workspace: Workspace, _ changes: [String], resume: Bool = false, run: String = "run"
        ) async throws -> Finished {
            let start = resume ? ["train", "--resume"] : ["train", "settings.yaml"]
            return try await RunningProcess(
                start + ["--run-dir", run] + changes.flatMap { ["--set", $0] }, folder: workspace.path,
                name: "train-\(run)-\(resume)"
            ).finish()
        }

        @Test("warn tells, shows, and leaves every weight as it is")
        func warn() async throws {
            try await withWorkspace { workspace in
                let finished = try await train(
                    workspace, ["gauge.window=3", "gauge.minimumAUC=1", "run.previewPrompts=2"])
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let run = workspace.files("run")
                let expected = try await UndisturbedRun.shared.result
                #expect(try run.digests(step: 5) == expected.digests)
                #expect(run.reproducibleMetrics.map { $0["gauge.alarms"] } == [0, 0, 1, 1, 1])
                #expect(run.reproducibleMetrics.allSatisfy { ($0["gauge.diversity"] ?? 0) > 0 })
                #expect(run.reproducibleMetrics.map { $0["gauge.twin"] != nil } == [false, true, true, true, true])
                // Best and worst of four images, two pairs; twice as large as they are.
                let sheet = try RGBImage(path: run.path + "/images/alarm-000003.png")
                #expect(sheet.width > 2 * 64 * 4 && sheet.height > 2 * 64 * 3)
                let log = try String(contentsOfFile: run.path + "/logs/learner.log", encoding: .utf8)
                #expect(log.contains("images/alarm-000003.png; gauge.action warn: nothing is changed"))
                let report = String(
                    decoding: FileManager.default.contents(atPath: run.path + "/report.html") ?? Data(), as: UTF8.self)
                #expect(report.contains("<h2>Alarms</h2>") && report.contains("epoch 2: the discriminator"))
                #expect(report.contains("Alarm of epoch 2, images/alarm-000003.png"))
            }
        }

        @Test("a judge that nothing else reads says of every contact sheet what evaluate says of the same images")
        func judge() async throws {
            try await withWorkspace { workspace in
                try workspace.writeJudge(Workspace.evaluationPrompts + (1...4).map { "another \($0)" })
                let judged = ["judge=judge", "run.previewPrompts=2", "run.previewEvery=2", "run.epochs=2"]
                for (changes, words) in [
                    (judged + ["run.previewEvery=0"], "judge judges contact sheets"),
                    (judged + ["judge=\(Repository.models)/emoji-sd3-tiny/dino"], "is the reward's backbone"),
                ] {
                    let refused = try await train(workspace, changes, run: "refused")
                    #expect(refused.exit == .status(1) && refused.errors.contains(words), "\(refused.errors)")
                    #expect(!workspace.exists("refused"))
                }
                let finished = try await train(workspace, judged)
                #expect(finished.exit == .status(0), "\(finished.errors)\(workspace.logs())")
                let lines = workspace.files("run").reproducibleMetrics
                #expect(lines.map { $0["gauge.judgeTop1"] != nil } == [false, true])
                let evaluated = try await workspace.run(
                    "evaluate", "run", "--judge", "judge", "--limit", "2", "--count", "2", "--json")
                #expect(evaluated.exit == .status(0), "\(evaluated.errors)")
                let document = try JSONSerialization.jsonObject(with: Data(evaluated.output.utf8)) as? [String: Any]
                let expected = try #require(document?["judge"] as? [String: Any])
                #expect(expected["images"] as? Int == 4)
                #expect(lines[1]["gauge.judgeTop1"] == expected["top1"] as? Double)
                let (own, other) = (lines[1]["gauge.judgeSimilarity"] ?? .nan, expected["similarity"] as? Double ?? 0)
                #expect(abs(own - other) < 1e-4, "\(own), \(other)")
                let report = String(
                    decoding: FileManager.default.contents(atPath: workspace.path + "/run/report.html") ?? Data(),
                    as: UTF8.self)
                #expect(report.contains("<h3>Judge</h3>"))
            }
        }

        @Test("slow halves the learning rate for the rest, also of a run that is resumed between alarm and end")
        func slow() async throws {
            try await withWorkspace { workspace in
                let changes = Self.cheat + ["gauge.action=slow", "run.epochs=7"]
                #expect(try await train(workspace, changes, run: "whole").exit == .status(0))
                let (whole, parts) = (workspace.files("whole"), workspace.files("parts"))
                // As if ended within the window after an alarm.
                try whole.copy(to: parts, upTo: 4, of: 7)
                #expect(try await train(workspace, [], resume: true, run: "parts").exit == .status(0))
                #expect(
                    whole.reproducibleMetrics.map { $0["policy.learningRate"] }
                        == [0.03, 0.03, 0.03, 0.015, 0.015, 0.015, 0.0075])
                #expect(parts.reproducibleMetrics == whole.reproducibleMetrics)
                #expect(try parts.digests(step: 7) == whole.digests(step: 7))
            }
        }

        @Test(
            "rollback goes back to before the window at half the rate, and ends with a sentence when that does not help"
        )
        func rollback() async throws {
            try await withWorkspace { workspace in
                let finished = try await train(
                    workspace, Self.cheat + ["gauge.action=rollback", "gauge.maximumRollbacks=1", "run.epochs=9"])
                #expect(finished.exit == .status(1))
                #expect(
                    finished.errors.contains("as often as gauge.maximumRollbacks allows (1), and again: epoch 2: "),
                    "\(finished.errors)")
                let run = workspace.files("run")
                // Nothing is left that knows of the window; the second time the same epochs ran at half the rate.
                #expect(run.has(step: 0) && !run.has(step: 1) && !run.has(step: 3))
                #expect(run.reproducibleMetrics.map { $0["policy.learningRate"] } == [0.015, 0.015, 0.015])
                #expect(run.reproducibleMetrics.map { $0["gauge.alarms"] } == [1, 1, 2])
                #expect(workspace.processes.isEmpty, "processes are left")
            }
        }

        @Test("with the default threshold a rollback that helps lets the run come to its end")
        func recovery() async throws {
            try await withWorkspace { workspace in
                let finished = try await train(
                    workspace, Self.cheat + ["gauge.action=rollback", "gauge.maximumLogRatio=0.1", "run.epochs=4"])
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let lines = workspace.files("run").reproducibleMetrics
                #expect(lines.map { $0["step"] } == [1, 2, 3, 4])
                let rates = Set(lines.map { $0["policy.learningRate"] })
                #expect(rates.count == 1 && [0.015, 0.0075, 0.00375].contains(rates.first), "\(rates)")
            }
        }

        @Test("refresh trains the discriminator for longer, once, and renews the twin")
        func refresh() async throws {
            try await withWorkspace { workspace in
                let finished = try await train(
                    workspace, ["gauge.window=3", "gauge.minimumAUC=1", "gauge.action=refresh"])
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let (usual, refreshed) = (
                    try await UndisturbedRun.shared.result.metrics, workspace.files("run").reproducibleMetrics
                )
                func figures(_ name: String) -> (usual: [Double?], refreshed: [Double?]) {
                    (usual.map { $0[name] }, refreshed.map { $0[name] })
                }
                // The alarm of the third epoch: the fourth trains for longer, which its mean loss shows.
                let (losses, twins) = (figures("discriminator.loss"), figures("gauge.twin"))
                #expect(losses.usual.prefix(3) == losses.refreshed.prefix(3))
                #expect(try #require(losses.refreshed[3]) < #require(losses.usual[3]))
                // The fifth epoch's images are the same still; another twin scores them.
                #expect(twins.usual.prefix(4) == twins.refreshed.prefix(4) && twins.usual[4] != twins.refreshed[4])
                let record = try workspace.files("run").document("checkpoints/latest/run.json")
                #expect((record["gauge"] as? [String: Any])?["refreshIsDue"] as? Bool == false)
            }
        }
    }
}
