import Foundation
import Protocol
import SafeTensors
import Testing

@testable import Runtime
@testable import Transport

/// Over real sockets.
@Suite("Router", .timeLimit(.minutes(1)))
struct RouterTests {
    private static let group = GroupID(epoch: 0, index: 0)
    private static let zeros = [UInt8](repeating: 0, count: 32)
    private static let version = DiscriminatorVersion(rawValue: 0)

    /// A request of every kind that there is.
    private static let requests: [any WireRequest] = [
        Hello(
            role: .learner, name: "n",
            process: ProcessDescription(host: "", processID: 0, processor: "", engine: "", program: ""),
            settingsDigest: "", models: [:]),
        LeaseRequest(worker: "w"),
        GroupResult(
            of: Lease(
                leaseID: LeaseID(rawValue: 0), group: group, prompt: "p", memberCount: 1,
                weights: WeightsReference(
                    version: PolicyVersion(rawValue: 0), digest: WeightsDigest(bytes: zeros),
                    manifest: ManifestDigest(bytes: zeros)), expiresInMilliseconds: 1),
            by: "w",
            GroupResult.Trajectory(
                latents: TensorPayload(floats: [0, 0], shape: [1, 2, 1, 1, 1]),
                logProbabilities: TensorPayload(floats: [0], shape: [1, 1]), stepIndices: TensorPayload(int32s: [0])),
            Scores(discriminatorVersion: version, rewards: TensorPayload(floats: [0])), seconds: [:]),
        GroupFailure(worker: "w", leaseID: LeaseID(rawValue: 0), group: group, cause: ""),
        Heartbeat(worker: "w", state: .waiting),
        ScoreRequest(
            group: group, prompt: "p", images: TensorPayload(uint8s: [0, 0, 0], shape: [1, 1, 1, 3])),
        DiscriminatorTraining(epoch: 0, fromVersion: version, groups: [group], steps: 1),
        DiscriminatorStateRequest(version: version, chunkIndex: 0),
        DiscriminatorRestore(
            version: version, chunkIndex: 0, chunkCount: 1, runID: RunID(rawValue: "r")!,
            chunk: TensorChunk(tensors: TensorSet())),
        HealthRequest(), StatusRequest(), StopRequest(drain: false, reason: "test"),
        ManifestRequest(manifest: ManifestDigest(bytes: zeros)),
        PiecesRequest(pieces: [PieceDigest(bytes: [UInt8](repeating: 0, count: 16))]), EpochOpening(epoch: 0),
    ]

    /// Handlers of every kind, which say that they were reached.
    private static let routes: [Route] = requests.map { route($0) }

    private static func route<Message: WireRequest>(_ message: Message) -> Route {
        Route(Message.self) { (_: Message, _: Request) in
            throw Failure(code: FailureCode(rawValue: "reached"), message: "")
        }
    }

    private static func health(_ request: Request) {
        request.reply(
            Health(
                role: .relay, serving: true, reason: "", runID: nil, version: nil, uptimeSeconds: 0, memoryBytes: 0,
                queueDepth: 0))
    }

    /// What becomes of a request: the failure's code, or "answered".
    private static func outcome(_ message: some WireRequest, _ client: Client) async throws -> String {
        do {
            _ = try await client.request(message, deadline: .seconds(30))
            return "answered"
        } catch let failure as Failure {
            return failure.code.rawValue
        }
    }

    private static func client(_ server: Server, _ loop: SocketLoop, _ role: Role) throws -> Client {
        var options = ClientOptions()
        options.role = role
        return try Client(server.endpoint, on: loop, options: options)
    }

    @Test("every kind of request from every role gets through to those roles that the table names, and to no others")
    func table() async throws {
        #expect(Set(Self.requests.map { type(of: $0).kind }) == Set(Permission.table.map(\.kind)))
        let loop = try SocketLoop()
        for receiver in Role.allCases where receiver != .operator {
            let own = Self.routes.filter { ![.healthRequest, .stopRequest].contains($0.kind) }
            let router = Router(receiver, shutdown: ShutdownSignal(), own, health: Self.health)
            let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: router.handle)
            for sender in Role.allCases {
                let client = try Self.client(server, loop, sender)
                for message in Self.requests {
                    let kind = type(of: message).kind
                    let outcome = try await Self.outcome(message, client)
                    let passes = [.healthRequest, .stopRequest].contains(kind) ? "answered" : "reached"
                    let isAllowed = Permission.allows(kind, from: sender, to: receiver)
                    #expect(outcome == (isAllowed ? passes : "notAllowed"), "\(kind) from \(sender) to \(receiver)")
                }
                client.close()
            }
        }
        await loop.shutdown()
    }

    @Test("with keys the role is the key's: one that says it is another is refused, as is one without the right")
    func keys() async throws {
        let loop = try SocketLoop()
        let (serverKeys, workerKeys) = (try CurveKeyPair.generate(), try CurveKeyPair.generate())
        var options = ServerOptions()
        options.security = .curve(
            serverKeys, allowed: CurveAllowList([workerKeys.publicKey: .init(name: "w", role: .rolloutWorker)]))
        let own = Self.routes.filter { ![.healthRequest, .stopRequest].contains($0.kind) }
        let shutdown = ShutdownSignal()
        let router = Router(.learner, shutdown: shutdown, own, health: Self.health)
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, options: options, handler: router.handle)
        func client(_ said: Role) throws -> Client {
            var options = ClientOptions()
            options.role = said
            options.security = .curve(server: serverKeys.publicKey, own: workerKeys)
            return try Client(server.endpoint, on: loop, options: options)
        }
        let worker = try client(.rolloutWorker)
        #expect(try await Self.outcome(HealthRequest(), worker) == "answered")
        #expect(try await Self.outcome(Heartbeat(worker: "w", state: .waiting), worker) == "reached")
        #expect(try await Self.outcome(StatusRequest(), worker) == "notAllowed")
        #expect(try await Self.outcome(StopRequest(drain: false, reason: "mine"), worker) == "notAllowed")
        // Whoever says nothing has its key's role, too.
        #expect(
            try await Self.outcome(StopRequest(drain: false, reason: "mine"), try client(.operator)) == "notAllowed")
        #expect(try await Self.outcome(HealthRequest(), try client(.relay)) == "notAllowed")
        #expect(!shutdown.isRequested && !shutdown.isDraining)
        await loop.shutdown()
    }

    @Test("an operator stops a role at once, or after what it is at")
    func stop() async throws {
        let loop = try SocketLoop()
        for drains in [false, true] {
            let shutdown = ShutdownSignal()
            let router = Router(.relay, shutdown: shutdown, [], health: Self.health)
            let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: router.handle)
            let client = try Self.client(server, loop, .operator)
            #expect(try await Self.outcome(StopRequest(drain: drains, reason: "night"), client) == "answered")
            #expect(shutdown.reason == (drains ? nil : "night") && shutdown.drainReason == (drains ? "night" : nil))
            // Whoever only waits is woken by both.
            await shutdown.wait()
            #expect(
                try await Self.outcome(
                    ManifestRequest(manifest: .init(bytes: [UInt8](repeating: 0, count: 32))), client) == "notAllowed")
            let worker = try Self.client(server, loop, .rolloutWorker)
            #expect(
                try await Self.outcome(
                    ManifestRequest(manifest: .init(bytes: [UInt8](repeating: 0, count: 32))), worker) == "wrongServer")
        }
        await loop.shutdown()
    }

    @Test("who introduces itself as another role than its own is refused")
    func introduction() async throws {
        let loop = try SocketLoop()
        let router = Router(
            .rewardServer, shutdown: ShutdownSignal(),
            [
                Route(Hello.self) { hello, request in
                    try hello.check(request.peer)
                    throw Failure(code: FailureCode(rawValue: "reached"), message: "")
                }
            ], health: Self.health)
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: router.handle)
        let learner = try Self.client(server, loop, .learner)
        var hello = try #require(Self.requests[0] as? Hello)
        #expect(try await Self.outcome(hello, learner) == "reached")
        hello.role = .rolloutWorker
        #expect(try await Self.outcome(hello, learner) == "notAllowed")
        await loop.shutdown()
    }
}
