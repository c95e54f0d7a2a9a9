import ComputeRoles
import Configuration
import Foundation
import LibC
import Processes
import Protocol
import RunFiles
import TestSupport
import Testing
import Transport
import WeightsTransfer

extension ProcessTests {
    /// Whatever happens to its processes, a run ends with the bits of the undisturbed one.
    @Suite("Resume", .optimized, .timeLimit(.minutes(3)))
    struct ResumeTests {
        @Test("Ctrl-C ends a run with a snapshot and status 0, and --resume goes on as if nothing had been")
        func interrupted() async throws {
            try await withTraining(epochs: 3) { workspace, run, first in
                first.signal(SIGINT)
                let stopped = try await first.finish()
                #expect(stopped.exit == .status(0), "\(stopped.errors)")
                #expect(stopped.output.contains("advgrpo train --resume --run-dir run"), "\(stopped.output)")
                #expect(workspace.processes.isEmpty, "processes are left")
                #expect(run.metrics.count < 5 && run.has(step: run.metrics.count), "no snapshot of the last epoch")
                let resumed = try await workspace.run("train", "--resume", "--run-dir", "run")
                try await expectSameBits(run, of: resumed, workspace)
            }
        }

        @Test("a learner that is stopped alone ends the run with a snapshot, and nobody takes it for complete")
        func stoppedLearner() async throws {
            try await withTraining("run.epochs=1000", epochs: 1) { workspace, run, train in
                kill(try #require(workspace.processID(of: "learner")), SIGTERM)
                let stopped = try await train.finish()
                #expect(stopped.exit == .status(0), "\(stopped.errors)")
                #expect(stopped.output.contains("stopped after a snapshot"), "\(stopped.output)")
                #expect(workspace.processes.isEmpty, "processes are left")
            }
        }

        @Test("SIGKILL of one role after the other in the middle of a run changes nothing")
        func killed() async throws {
            let roles = ["worker-0", "reward-server", "learner"]
            try await withTraining(epochs: 1) { workspace, run, train in
                for (number, role) in roles.enumerated() {
                    try await epochs(number + 1, of: run, train)
                    kill(try #require(workspace.processID(of: role)), SIGKILL)
                }
                let finished = try await train.finish()
                for role in roles {
                    #expect(finished.errors.contains("\(role) was ended by signal 9"), "\(finished.errors)")
                }
                try await expectSameBits(run, of: finished, workspace)
            }
        }

        @Test(
            "a reward server that a late message of another run takes away is taken back, also where the versions agree"
        )
        func takenRewardServer() async throws {
            try await withWorkspace { workspace in
                let run = workspace.files("run")
                let rewardServer = try workspace.start("reward-server", "settings.yaml", "--run-dir", "run")
                let learner = try workspace.start("learner", "settings.yaml", "--run-dir", "run")
                try await eventually("epoch 0") { learner.errors.contains("training from epoch 0") ? true : nil }
                let loop = try SocketLoop()
                let endpoint = RunDirectory.localEndpoint(of: "reward-server", in: run.path)
                let stranger = try Client(
                    Endpoint(endpoint), on: loop, options: try ClientOptions(keys: "", as: .learner))
                let other = try #require(RunID(rawValue: "run-other"))
                _ = try stranger.restoreDiscriminator(DiscriminatorVersion(rawValue: 0), TensorSet(), runID: other)
                loop.shutdownBlocking()
                let worker = try workspace.start("rollout-worker", "settings.yaml", "--run-dir", "run")
                let finished = try await learner.finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(finished.errors.contains("the reward server serves run run-other"), "\(finished.errors)")
                try await expectSameBits(run)
                rewardServer.signal(SIGTERM)
                for role in [worker, rewardServer] { #expect(try await role.finish().exit == .status(0)) }
            }
        }

        @Test("a request in whose middle a trap ended the reward server is not carried out again, and the run says so")
        func endedRole() async throws {
            try await withWorkspace { workspace in
                let train = try workspace.start(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "discriminator.stepsPerTraining=100000")
                let log = workspace.path + "/run/logs/reward-server.requests"
                let at = "ipc://\(workspace.path)/run/sockets/reward-server"
                try await eventually("a training") {
                    try await workspace.run("health", at).output.contains("training on epoch") ? true : nil
                }
                kill(try #require(workspace.processID(of: "reward-server")), SIGILL)
                let finished = try await train.finish()
                #expect(finished.exit == .status(1))
                #expect(
                    finished.errors.contains("reward-server was ended by signal 4 (Illegal instruction) by a request"),
                    "\(finished.errors)")
                #expect(
                    finished.errors.contains("endedRole: ")
                        && finished.errors.contains("run/logs/reward-server.requests"),
                    "\(finished.errors)")
                let text = String(decoding: try Data(contentsOf: URL(fileURLWithPath: log)), as: UTF8.self)
                #expect(text.split(separator: "\n").count == 1 && text.hasSuffix(" discriminatorTraining\n"), "\(text)")
            }
        }

        @Test("SIGKILL of the supervisor ends its roles, and --resume at once goes on")
        func killedSupervisor() async throws {
            try await withTraining(epochs: 3) { workspace, run, train in
                train.signal(SIGKILL)
                let resumed = try await workspace.run("train", "--resume", "--run-dir", "run")
                try await expectSameBits(run, of: resumed, workspace)
            }
        }

        @Test("a tuned PickScore has its bits after SIGKILL of the reward server, and after one of the supervisor")
        func tunedPickScore() async throws {
            try await withTraining(epochs: 1, like: .tunedPickScore) { workspace, run, train in
                kill(try #require(workspace.processID(of: "reward-server")), SIGKILL)
                try await epochs(3, of: run, train)
                #expect(train.errors.contains("reward-server was ended by signal 9"), "\(train.errors)")
                train.signal(SIGKILL)
                let resumed = try await workspace.run("train", "--resume", "--run-dir", "run")
                try await expectSameBits(run, of: resumed, workspace, as: .tunedPickScore)
            }
        }

        @Test("SIGKILL of every role before the first epoch is over changes nothing")
        func killedEarly() async throws {
            try await withWorkspace { workspace in
                let run = workspace.files("run")
                let train = try workspace.start("train", "settings.yaml", "--run-dir", "run")
                for role in ["reward-server", "learner", "worker-1"] {
                    let victim = try await eventually("the start of \(role)") { workspace.processID(of: role) }
                    kill(victim, SIGKILL)
                }
                let finished = try await train.finish()
                for role in ["reward-server", "learner", "worker-1"] {
                    #expect(finished.errors.contains("\(role) was ended by signal 9"), "\(finished.errors)")
                }
                try await expectSameBits(run, of: finished, workspace)
            }
        }

        @Test("a worker that stood still while its groups went to others disturbs nothing")
        func stopped() async throws {
            try await withTraining("cluster.leaseSeconds=1", epochs: 1) { workspace, run, train in
                let victim = try #require(workspace.processID(of: "worker-0"))
                kill(victim, SIGSTOP)
                try await epochs(4, of: run, train)
                kill(victim, SIGCONT)
                try await expectSameBits(run, of: try await train.finish(), workspace)
            }
        }

        @Test(
            "the number of workers and threads leaves no trace",
            arguments: [
                ["cluster.workers=1", "cluster.learnerThreads=2"], ["cluster.workers=5"],
                ["cluster.workers=3", "cluster.threadsPerWorker=2", "cluster.rewardServerThreads=2"],
            ])
        func otherMachine(changes: [String]) async throws {
            try await withWorkspace { workspace in
                let arguments = ["train", "settings.yaml", "--run-dir", "run"] + changes.flatMap { ["--set", $0] }
                let finished = try await RunningProcess(arguments, folder: workspace.path, name: "train").finish()
                try await expectSameBits(workspace.files("run"), of: finished, workspace)
            }
        }
    }
}
