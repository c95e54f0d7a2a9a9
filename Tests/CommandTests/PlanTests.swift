import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// `advgrpo plan`, and the same look before `train`.
    @Suite("Plan", .optimized, .timeLimit(.minutes(3)))
    struct PlanTests {
        struct Document: Decodable {
            struct Role: Decodable {
                var role: String
                var count: Int, threads: Int
                var peakBytes: Int, weightsBytes: Int, trainingBytes: Int, cachesBytes: Int, activationsBytes: Int
                var programBytes: Int
            }
            struct Memory: Decodable {
                var totalBytes: Int, availableBytes: Int
            }
            var roles: [Role]
            var totalBytes: Int
            var memory: Memory
            var advice: String
        }

        private func plan(_ workspace: Workspace, _ changes: [String]) async throws -> Document {
            let finished = try await RunningProcess(
                ["plan", "settings.yaml", "--json"] + changes, folder: workspace.path, name: "plan"
            ).finish()
            #expect(finished.exit == .status(0), "\(finished.errors)")
            return try JSONDecoder().decode(Document.self, from: Data(finished.output.utf8))
        }

        @Test(
            "every role's peak is within 15% of what was planned",
            arguments: [
                [],
                ["--set", "precision=bf16", "--set", "rollout.chunkSize=16"],
                ["--set", "policy.gradientCheckpointing=always", "--set", "reward.weights.dino_patch=1"],
                ["--set", "policy.adapter=full", "--set", "rollout.groupSize=8"],
                [
                    "--set", "reward.weights.pickscore_adversarial=1", "--set",
                    "rewardModels.pickscore_adversarial=\(Repository.fixtures)/clip-dual-a",
                ],
            ])
        func peaks(_ variation: [String]) async throws {
            // Epochs until the replay is full and one is trained beside it; steps need no memory.
            let changes =
                [
                    "--set", "rollout.groupSize=16", "--set", "rollout.chunkSize=8", "--set", "rollout.steps=2",
                    "--set",
                    "run.epochs=2", "--set", "discriminator.replayCapacity=2", "--set", "cluster.learnerThreads=2",
                    "--set",
                    "run.previewPrompts=2", "--set", "run.evaluation.prompts=2", "--set", "run.evaluation.seeds=16",
                    "--set", "run.evaluation.steps=1",
                ] + variation
            try await withWorkspace { workspace in
                let planned = try await plan(workspace, changes)
                let training = try RunningProcess(
                    ["train", "settings.yaml", "--run-dir", "run"] + changes, folder: workspace.path, name: "train")
                var peaks: [String: Int] = [:]
                while training.exit == nil {
                    for (name, bytes) in Self.peaks(in: workspace) { peaks[name] = max(peaks[name] ?? 0, bytes) }
                    try await Task.sleep(for: .milliseconds(20))
                }
                #expect(training.exit == .status(0), "\(workspace.logs())")
                #expect(planned.roles.map(\.role) == ["learner", "reward server", "rollout worker"])
                for role in planned.roles {
                    let parts = [
                        role.weightsBytes, role.trainingBytes, role.cachesBytes, role.activationsBytes,
                        role.programBytes,
                    ]
                    #expect(parts.reduce(0, +) == role.peakBytes && parts.allSatisfy { $0 >= 0 })
                    let peak = try #require(peaks[role.role])
                    let ratio = Double(role.peakBytes) / Double(peak)
                    #expect(
                        abs(ratio - 1) < 0.15,
                        "\(role.role): planned \(role.peakBytes >> 20) MiB, reached \(peak >> 20) MiB, \(variation)")
                }
                // What is not the program is most of it, or this would prove little.
                let learner = planned.roles[0]
                #expect(learner.peakBytes > 3 * learner.programBytes)
                #expect(planned.totalBytes > planned.roles.reduce(0) { $0 + $1.count * $1.peakBytes })
                #expect(planned.memory.availableBytes <= planned.memory.totalBytes && !planned.advice.isEmpty)
            }
        }

        /// Most resident memory so far of every role that runs in a workspace.
        private static func peaks(in workspace: Workspace) -> [(String, Int)] {
            let names = ["learner": "learner", "reward-server": "reward server", "rollout-worker": "rollout worker"]
            return workspace.processes.compactMap { processID, arguments in
                guard arguments.count > 1, let name = names[arguments[1]],
                    let status = try? String(contentsOfFile: "/proc/\(processID)/status", encoding: .utf8),
                    let line = status.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
                    let kilobytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Int($0) })
                else { return nil }
                return (name, kilobytes << 10)
            }
        }

        @Test("a run that will not fit is refused in one sentence, by plan and by train, and leaves nothing")
        func refuses() async throws {
            try await withWorkspace { workspace in
                let planned = try await workspace.run("plan", "settings.yaml", "--set", "cluster.workers=10000")
                #expect(planned.exit == .status(1))
                #expect(planned.output.contains("rollout worker  10000"))
                let trained = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "cluster.workers=10000")
                #expect(trained.exit == .status(1))
                for errors in [planned.errors, trained.errors] {
                    #expect(errors.split(separator: "\n").count == 1, "\(errors)")
                    #expect(errors.contains("this machine has"), "\(errors)")
                    #expect(errors.contains("lower cluster.workers"), "\(errors)")
                }
                #expect(!workspace.exists("run"))
            }
        }

        @Test("what cannot be planned says why")
        func badInput() async throws {
            try await withWorkspace { workspace in
                let engine = try await workspace.run("plan", "settings.yaml", "--set", "engine=openblas")
                #expect(engine.exit == .status(1) && engine.errors.contains("set engine to onednn"), "\(engine.errors)")
                let model = try await workspace.run("plan", "settings.yaml", "--set", "model=data")
                #expect(model.exit == .status(1) && model.errors.contains("data"), "\(model.errors)")
                let key = try await workspace.run("plan", "settings.yaml", "--set", "rollout.chunksize=2")
                #expect(key.exit == .status(1) && key.errors.contains("rollout.chunkSize"), "\(key.errors)")
            }
        }
    }
}
