import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import TensorCore
import TestSupport
import Testing
import TinyRun
import Transport
import WeightsTransfer

@testable import RolloutWorker

private func failure(_ code: FailureCode) -> Failure { Failure(code: code, message: "a test's") }

/// The role in this process, over real sockets.
@Suite("Rollout worker", .serialized, .timeLimit(.minutes(2)))
struct RolloutWorkerTests {
    @Test("a group is sampled, scored and delivered as the lease and the run say")
    func work() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock { $0.leaseCount = 2 }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let state = servers.state.withLock { $0 }
            #expect(state.hellos.map(\.name) == ["w"] && state.hellos[0].role == .rolloutWorker)
            #expect(state.hellos[0].settingsDigest == bench.settings.methodDigest)
            #expect(!state.hellos[0].process.program.isEmpty && state.hellos[0].models["model/transformer"] != nil)
            let request = try #require(state.requests.first)
            #expect(request.group == FakeServers.group && request.prompt == state.lease.prompt)
            #expect(request.discriminatorVersion == state.lease.discriminatorVersion)
            let result = try #require(state.results.first)
            #expect(result.prompt == state.lease.prompt && result.leaseID == state.lease.leaseID)
            #expect(result.weightsDigest == state.weights.digest && result.policyVersion.rawValue == 9)
            #expect(result.discriminatorVersion.rawValue == 3 && result.rewards.floats == [0.5, 0.25])
            let rollout = try bench.policy.rollout(bench.settings.method.rollout, seed: 7)
            try RunContract(bench.settings.method).check(result, rollout)
            // The same lease again: the same bits, and the weights are there already.
            #expect(state.results.count == 2 && state.results[1].tensors == result.tensors)
            #expect(servers.count(.manifestRequest) == 1 && state.reports.isEmpty)
        }
    }

    @Test("a group that the learner gave to another is let go while it waits for a score, and another is asked for")
    func lostLease() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.failures[.scoreRequest] = [Failure](repeating: failure(.busy), count: 1000)
                $0.lost = .rollout(FakeServers.group)
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let state = servers.state.withLock { $0 }
            #expect(state.results.isEmpty && state.reports.isEmpty && servers.count(.leaseRequest) == 2)
        }
    }

    @Test("a lease that nobody has prolonged for its time is lost")
    func deadline() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.failures[.scoreRequest] = [Failure](repeating: failure(.notReady), count: 1000)
                $0.isSilent = true
                $0.lease.expiresInMilliseconds = 300
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let state = servers.state.withLock { $0 }
            #expect(state.results.isEmpty && state.reports.isEmpty && servers.count(.scoreRequest) >= 1)
        }
    }

    @Test("a heartbeat that is answered prolongs the lease")
    func prolonged() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.failures[.scoreRequest] = [Failure](repeating: failure(.notReady), count: 8)
                $0.lease.expiresInMilliseconds = 400
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.state.withLock { $0.results.count } == 1)
        }
    }

    @Test("a reward server that is busy, or has no discriminator yet, is asked again, and the group counts once")
    func busy() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.failures[.scoreRequest] = [failure(.notReady), failure(.busy), failure(.notReady)]
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.state.withLock { $0.results.count } == 1 && servers.count(.scoreRequest) == 4)
        }
    }

    @Test("a group whose epoch is over is let go")
    func closedEpoch() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock { $0.failures[.scoreRequest] = [failure(.closedEpoch)] }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let state = servers.state.withLock { $0 }
            #expect(state.results.isEmpty && state.reports.isEmpty)
        }
    }

    @Test("a reward server that ends between score and delivery costs nothing: the result says which version scored")
    func rewardServerEnds() throws {
        try withWorker { (bench, servers) throws in
            let rewardServer = servers.rewardServer
            servers.state.withLock { $0.whenScoring = { rewardServer.join(RunID(rawValue: "run-2")!) } }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.state.withLock { $0.results.map(\.discriminatorVersion.rawValue) } == [3])
            // It serves another run by now; the worker introduces itself again, and tells nobody of a failure.
            servers.state.withLock { $0.leaseCount = 1000 }
            let working = bench.start()
            while servers.count(.hello) < 3 { Thread.sleep(forTimeInterval: 0.005) }
            bench.shutdown.request("night")
            #expect(try working.value() == .interrupted)
            #expect(servers.state.withLock { $0.reports.isEmpty })
        }
    }

    @Test("a refused result has the weights fetched anew, all of them")
    func refused() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.leaseCount = 2
                $0.verdicts = [TaskAcknowledgement(.refused, reason: "other weights")]
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.state.withLock { $0.results.count } == 2)
            #expect(servers.count(.manifestRequest) == 2 && servers.count(.piecesRequest) % 2 == 0)
        }
    }

    @Test(
        "weights that are not published any more have a new lease asked for, and no failure told",
        arguments: [
            MessageKind.manifestRequest, .piecesRequest,
        ])
    func staleWeights(_ kind: MessageKind) throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.leaseCount = 2
                $0.failures[kind] = [failure(.staleVersion)]
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let state = servers.state.withLock { $0 }
            #expect(state.results.count == 1 && state.reports.isEmpty && servers.count(.leaseRequest) == 3)
        }
    }

    @Test("what cannot be made or is not of this run is told to the learner by name, and the next group is made")
    func failures() throws {
        try withWorker { (bench, servers) throws in
            let other = TensorPayload(floats: [0, 0])
            let policy = bench.policy.initialParameters
            let first = policy.entries[0].name
            let foreign = try PublishedWeights(
                version: PolicyVersion(rawValue: 9), parameters: policy.filtered { $0 != first })
            let wrong: [(cause: String, change: (inout FakeServers.State) -> Void)] = [
                ("members of group 4/1: [3]", { $0.lease.memberCount = 3 }),
                ("beyond the 2 groups", { $0.lease.group = GroupID(epoch: 0, index: 2) }),
                (
                    "has rewards",
                    {
                        $0.scores = Scores(
                            discriminatorVersion: DiscriminatorVersion(rawValue: 3), rewards: other,
                            components: ["dino_patch": other])
                    }
                ),
                ("versionMismatch", { $0.failures[.scoreRequest] = [failure(.versionMismatch)] }),
                // A digest that the weights do not have; weights of another policy.
                (
                    "wrongBytes",
                    { $0.lease.weights.digest = WeightsDigest(bytes: [UInt8](repeating: 1, count: 32)) }
                ),
                (
                    "\(first) is missing",
                    {
                        $0.weights = foreign
                        $0.lease.weights = foreign.reference
                    }
                ),
            ]
            for (cause, change) in wrong {
                let report = try bench.report(change)
                #expect(report?.contains(cause) == true, "\(cause): \(report ?? "no failure")")
            }
            servers.state.withLock { $0.leaseCount = 1 }
            let ending = try bench.run()
            #expect(ending == .stopped(reason: "enough") && servers.state.withLock { $0.results.count } == 1)
        }
    }

    @Test("a group that ended a worker before is not made a second time, and the learner is told why")
    func journal() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/logs/w.requests"
            try FileManager.default.createDirectory(atPath: folder + "/logs", withIntermediateDirectories: true)
            try withWorker { (bench, servers) throws in
                let fingerprint = RequestFingerprint(of: servers.state.withLock { $0.lease })
                try Data("\(fingerprint)\n".utf8).write(to: URL(fileURLWithPath: path))
            }
            try withWorker(journal: RequestJournal(path: path)) { (bench, servers) throws in
                #expect(try bench.run() == .stopped(reason: "enough"))
                let state = servers.state.withLock { $0 }
                #expect(state.results.isEmpty && state.reports.count == 1)
                #expect(state.reports.first?.cause.hasPrefix("endedRole") == true)
            }
        }
    }
}

@Suite("A worker's coming and going", .serialized, .timeLimit(.minutes(2)))
struct WorkerLifeTests {
    @Test("a learner that was started again is greeted again")
    func newLearner() throws {
        try withWorker { (bench, servers) throws in
            servers.state.withLock { $0.failures[.leaseRequest] = [failure(.unknownWorker)] }
            #expect(try bench.run() == .stopped(reason: "enough"))
            #expect(servers.state.withLock { $0.results.count } == 1 && servers.count(.hello) == 2)
        }
    }

    @Test("a refusal that stays true ends it, one that may pass does not, and a run that is over is no failure")
    func refusals() throws {
        for code in [FailureCode.settingsMismatch, .modelMismatch, .notAllowed] {
            try withWorker { (bench, servers) throws in
                servers.state.withLock { $0.failures[.hello] = [failure(code)] }
                #expect(throws: failure(code)) { try bench.run() }
            }
        }
        try withWorker { (bench, servers) throws in
            servers.state.withLock {
                $0.failures[.hello] = [failure(.busy)]
                $0.failures[.leaseRequest] = [failure(.internal)]
                $0.leaseCount = 0
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            servers.state.withLock { $0.failures[.hello] = [failure(.runComplete)] }
            #expect(try bench.run() == .stopped(reason: "a test's"))
        }
    }

    @Test("a learner that does not answer in time is an error that names it")
    func silence() throws {
        try withWorker { (bench, servers) throws in
            servers.learner.close()
            do {
                _ = try bench.run(patience: .milliseconds(100))
                Issue.record("nobody answered")
            } catch let error as TransportError {
                #expect(error.code == .deadlineExceeded)
                #expect(error.message.contains(servers.learner.endpoint.description))
            }
        }
    }

    @Test("told to end with a group in hand it leaves at once; told to finish first it delivers the group")
    func shutdown() throws {
        try withWorker { (bench, servers) throws in
            let shutdown = bench.shutdown
            servers.state.withLock {
                $0.leaseCount = 100
                $0.whenScoring = { shutdown.request("night", drains: true) }
            }
            #expect(try bench.run() == .interrupted)
            #expect(servers.state.withLock { $0.results.count } == 1 && servers.count(.leaseRequest) == 1)
        }
        try withWorker { (bench, servers) throws in
            let shutdown = bench.shutdown
            servers.state.withLock { $0.whenScoring = { shutdown.request("night") } }
            #expect(try bench.run() == .interrupted)
            #expect(servers.state.withLock { $0.results.isEmpty && $0.reports.isEmpty })
        }
    }

    @Test("its own socket says how it is, to whom may ask")
    func health() throws {
        try withWorker { (bench, servers) throws in
            let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: servers.loop, handler: bench.router.handle)
            let asker = try Client(server.endpoint, on: servers.loop)
            func health() throws -> Health { try asker.requestBlocking(HealthRequest(), deadline: .seconds(20)) }
            #expect(try !health().serving)
            servers.state.withLock {
                $0.failures[.scoreRequest] = [failure(.versionMismatch)]; $0.leaseCount = 2
            }
            #expect(try bench.run() == .stopped(reason: "enough"))
            let now = try health()
            #expect(now.serving && now.role == .rolloutWorker && now.runID == FakeServers.run && now.version == 9)
            #expect(now.counters["groupsDelivered"] == 1 && now.counters["groupsFailed"] == 1)
            _ = try asker.requestBlocking(StopRequest(drain: true, reason: "night"), deadline: .seconds(20))
            #expect(bench.shutdown.drainReason == "night")
        }
    }

    @Test("a rehearsal goes through two versions of the policy without computing")
    func rehearsal() throws {
        try withTemporaryFolder { folder in
            let trace = MemoryTrace()
            try WorkerRehearsal.run(
                TinyRun.load(in: folder), engine: RehearsalEngine(trace: trace), prompts: TinyRun.trainingPrompts,
                promptCount: 4)
        }
    }
}
