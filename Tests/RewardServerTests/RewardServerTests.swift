import AdvGRPO
import ComputeRoles
import Foundation
import Processes
import Protocol
import TensorCore
import TestSupport
import Testing
import TinyRun
import Transport

@testable import RewardServer

/// The role in this process, over real sockets.
@Suite("Reward server", .optimized, .serialized, .timeLimit(.minutes(2)))
struct RewardServerTests {
    @Test("before a learner has restored it, it is asked in vain and says so")
    func empty() throws {
        try withRewardServer { bench in
            let health = try bench.health()
            #expect(!health.serving && health.runID == nil && health.reason.contains("learner"))
            #expect(failure { try bench.ask(bench.learner, bench.hello()) } == .notReady)
            #expect(failure { try bench.open(0) } == .notReady)
            #expect(failure { _ = try bench.scores(0) } == .notReady)
            #expect(failure { _ = try bench.train(0, from: 0) } == .notReady)
            #expect(failure { _ = try bench.state(0) } == .notReady)
            // Restored, it still scores nothing before an epoch is open.
            try bench.restore()
            #expect(failure { _ = try bench.scores(0) } == .notReady)
            let welcome = try bench.ask(bench.learner, bench.hello())
            #expect(welcome.runID == RewardBench.run && welcome.discriminatorVersion?.rawValue == 0)
            #expect(welcome.epoch == nil && !welcome.program.isEmpty)
        }
    }

    @Test("a group asked for again gets the same bits, whoever asks and however often")
    func scores() throws {
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(0)
            let first = try bench.scores(0, version: 0)
            #expect(try bench.scores(0) == first && first[0] != first[1])
            #expect(first.allSatisfy { $0.discriminatorVersion.rawValue == 0 && $0.rewards.elementCount == 2 })
            #expect(first.allSatisfy { Set($0.components.keys) == ["texture"] })
            let health = try bench.health()
            #expect(health.serving && health.runID == RewardBench.run && health.version == 0)
            #expect(health.counters["groupsScored"] == 4 && health.counters["imagesScored"] == 8)
            #expect(try bench.ask(bench.learner, bench.hello()).epoch == 0)
        }
    }

    @Test("what does not belong to the run, the epoch or the version is refused by name, and the rest goes on")
    func refusals() throws {
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(3)
            let group = GroupID(epoch: 3, index: 0)
            func score(_ change: (inout ScoreRequest) -> Void) -> FailureCode? {
                failure {
                    var request = try bench.request(group)
                    change(&request)
                    try bench.ask(bench.worker, request)
                }
            }
            #expect(score { $0.prompt = "another prompt" } == .notOfThisRun)
            #expect(score { $0.group = GroupID(epoch: 3, index: 2) } == .notOfThisRun)
            #expect(score { $0.group = GroupID(epoch: 2, index: 0) } == .closedEpoch)
            #expect(
                score { $0.tensors = ["images": TensorPayload(uint8s: [0, 0, 0], shape: [1, 1, 1, 3])] }
                    == .notOfThisRun)
            // A version that is being trained comes; one that is gone does not.
            #expect(score { $0.discriminatorVersion = DiscriminatorVersion(rawValue: 1) } == .notReady)
            #expect(failure { _ = try bench.train(3, from: 0) } == .unknownGroup)
            #expect(failure { _ = try bench.train(5, from: 0) } == .closedEpoch)
            #expect(failure { _ = try bench.train(3, from: 0, steps: 9) } == .notOfThisRun)
            _ = try bench.scores(3)
            #expect(failure { _ = try bench.train(3, from: 4) } == .versionMismatch)
            #expect(failure { _ = try bench.state(4) } == .versionMismatch)
            #expect(
                failure {
                    try bench.ask(
                        bench.learner,
                        DiscriminatorStateRequest(version: DiscriminatorVersion(rawValue: 0), chunkIndex: 99))
                } == .noSuchChunk)
            #expect(failure { try bench.ask(bench.learner, bench.hello(settings: "others")) } == .settingsMismatch)
            #expect(
                failure { try bench.ask(bench.learner, bench.hello(models: ["rewardBackbone": "0f"])) }
                    == .modelMismatch)
            #expect(try bench.train(3, from: 0).version.rawValue == 1)
            #expect(score { $0.discriminatorVersion = DiscriminatorVersion(rawValue: 0) } == .versionMismatch)
        }
    }

    @Test("a training that is asked for again answers the same and trains nothing")
    func repeatedTraining() throws {
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(0)
            _ = try bench.scores(0)
            // Without steps it only compares.
            let compared = try bench.train(0, from: 0, steps: 0)
            #expect(compared.version.rawValue == 0 && compared.metrics.isEmpty)
            let trained = try bench.train(0, from: 0)
            #expect(trained.version.rawValue == 1 && (trained.metrics["discriminator.loss"] ?? nil) ?? 0 > 0)
            let scores = try bench.scores(0, version: 1)
            #expect(try bench.train(0, from: 0) == trained)
            #expect(try bench.scores(0, version: 1) == scores)
            let health = try bench.health()
            #expect(health.counters["trainings"] == 1 && health.version == 1)
        }
    }

    @Test("another process that is restored from the state goes on with the same bits")
    func restore() throws {
        var state = TensorSet()
        var scores: [Scores] = []
        var next: DiscriminatorTrained?
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(0)
            _ = try bench.scores(0)
            _ = try bench.train(0, from: 0)
            state = try bench.state(1)
            try bench.open(1)
            scores = try bench.scores(1)
            next = try bench.train(1, from: 1)
        }
        try withRewardServer { bench in
            #expect(failure { _ = try bench.scores(1) } == .notReady)
            try bench.restore(1, state)
            try bench.open(1)
            // It does not know what its predecessor scored since the state was taken.
            #expect(failure { _ = try bench.train(1, from: 1) } == .unknownGroup)
            #expect(try bench.scores(1) == scores)
            #expect(try bench.train(1, from: 1) == next)
        }
    }

    @Test("a state that is torn, of another version or no state is refused, and what was in service stays")
    func badStates() throws {
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(0)
            let scores = try bench.scores(0)
            _ = try bench.train(0, from: 0)
            let state = try bench.state(1)
            try bench.restore()
            func part(_ index: Int, version: Int = 1, _ chunk: TensorChunk) -> FailureCode? {
                failure {
                    try bench.ask(
                        bench.learner,
                        DiscriminatorRestore(
                            version: DiscriminatorVersion(rawValue: version), chunkIndex: index, chunkCount: 2,
                            runID: RewardBench.run, chunk: chunk))
                }
            }
            let document = TensorChunk(tensors: ["document.json": try #require(state["document.json"])])
            #expect(part(1, document) == .restoreInterrupted)
            #expect(part(0, document) == nil)
            #expect(part(1, version: 2, document) == .restoreInterrupted)
            #expect(failure { try bench.restore(2, state) } == .versionMismatch)
            var torn = state
            torn["document.json"] = nil
            #expect(failure { try bench.restore(1, torn) } == .invalidState)
            torn["document.json"] = TensorPayload(uint8s: [1, 2], shape: [2])
            #expect(failure { try bench.restore(1, torn) } != nil)
            try bench.open(0)
            #expect(try bench.scores(0, version: 0) == scores)
            #expect(try bench.health().counters["failures"] == 5)
        }
    }
}

@Suite("A reward server's end", .serialized, .timeLimit(.minutes(2)))
struct RewardServerEndTests {
    @Test("told to end with work in hand, it refuses what waits as busy, so that it is asked of its successor")
    func stop() throws {
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(0)
            bench.shutdown.request("night")
            try bench.finish()
            // The queue is closed; nobody waits in vain for a thread that has ended.
            #expect(failure { _ = try bench.scores(0) } == .busy)
        }
        try withRewardServer(computes: false) { bench in
            let pending = try bench.learner.begin(
                DiscriminatorStateRequest(version: DiscriminatorVersion(rawValue: 0), chunkIndex: 0),
                deadline: .seconds(30))
            while try bench.health().queueDepth == 0 {}
            bench.shutdown.request("night")
            bench.compute()
            #expect(failure { _ = try pending.wait() } == .busy)
        }
    }

    @Test("told to finish first, it does what waits and takes nothing new")
    func drain() throws {
        try withRewardServer(computes: false) { bench in
            let pending = try bench.learner.begin(
                DiscriminatorRestore(
                    version: DiscriminatorVersion(rawValue: 0), chunkIndex: 0, chunkCount: 1, runID: RewardBench.run,
                    chunk: TensorChunk(tensors: TensorSet())), deadline: .seconds(30))
            while try bench.health().queueDepth == 0 {}
            bench.shutdown.request("night", drains: true)
            #expect(failure { _ = try bench.state(0) } == .busy)
            bench.compute()
            #expect(try pending.wait().version.rawValue == 0)
            try bench.finish()
        }
    }

    @Test("what nobody waits for any more is not computed")
    func expired() throws {
        try withRewardServer(computes: false) { bench in
            let late = try? bench.ask(
                bench.learner,
                DiscriminatorRestore(
                    version: DiscriminatorVersion(rawValue: 0), chunkIndex: 0, chunkCount: 1, runID: RewardBench.run,
                    chunk: TensorChunk(tensors: TensorSet())), within: .milliseconds(50))
            #expect(late == nil)
            #expect(try bench.health().queueDepth == 1)
            Thread.sleep(forTimeInterval: 0.05)
            bench.compute()
            while try bench.health().queueDepth == 1 {}
            #expect(try !bench.health().serving)
        }
    }

    @Test("a request that ended a process before is refused, the same request with other contents is not")
    func journal() throws {
        try withTemporaryFolder { folder in
            let settings = try TinyRun.load(in: folder)
            let restore = DiscriminatorRestore(
                version: DiscriminatorVersion(rawValue: 0), chunkIndex: 0, chunkCount: 1, runID: RewardBench.run,
                chunk: TensorChunk(tensors: TensorSet()))
            let message = try ReceivedMessage(frames: EncodedMessage(restore, runID: nil, requestID: 1).frames)
            let path = folder + "/logs/reward-server.requests"
            try FileManager.default.createDirectory(atPath: folder + "/logs", withIntermediateDirectories: true)
            try Data("\(RequestFingerprint(of: message))\n".utf8).write(to: URL(fileURLWithPath: path))
            let bench = try RewardBench(settings, journal: RequestJournal(path: path))
            bench.compute()
            #expect(failure { try bench.ask(bench.learner, restore) } == .endedRole)
            var other = restore
            other.runID = RunID(rawValue: "run-2")!  // letters, a digit and a hyphen
            #expect(failure { try bench.ask(bench.learner, other) } == nil)
            try bench.end()
        }
    }

    @Test("a rehearsal goes through scoring, replay and training without computing")
    func rehearsal() throws {
        try withTemporaryFolder { folder in
            let settings = try TinyRun.load(in: folder)
            let engine = RehearsalEngine(trace: MemoryTrace())
            #expect(try RewardServerRehearsal.run(settings, engine: engine, epochCount: 2) > 0)
        }
    }
}
