import AdvGRPO
import ComputeRoles
import Configuration
import Logging
import Processes
import Protocol
import TensorCore
import TestSupport
import Testing
import TinyRun
import Transport
import WeightsTransfer

@testable import RewardServer

/// A reward server of a tiny run with its socket and its compute thread, and what a learner and a worker ask of it.
final class RewardBench {
    static let run = RunID(rawValue: "run-1")!  // letters, a digit and a hyphen
    let settings: Settings
    let shutdown = ShutdownSignal()
    let learner: Client
    let worker: Client
    private let loop: SocketLoop
    private let server: RewardServer
    private let socket: Server
    private var computing: Background<Void>?

    init(_ settings: Settings, journal: RequestJournal? = nil) throws {
        self.settings = settings
        let loop = try SocketLoop()
        server = try RewardServer(
            settings: settings, engine: OpenBLASEngine.shared, loop: loop, shutdown: shutdown,
            journal: journal,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        let socket = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: server.router.handle)
        (self.loop, self.socket) = (loop, socket)
        func client(_ role: Role) throws -> Client {
            var options = ClientOptions()
            options.role = role
            return try Client(socket.endpoint, on: loop, options: options)
        }
        (learner, worker) = (try client(.learner), try client(.rolloutWorker))
    }

    /// Starts the compute thread.
    func compute() {
        computing = Background("reward server") { [server, socket] in server.run { socket.join($0) } }
    }

    /// Waits for the compute thread's end.
    func finish() throws { try computing?.value() }

    /// Ends all of it.
    func end() throws {
        shutdown.request("the test is over")
        try finish()
        loop.shutdownBlocking()
    }

    // MARK: What a learner asks

    /// The introduction of a learner with these settings and models.
    func hello(settings digest: String? = nil, models: [String: String] = [:]) -> Hello {
        Hello(
            role: .learner, name: "learner",
            process: ProcessDescription(host: "here", processID: 1, processor: "", engine: "", program: "0.0.0"),
            settingsDigest: digest ?? settings.methodDigest, models: models)
    }

    /// Has the untrained discriminator, or a state, put in service.
    func restore(_ version: Int = 0, _ state: TensorSet = TensorSet()) throws {
        _ = try learner.restoreDiscriminator(DiscriminatorVersion(rawValue: version), state, runID: Self.run)
    }

    func open(_ epoch: Int) throws { try ask(learner, EpochOpening(epoch: epoch)) }

    func state(_ version: Int) throws -> TensorSet {
        try learner.discriminatorState(DiscriminatorVersion(rawValue: version))
    }

    /// Orders a training of an epoch's two groups.
    func train(_ epoch: Int, from version: Int, steps: Int = 2) throws -> DiscriminatorTrained {
        try ask(
            learner,
            DiscriminatorTraining(
                epoch: epoch, fromVersion: DiscriminatorVersion(rawValue: version),
                groups: (0..<2).map { GroupID(epoch: epoch, index: $0) }, steps: steps))
    }

    // MARK: What a worker asks

    /// The request for a group's scores, with the prompt that the run's order gives it and images of its own.
    func request(_ group: GroupID, version: Int? = nil) throws -> ScoreRequest {
        let order = try PromptOrder(settings, promptCount: TinyRun.trainingPrompts.count)
        let pixels = (0..<2 * 64 * 64 * 3).map {
            UInt8(truncatingIfNeeded: $0 &* (7 + group.epoch) &+ 31 * group.index)
        }
        return ScoreRequest(
            group: group, prompt: TinyRun.trainingPrompts[order.prompts(epoch: group.epoch)[group.index]],
            discriminatorVersion: version.map(DiscriminatorVersion.init(rawValue:)),
            images: TensorPayload(uint8s: pixels, shape: [2, 64, 64, 3]))
    }

    /// Scores of an epoch's groups.
    func scores(_ epoch: Int, version: Int? = nil) throws -> [Scores] {
        try (0..<2).map { try ask(worker, request(GroupID(epoch: epoch, index: $0), version: version)) }
    }

    func health() throws -> Health { try ask(worker, HealthRequest()) }

    @discardableResult
    func ask<Request: WireRequest>(
        _ client: Client, _ request: Request, within deadline: Duration = .seconds(30)
    ) throws -> Request.Reply { try client.requestBlocking(request, deadline: deadline) }
}

/// Gives a test a reward server whose compute thread runs unless it is told not to.
func withRewardServer(
    computes: Bool = true, overrides: [String] = [], _ body: (RewardBench) throws -> Void
) throws {
    try withTemporaryFolder { folder in
        let bench = try RewardBench(TinyRun.load(in: folder, overrides: overrides))
        if computes { bench.compute() }
        defer { #expect(throws: Never.self) { try bench.end() } }
        try body(bench)
    }
}

/// The code of the `Failure` that `body` throws, or nil.
func failure(_ body: () throws -> Void) -> FailureCode? {
    do {
        try body()
        return nil
    } catch {
        return (error as? Failure)?.code
    }
}
