import AdvGRPO
import ComputeRoles
import Configuration
import Logging
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import TensorCore
import TestSupport
import TinyRun
import Transport
import WeightsTransfer

@testable import RolloutWorker

/// A learner and a reward server that speak the protocol and compute nothing. What they answer is a test's to change.
final class FakeServers: Sendable {
    /// What they do, and what was asked of them.
    struct State: Sendable {
        var weights: PublishedWeights
        /// Leases given before the worker is told to stop.
        var leaseCount = 1
        var lease: Lease
        /// Leases that come after it, the next one first.
        var following: [Lease] = []
        /// What may be asked for by digest.
        var contents: [ContentDigest: TensorSet] = [:]
        /// Failures that come before any answer, by kind, the next one first.
        var failures: [MessageKind: [Failure]] = [:]
        /// What becomes of results, the next one first; then all are accepted.
        var verdicts: [TaskAcknowledgement] = []
        /// What a heartbeat is told is lost; nil: nothing.
        var lost: TaskID?
        /// Whether heartbeats get no answer.
        var isSilent = false
        var scores: Scores
        /// Called before a score is answered.
        var whenScoring: @Sendable () -> Void = {}

        var asked: [MessageKind: Int] = [:]
        var hellos: [Hello] = []
        var requests: [ScoreRequest] = []
        var results: [GroupResult] = []
        var gradients: [GradientResult] = []
        var reports: [TaskFailure] = []
        var silent: [Request] = []
    }

    static let run = RunID(rawValue: "run-1")!  // letters, a digit and a hyphen
    static let group = GroupID(epoch: 4, index: 1)
    let state: SharedState<State>
    let loop: SocketLoop
    let learner: Server
    let rewardServer: Server

    init(_ weights: PublishedWeights) throws {
        let lease = Lease(
            leaseID: LeaseID(rawValue: 7), group: Self.group, prompt: TinyRun.trainingPrompts[0], memberCount: 2,
            weights: weights.reference, discriminatorVersion: DiscriminatorVersion(rawValue: 3),
            expiresInMilliseconds: 60_000)
        let values = TensorPayload(floats: [0.5, 0.25])
        let state = SharedState(
            State(
                weights: weights, lease: lease,
                scores: Scores(
                    discriminatorVersion: DiscriminatorVersion(rawValue: 3), rewards: values,
                    components: ["texture": values])))
        self.state = state
        loop = try SocketLoop()
        let handler: @Sendable (Request) -> Void = { request in
            request.answering { try Self.answer(request, state) }
        }
        learner = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: handler)
        rewardServer = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: handler)
    }

    private static func answer(_ request: Request, _ state: SharedState<State>) throws {
        let failure: Failure? = state.withLock { state in
            state.asked[request.kind, default: 0] += 1
            guard state.failures[request.kind]?.isEmpty == false else { return nil }
            return state.failures[request.kind]?.removeFirst()
        }
        if let failure { throw failure }
        switch request.kind {
        case .hello:
            let hello = try request.decoded(as: Hello.self)
            state.withLock { $0.hellos.append(hello) }
            request.reply(Welcome(runID: run, program: "0.0.1"))
        case .leaseRequest:
            request.reply(
                state.withLock { state -> LeaseAnswer in
                    if state.leaseCount == 0 { return .stop(reason: "enough") }
                    state.leaseCount -= 1
                    defer { if !state.following.isEmpty { state.lease = state.following.removeFirst() } }
                    return .lease(state.lease)
                })
        case .manifestRequest:
            request.reply(
                try state.withLock { try $0.weights.answer(request.decoded(as: ManifestRequest.self)) }, isKept: false)
        case .piecesRequest:
            request.reply(
                try state.withLock { try $0.weights.answer(request.decoded(as: PiecesRequest.self)) }, isKept: false)
        case .heartbeat:
            let acknowledgement = state.withLock { state -> HeartbeatAcknowledgement? in
                if state.isSilent { state.silent.append(request) }
                return state.isSilent ? nil : HeartbeatAcknowledgement(lost: state.lost, nextInMilliseconds: 20)
            }
            if let acknowledgement { request.reply(acknowledgement) }
        case .groupResult:
            let result = try request.decoded(as: GroupResult.self)
            request.reply(
                state.withLock { state in
                    state.results.append(result)
                    return state.verdicts.isEmpty ? TaskAcknowledgement(.accepted) : state.verdicts.removeFirst()
                })
        case .gradientResult:
            let result = try request.decoded(as: GradientResult.self)
            request.reply(
                state.withLock { state in
                    state.gradients.append(result)
                    return state.verdicts.isEmpty ? TaskAcknowledgement(.accepted) : state.verdicts.removeFirst()
                })
        case .contentRequest:
            let asked = try request.decoded(as: ContentRequest.self).content
            guard let content = state.withLock({ $0.contents[asked] }) else {
                throw Failure(code: .staleVersion, message: "no content \(asked)")
            }
            request.reply(Content(content), isKept: false)
        case .taskFailure:
            let report = try request.decoded(as: TaskFailure.self)
            state.withLock { $0.reports.append(report) }
            request.reply(TaskAcknowledgement(.accepted))
        case .scoreRequest:
            let score = try request.decoded(as: ScoreRequest.self)
            let (scores, action) = state.withLock { state in
                state.requests.append(score)
                return (state.scores, state.whenScoring)
            }
            action()
            request.reply(scores)
        default: throw Failure(code: .wrongServer, message: "\(request.kind)")
        }
    }

    /// How often something was asked.
    func count(_ kind: MessageKind) -> Int { state.withLock { $0.asked[kind, default: 0] } }
}

/// A worker of a tiny run between fake servers, and the folder of its data.
final class WorkerBench: Sendable {
    let servers: FakeServers
    let shutdown = ShutdownSignal()
    let policy: DiffusionPolicy
    let settings: Settings
    private let worker: RolloutWorker

    init(_ settings: Settings, journal: RequestJournal? = nil) throws {
        self.settings = settings
        policy = try DiffusionPolicy(
            PolicySource(path: settings.model, engine: OpenBLASEngine.shared, dtype: settings.precision.dtype),
            settings: settings.method.policy, seed: UInt64(settings.seed), embeddings: settings.data.embeddings)
        servers = try FakeServers(
            PublishedWeights(version: PolicyVersion(rawValue: 9), parameters: policy.initialParameters))
        var options = ClientOptions()
        options.role = .rolloutWorker
        worker = try RolloutWorker(
            settings: settings, name: "w", engine: OpenBLASEngine.shared,
            peers: RolloutWorker.Peers(
                learner: try Client(servers.learner.endpoint, on: servers.loop, options: options),
                rewardServer: try Client(servers.rewardServer.endpoint, on: servers.loop, options: options)),
            journal: journal, shutdown: shutdown, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Its own socket.
    var router: Router { worker.router }

    /// Lets it work, and waits for its end.
    func run(patience: Duration = .seconds(20)) throws -> RolloutWorker.Ending { try worker.run(patience: patience) }

    /// Lets it work meanwhile.
    func start() -> Background<RolloutWorker.Ending> {
        Background("worker") { [worker] in try worker.run(patience: .seconds(20)) }
    }

    /// Gives it one lease after a change of what the servers do, which is undone again.
    ///
    /// - Returns: the cause of the one failure that it reports; nil when it does something else.
    func report(_ change: (inout FakeServers.State) -> Void) throws -> String? {
        let before = servers.state.withLock { state in
            let before = state
            change(&state)
            state.leaseCount = 1
            return before
        }
        guard try run() == .stopped(reason: "enough") else { return nil }
        return servers.state.withLock { state in
            (state.lease, state.scores, state.weights) = (before.lease, before.scores, before.weights)
            guard state.reports.count == before.reports.count + 1, state.results.count == before.results.count,
                state.reports.last?.leaseID == before.lease.leaseID
            else { return nil }
            return state.reports.last?.cause
        }
    }

    func end() {
        shutdown.request("the test is over")
        servers.loop.shutdownBlocking()
    }
}

/// Gives a test a worker and the servers it asks.
func withWorker(journal: RequestJournal? = nil, _ body: (WorkerBench, FakeServers) throws -> Void) throws {
    try withTemporaryFolder { folder in
        let bench = try WorkerBench(TinyRun.load(in: folder), journal: journal)
        defer { bench.end() }
        try body(bench, bench.servers)
    }
}
