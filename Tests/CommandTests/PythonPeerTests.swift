import Foundation
import LibC
import TestSupport
import Testing

extension ProcessTests {
    /// docs/examples/health.py, ten lines of pyzmq and safetensors, against a real server.
    @Suite("Python peer", .optimized, .timeLimit(.minutes(2)))
    struct PythonPeerTests {
        @Test("the example of the documentation gets the reward server's health")
        func health() async throws {
            let python = Repository.path + "/.venv-peers/bin/python"
            guard FileManager.default.isExecutableFile(atPath: python) else {
                Issue.record("\(python) is missing: run dev/python-peers")
                return
            }
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
    }
}
