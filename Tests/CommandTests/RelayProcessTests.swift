import FaultyNetwork
import Foundation
import LibC
import TestSupport
import Testing

extension ProcessTests {
    /// `advgrpo relay` between the real roles.
    @Suite("Relay", .optimized, .timeLimit(.minutes(3 * patience)))
    struct RelayTests {
        private struct Cluster {
            let workspace: Workspace
            let learnerAt: String
            let rewardAt: String
            let relayAt: String
            let rewardServer: RunningProcess
            let learner: RunningProcess
            let relay: RunningProcess
            let workers: [RunningProcess]

            /// Workers first: a run of a second is over before one that starts late has come.
            init(_ workspace: Workspace, workers count: Int) throws {
                self.workspace = workspace
                learnerAt = "tcp://127.0.0.1:\(try Loopback.freePort())"
                rewardAt = "tcp://127.0.0.1:\(try Loopback.freePort())"
                relayAt = "tcp://127.0.0.1:\(try Loopback.freePort())"
                let (learnerAt, rewardAt, relayAt) = (learnerAt, rewardAt, relayAt)
                workers = try (0..<count).map { _ in
                    try Self.start(
                        workspace, "rollout-worker", "--connect", learnerAt, "--reward-server", rewardAt, "--relay",
                        relayAt)
                }
                rewardServer = try Self.start(workspace, "reward-server", "--bind", rewardAt, "--run-dir", "run")
                learner = try Self.start(
                    workspace, "learner", "--bind", learnerAt, "--reward-server", rewardAt, "--run-dir", "run")
                relay = try Self.start(workspace, "relay", "--bind", relayAt, "--connect", learnerAt)
            }

            private static func start(
                _ workspace: Workspace, _ role: String, _ arguments: String...
            ) throws -> RunningProcess {
                try RunningProcess(
                    [role, "settings.yaml"] + arguments + ["--set", "cluster.keys=keys"], folder: workspace.path,
                    name: "\(role)-\(UUID().uuidString.prefix(4))")
            }

            func counters(_ endpoint: String) async throws -> [String: Double] {
                let finished = try await workspace.run("health", endpoint, "--keys", "keys", "--json")
                let health = try JSONSerialization.jsonObject(with: Data(finished.output.utf8)) as? [String: Any]
                return health?["counters"] as? [String: Double] ?? [:]
            }

            func end() async throws {
                let finished = try await learner.finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                for worker in workers {
                    #expect(try await worker.finish().exit == .status(0), "\(worker.errors)\(learner.errors)")
                }
                for role in [rewardServer, relay] {
                    role.signal(SIGTERM)
                    _ = try await role.finish()
                }
            }
        }

        /// A cluster with keys in a workspace of its own, from when its run has had some epochs.
        private func withCluster(
            workers: Int, epochs count: Int, _ body: (RunFiles, Cluster) async throws -> Void
        ) async throws {
            try await withWorkspace { workspace in
                #expect(try await workspace.run("keygen", "--out", "keys").exit == .status(0))
                let cluster = try Cluster(workspace, workers: workers)
                let run = workspace.files("run")
                try await epochs(count, of: run, cluster.learner)
                try await body(run, cluster)
            }
        }

        @Test("three workers behind a relay end in the same bits, over CURVE, and the learner sends one copy")
        func oneCopy() async throws {
            try await withCluster(workers: 3, epochs: 3) { run, cluster in
                let learner = try await cluster.counters(cluster.learnerAt)
                let relay = try await cluster.counters(cluster.relayAt)
                try await cluster.end()
                try await expectSameBits(run)
                #expect(cluster.relay.exit == .status(0), "\(cluster.relay.errors)")
                // The learner was asked first: what it sent since then the relay has counted. The relay's bytes contain manifests.
                let (sent, fetched, served) = (learner["weightsBytesSent"], relay["bytesFetched"], relay["bytesServed"])
                #expect(sent ?? 0 > 0 && sent ?? 0 <= fetched ?? 0, "\(learner) \(relay)")
                #expect(served ?? 0 > fetched ?? .infinity, "\(relay)")
                for worker in cluster.workers { #expect(!worker.errors.contains("weights are asked of the learner")) }
            }
        }

        @Test("a relay that is killed costs its workers a deadline, and nothing else")
        func killed() async throws {
            try await withCluster(workers: 2, epochs: 1) { run, cluster in
                cluster.relay.signal(SIGKILL)
                let finished = try await cluster.learner.finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                // One that still waited for the relay when the other had done all groups has no learner any more.
                for role in cluster.workers + [cluster.rewardServer] { role.signal(SIGTERM) }
                for role in cluster.workers + [cluster.rewardServer] { _ = try await role.finish() }
                try await expectSameBits(run)
                #expect(
                    cluster.workers.contains {
                        $0.errors.contains("weights are asked of the learner, relay \(cluster.relayAt)")
                    })
            }
        }
    }
}
