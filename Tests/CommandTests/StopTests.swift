import FaultyNetwork
import Foundation
import LibC
import TestSupport
import Testing

extension ProcessTests {
    /// `advgrpo stop`, and who may.
    @Suite("Stop", .optimized, .timeLimit(.minutes(3 * patience)))
    struct StopTests {
        private func endpoint(_ workspace: Workspace, _ role: String) -> String {
            "ipc://\(workspace.path)/run/sockets/\(role)"
        }

        @Test(
            "a stopped learner leaves a snapshot and ends the run; resumed it ends in the same bits",
            arguments: [false, true])
        func learner(drains: Bool) async throws {
            try await withTraining(epochs: 1) { workspace, run, train in
                let at = endpoint(workspace, "learner")
                let stopped =
                    drains ? try await workspace.run("stop", at, "--drain") : try await workspace.run("stop", at)
                #expect(stopped.exit == .status(0) && stopped.output.contains(at), "\(stopped.errors)")
                let finished = try await train.finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(finished.output.contains("continue with: advgrpo train --resume"), "\(finished.output)")
                #expect(workspace.processes.isEmpty)
                let resumed = try await workspace.run("train", "--resume", "--run-dir", "run")
                try await expectSameBits(run, of: resumed, workspace)
            }
        }

        @Test("a worker that is drained delivers its group and leaves; the others finish the run")
        func worker() async throws {
            try await withTraining(epochs: 1) { workspace, run, train in
                let stopped = try await workspace.run("stop", endpoint(workspace, "worker-0"), "--drain")
                #expect(stopped.exit == .status(0), "\(stopped.errors)")
                try await eventually("the worker's end") { workspace.processID(of: "worker-0") == nil ? true : nil }
                let finished = try await train.finish()
                try await expectSameBits(run, of: finished, workspace)
                let status = try run.ledger(step: 5)
                #expect(status["expired"] == 0 && status["failed"] == 0, "\(status)")
            }
        }

        @Test("reward server and relay end when they are asked to, drained or not", arguments: [[], ["--drain"]])
        func servers(arguments: [String]) async throws {
            try await withWorkspace { workspace in
                let server = try workspace.start("reward-server", "settings.yaml", "--run-dir", "run")
                try await eventually("the reward server") { server.errors.contains("ready at") ? true : nil }
                let relay = try workspace.start("relay", "settings.yaml", "--run-dir", "run")
                try await eventually("the relay") { relay.errors.contains("ready at") ? true : nil }
                for (name, process) in [("reward-server", server), ("relay", relay)] {
                    let stopped = try await RunningProcess(
                        ["stop", endpoint(workspace, name)] + arguments, folder: workspace.path, name: "stop-\(name)"
                    ).finish()
                    #expect(stopped.exit == .status(0), "\(stopped.errors)")
                    #expect(try await process.finish().exit == .status(0), "\(name): \(process.errors)")
                    #expect(workspace.exists("run/logs/\(name).requests"))
                }
            }
        }

        @Test(
            "with keys an operator's stops a role, a worker's does not, and a list without roles is refused with the remedy"
        )
        func keys() async throws {
            try await withWorkspace { workspace in
                #expect(try await workspace.run("keygen", "--out", "keys").exit == .status(0))
                let names = try FileManager.default.contentsOfDirectory(atPath: workspace.path + "/keys").sorted()
                #expect(
                    names
                        == ["allowed"]
                        + ["learner", "operator", "relay", "reward", "server", "worker"].flatMap {
                            ["\($0).key", "\($0).pub"]
                        })
                let list = try String(contentsOfFile: workspace.path + "/keys/allowed", encoding: .utf8)
                #expect(
                    list.split(separator: "\n").map { $0.split(separator: " ").dropFirst().joined(separator: " ") } == [
                        "learner learner", "worker worker", "operator operator", "relay relay", "reward reward",
                    ])
                let at = "tcp://127.0.0.1:\(try Loopback.freePort())"
                func start() throws -> RunningProcess {
                    try workspace.start(
                        "reward-server", "settings.yaml", "--run-dir", "run", "--bind", at, "--set", "cluster.keys=keys"
                    )
                }
                let server = try start()
                try await eventually("the reward server") { server.errors.contains("ready at") ? true : nil }
                // A worker's machine, whose owner calls its key an operator's.
                _ = Shell.run(
                    "cd \(workspace.path) && mkdir w && cp keys/server.pub w && cp keys/worker.key w/operator.key")
                let refused = try await workspace.run("stop", at, "--keys", "w")
                #expect(refused.exit == .status(1), "\(refused.output)")
                #expect(
                    refused.errors.contains("rolloutWorker may not send stopRequest to rewardServer"),
                    "\(refused.errors)")
                let health = try await workspace.run("health", at, "--keys", "w")
                #expect(health.exit == .status(1) && health.output.contains("not serving"), "\(health.errors)")
                #expect(try await workspace.run("stop", at, "--keys", "keys").exit == .status(0))
                #expect(try await server.finish().exit == .status(0))

                // Without its role's key a client says which file it misses.
                _ = Shell.run("rm \(workspace.path)/keys/operator.key")
                let missing = try await workspace.run("health", at, "--keys", "keys")
                #expect(missing.exit == .status(1))
                #expect(missing.errors.contains("operator.key is missing") && missing.errors.contains("keygen"))
                // A list from before there were roles.
                try workspace.write("keys/allowed", list.split(separator: "\n")[0].prefix(40) + " client\n")
                let old = try await start().finish()
                #expect(old.exit == .status(1))
                #expect(
                    old.errors.contains(
                        "keys/allowed: line 1 does not say which role client's key has; write KEY NAME ROLE"),
                    "\(old.errors)")
            }
        }
    }
}
