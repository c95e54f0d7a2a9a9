import Foundation
import LibC
import TestSupport
import Testing

extension ProcessTests {
    /// `rollout.overlap`: an epoch is sampled while the one before trains, and still everything has its bits.
    @Suite("Overlap", .optimized, .timeLimit(.minutes(3 * patience)))
    struct OverlapTests {
        @Test("groups are one update old, never more, and their discriminator is the newest")
        func staleness() async throws {
            let synchronous = try await UndisturbedRun.shared.result
            let overlapped = try await UndisturbedRun.overlapping.result
            #expect(overlapped.digests["policy.safetensors"] != synchronous.digests["policy.safetensors"])
            let (first, rest) = (overlapped.metrics[0], overlapped.metrics.dropFirst())
            #expect(first["policy.firstRatioMean"] == 1)
            // The first epoch has nothing to be older than; every later one was sampled before the update it follows.
            #expect(rest.allSatisfy { $0["policy.firstRatioMean"] != 1 }, "\(rest.map { $0["policy.firstRatioMean"] })")
            #expect(overlapped.metrics.map { $0["discriminatorVersion"] } == [0, 1, 2, 3, 4])
            #expect(overlapped.metrics.map { $0["policyVersion"] } == [1, 2, 3, 4, 5])
        }

        @Test("kills, an interruption and other numbers of workers leave no trace")
        func disturbed() async throws {
            for role in ["worker-0", "reward-server", "learner"] {
                try await withTraining(epochs: 3, like: .overlapping) { workspace, run, train in
                    kill(try #require(workspace.processID(of: role)), SIGKILL)
                    try await expectSameBits(
                        run, of: try await train.finish(), workspace, as: .overlapping, "SIGKILL of \(role)")
                }
            }
            try await withTraining("run.snapshotEvery=1", epochs: 3, like: .overlapping) { workspace, run, train in
                train.signal(SIGINT)
                #expect(try await train.finish().exit == .status(0))
                let resumed = try await workspace.run("train", "--resume", "--run-dir", "run")
                try await expectSameBits(run, of: resumed, workspace, as: .overlapping, "interrupted")
            }
            try await withTraining(
                "cluster.workers=3", "cluster.learnerThreads=2", epochs: 0, like: .overlapping
            ) { workspace, run, train in
                try await expectSameBits(
                    run, of: try await train.finish(), workspace, as: .overlapping, "three workers")
            }
        }

        @Test("a reward server that dies while the only worker waits for its scores is noticed before gradients are")
        func noticed() async throws {
            // The worker cannot make gradients before it has scores, and these need a state that only the learner can restore.
            try await withTraining("cluster.workers=1", epochs: 2, like: .overlapping) { workspace, run, train in
                kill(try #require(workspace.processID(of: "reward-server")), SIGKILL)
                let begin = ContinuousClock.now
                try await expectSameBits(run, of: try await train.finish(), workspace, as: .overlapping, "one worker")
                #expect(workspace.logs().contains("going back to the last snapshot"))
                #expect(.now - begin < .seconds(60))
            }
        }

        @Test("a clipping interval that one update leaves is refused with the value that works")
        func narrowClipping() async throws {
            try await withWorkspace { workspace in
                let refused = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "rollout.overlap=true")
                #expect(refused.exit != .status(0))
                #expect(refused.errors.contains("policy.clipRange"), "\(refused.errors)")
                #expect(refused.errors.contains("0.001"), "\(refused.errors)")
            }
        }
    }
}
