import Foundation
import LibC
import TestSupport
import Testing

extension ProcessTests {
    /// docs/examples, a few lines of pyzmq and safetensors, against real processes.
    @Suite("Python peer", .optimized, .timeLimit(.minutes(2)))
    struct PythonPeerTests {
        private let python = Repository.path + "/.venv-peers/bin/python"

        init() throws {
            try #require(
                FileManager.default.isExecutableFile(atPath: python), "\(python) is missing: run dev/python-peers")
        }

        @Test("the example of the documentation gets the reward server's health")
        func health() async throws {
            try await withWorkspace { workspace in
                let endpoint = "ipc://\(workspace.path)/sockets/reward-server"
                let server = try workspace.start(
                    "reward-server", "settings.yaml", "--run-dir", "run", "--bind", endpoint)
                try await eventually("the server") { server.errors.contains("ready at") ? true : nil }
                let finished = try await RunningProcess(
                    [Repository.path + "/docs/examples/health.py", endpoint], program: python, folder: workspace.path,
                    name: "python"
                ).finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let health = try #require(
                    try JSONSerialization.jsonObject(with: Data(finished.output.utf8)) as? [String: Any],
                    "\(finished.output)")
                #expect(health["role"] as? String == "rewardServer")
                #expect(health["serving"] as? Bool == false)
                #expect(health["reason"] as? String == "waiting for the learner")
                server.signal(SIGTERM)
                #expect(try await server.finish().exit == .status(0))
            }
        }

        @Test("a run adds the reward of a process, its own and decoupled, and says by its name that it is missing")
        func reward() async throws {
            try await withWorkspace { workspace in
                let endpoint = "ipc://\(workspace.path)/redness"
                func train(_ folder: String, _ changes: String...) async throws -> Finished {
                    let settings = ["rewardProcesses={redness: {endpoint: '\(endpoint)', weight: 0.5}}"] + changes
                    return try await RunningProcess(
                        ["train", "settings.yaml", "--run-dir", folder] + settings.flatMap { ["--set", $0] },
                        folder: workspace.path, name: "train-" + folder
                    ).finish()
                }
                let alone = try await train(
                    "alone", "rewardProcesses.redness.timeout=0.1", "rewardProcesses.redness.patience=0.2",
                    "cluster.leaseSeconds=1")
                #expect(alone.exit != .status(0))
                #expect(alone.errors.contains("warning: reward process redness at \(endpoint) is not there; start it"))
                #expect(alone.errors.contains("reward process redness at \(endpoint) has not scored group 0/"))

                let process = try RunningProcess(
                    [Repository.path + "/docs/examples/reward.py", endpoint], program: python, folder: workspace.path,
                    name: "reward")
                try await eventually("the process") { process.output.contains("ready") ? true : nil }
                let finished = try await train("run", "run.epochs=2", "policy.advantageNormalization=decoupled")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(!finished.errors.contains("is not there"))
                let metrics = workspace.files("run").metrics
                #expect(metrics.count == 2)
                for line in metrics {
                    let (mean, texture) = (line["reward.mean"] as? Double, line["reward.texture"] as? Double)
                    let redness = try #require(line["reward.redness"] as? Double)
                    #expect((-1...1).contains(redness) && redness != 0)
                    #expect(abs(try #require(mean) - (try #require(texture) + 0.5 * redness)) < 1e-5)
                }
                process.signal(SIGKILL)
                _ = try await process.finish()
            }
        }
    }
}
