import ComputeRoles
import Configuration
import Foundation
import NeuralNetworks
import Protocol
import SafeTensors
import Synchronization
import TensorCore
import TestSupport
import Testing
import WeightsTransfer

@testable import Transport

extension ProcessTests {
    /// A worker between a learner and a reward server that answer it with whatever is well formed, and a learner before
    /// such a reward server.
    @Suite("Answers under fire", .optimized, .timeLimit(.minutes(180)))
    struct AnswerFuzzTests {
        /// From the answer that `ADVGRPO_FUZZ_FIRST` numbers.
        private func withLyingServers(_ body: (Workspace, LyingServers) async throws -> Void) async throws {
            let weights = try await LyingServers.weights()
            let first = ProcessInfo.processInfo.environment["ADVGRPO_FUZZ_FIRST"].flatMap(Int.init) ?? 0
            try await withWorkspace { workspace in
                let servers = try LyingServers(weights, first: first)
                try await body(workspace, servers)
                servers.end()
            }
        }

        @Test("no lease, weights, score or acknowledgement ends a worker; told to stop, it leaves in good order")
        func worker() async throws {
            try await withLyingServers { workspace, servers in
                let worker = try workspace.start(
                    "rollout-worker", "settings.yaml", "--run-dir", "run", "--name", "w", "--connect",
                    servers.learner.endpoint.description, "--reward-server", servers.rewardServer.endpoint.description)
                let end = ContinuousClock.now + FuzzTarget.budget(share: 0.3)
                try await eventually("two hundred answers, or the time", within: .seconds(7200)) {
                    if let exit = worker.exit {
                        throw TestFailure("after \(servers.counts): \(exit)\n\(worker.errors)")
                    }
                    let answered = servers.counts.values.reduce(0, +)
                    return answered >= 200 && .now > end ? true : nil
                }
                servers.isHonest.store(true, ordering: .relaxed)
                let finished = try await worker.finish(within: .seconds(120))
                #expect(finished.exit == .status(0), "\(finished.errors.suffix(3000))")
                let counts = servers.counts
                print("fuzz answers: \(counts.sorted { "\($0.key)" < "\($1.key)" })")
                for kind in [
                    MessageKind.hello, .leaseRequest, .manifestRequest, .piecesRequest, .scoreRequest, .groupResult,
                    .taskFailure, .heartbeat, .contentRequest,
                ] {
                    #expect(counts[kind, default: 0] > 0, "a worker was never brought to \(kind)")
                }
            }
        }

        @Test("nothing that a reward server answers ends the learner")
        func learner() async throws {
            try await withLyingServers { workspace, servers in
                let learner = try workspace.start(
                    "learner", "settings.yaml", "--run-dir", "run", "--reward-server",
                    servers.rewardServer.endpoint.description)
                let end = ContinuousClock.now + FuzzTarget.budget(share: 0.2)
                try await eventually("fifty answers, or the time", within: .seconds(7200)) {
                    if let exit = learner.exit {
                        throw TestFailure("after \(servers.counts): \(exit)\n\(learner.errors)")
                    }
                    return servers.counts.values.reduce(0, +) >= 50 && .now > end ? true : nil
                }
                servers.isHonest.store(true, ordering: .relaxed)
                try await Task.sleep(for: .seconds(2))
                learner.signal(SIGINT)
                let finished = try await learner.finish()
                #expect(finished.exit == .status(0), "\(finished.errors.suffix(3000))")
                let counts = servers.counts
                print("fuzz answers to the learner: \(counts.sorted { "\($0.key)" < "\($1.key)" })")
                for kind in [
                    MessageKind.hello, .discriminatorRestore, .discriminatorStateRequest, .epochOpening,
                ] {
                    #expect(counts[kind, default: 0] > 0, "the learner never asked for \(kind)")
                }
            }
        }
    }
}

/// A learner and a reward server that give half of their answers as they should be, so that a worker gets to all of
/// them, and twist the others.
private final class LyingServers: Sendable {
    let learner: Server
    let rewardServer: Server
    /// From now on a worker is told to stop, and so it is.
    let isHonest = Atomic(false)
    private let loop: SocketLoop
    private let state: Mutex<State>

    private struct State {
        let weights: PublishedWeights
        var number: Int
        var counts: [MessageKind: Int] = [:]
    }

    /// The first version of a run of the workspace's settings.
    static func weights() async throws -> PublishedWeights {
        let workspace = try Workspace()
        defer { workspace.close() }
        let run = try await workspace.run("train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=1")
        guard run.exit == .status(0) else { throw TestFailure(run.errors) }
        let path = workspace.files("run").snapshot(1) + "/policy.safetensors"
        let parameters = try Parameters(path: path, engine: OpenBLASEngine.shared)
        return try PublishedWeights(version: PolicyVersion(rawValue: 0), parameters: parameters)
    }

    init(_ weights: PublishedWeights, first: Int) throws {
        loop = try SocketLoop()
        state = Mutex(State(weights: weights, number: first))
        let handler = Handler()
        learner = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop) { handler.servers.withLock { $0 }?.handle($0) }
        rewardServer = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop) {
            handler.servers.withLock { $0 }?.handle($0)
        }
        handler.servers.withLock { $0 = self }
    }

    /// The servers exist before what answers for them.
    private final class Handler: Sendable {
        let servers = Mutex<LyingServers?>(nil)
    }

    /// How often what was asked.
    var counts: [MessageKind: Int] { state.withLock { $0.counts } }

    func end() { loop.shutdownBlocking() }

    private func handle(_ request: Request) {
        let (number, weights) = state.withLock { state in
            state.counts[request.kind, default: 0] += 1
            state.number += 1
            return (state.number, state.weights)
        }
        var random = SplitMix(state: UInt64(number))
        let isHonest = isHonest.load(ordering: .relaxed)
        do {
            guard var answer = try Self.answer(request, weights, isHonest: isHonest, &random) else {
                return request.fail(Failure(code: .unknownWorker, message: "say hello"))
            }
            if !isHonest, random.below(2) == 0 {
                switch random.below(8) {
                case 0:
                    let codes = [
                        "notReady", "busy", "staleVersion", "wrongRun", "unknownWorker", "closedEpoch", "endedRole",
                        "notOfThisRun", "nonsense",
                    ]
                    // Other refusals of a restore are final: the learner ends with them, as it should.
                    let code = request.kind == .discriminatorRestore ? "busy" : codes[random.below(codes.count)]
                    return request.fail(Failure(code: FailureCode(rawValue: code), message: "no"))
                default: answer.twist(&random)
                }
            }
            answer.answer(request)
        } catch {
            request.fail(Failure(code: .internal, message: "\(error)"))
        }
    }

    /// Of a group of the workspace's settings.
    private static let trajectory: TensorSet = [
        "latents": TensorPayload(floats: [Float](repeating: 0.5, count: 4096), shape: [2, 2, 16, 8, 8]),
        "logProbabilities": TensorPayload(floats: [-0.5, -0.5], shape: [2, 1]),
        "stepIndices": TensorPayload(int32s: [0]),
    ]

    /// What the run's own servers would answer.
    private static func answer(
        _ request: Request, _ weights: PublishedWeights, isHonest: Bool, _ random: inout SplitMix
    ) throws -> Utterance? {
        let floats = TensorPayload(floats: [0.5, 0.25])
        switch request.kind {
        case .hello:
            let runID = request.message.runID ?? RunID(rawValue: "run-1")!
            return try Utterance(
                Welcome(
                    runID: runID, program: "", discriminatorVersion: DiscriminatorVersion(rawValue: 0), epoch: 0))
        case .discriminatorRestore:
            let version = try request.decoded(as: DiscriminatorRestore.self).version
            return try Utterance(DiscriminatorRestored(version: version, models: [:]))
        case .discriminatorStateRequest:
            let version = try request.decoded(as: DiscriminatorStateRequest.self).version
            let chunk = TensorChunk(tensors: ["document.json": TensorPayload(uint8s: [1, 2], shape: [2]), "x": floats])
            return try Utterance(DiscriminatorState(version: version, chunkIndex: 0, chunkCount: 1, chunk: chunk))
        case .epochOpening: return try Utterance(EpochOpened())
        case .leaseRequest:
            if isHonest { return try Utterance(LeaseAnswer.stop(reason: "enough")) }
            let group = GroupID(epoch: random.below(3), index: random.below(2))
            if random.below(3) == 0 {
                return try Utterance(
                    LeaseAnswer.lease(
                        Lease(
                            leaseID: LeaseID(rawValue: 2), group: group, prompt: "a red circle", memberCount: 2,
                            weights: weights.reference, expiresInMilliseconds: 1000,
                            gradient: GradientOrder(
                                update: 0, sampleCount: 4, trajectory: ContentDigest(of: trajectory)),
                            advantages: TensorPayload(floats: [1, -1]))))
            }
            return try Utterance(
                LeaseAnswer.lease(
                    Lease(
                        leaseID: LeaseID(rawValue: 1), group: group, prompt: "a red circle", memberCount: 2,
                        weights: weights.reference,
                        discriminatorVersion: DiscriminatorVersion(rawValue: 0), expiresInMilliseconds: 1000)))
        case .manifestRequest: return try Utterance(weights.answer(request.decoded(as: ManifestRequest.self)))
        case .piecesRequest: return try Utterance(weights.answer(request.decoded(as: PiecesRequest.self)))
        case .heartbeat:
            return try Utterance(HeartbeatAcknowledgement())
        case .contentRequest: return try Utterance(Content(trajectory))
        case .groupResult, .gradientResult, .taskFailure: return try Utterance(TaskAcknowledgement(.accepted))
        case .scoreRequest:
            return try Utterance(
                Scores(
                    discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: floats,
                    components: ["texture": floats]))
        default: return nil
        }
    }
}
