import Foundation
import Protocol
import SafeTensors
import Testing

@testable import Processes
@testable import Transport

/// Over real sockets.
@Suite("Router", .timeLimit(.minutes(1)))
struct RouterTests {
    private static let group = GroupID(epoch: 0, index: 0)
    private static let zeros = [UInt8](repeating: 0, count: 32)
    private static let order = GradientOrder(
        update: 0, sampleCount: 1, trajectory: ContentDigest(bytes: [UInt8](repeating: 0, count: 16)))
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
        TaskFailure(worker: "w", leaseID: LeaseID(rawValue: 0), task: .rollout(group), cause: ""),
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
        PiecesRequest(pieces: [PieceDigest(bytes: [UInt8](repeating: 0, count: 16))]),
        EpochOpening(epoch: 0),
        RewardRequest(
            reward: "r", group: group, prompt: "p", wantsMaps: false,
            images: TensorPayload(uint8s: [0, 0, 0], shape: [1, 1, 1, 3])),
        GradientResult(
            of: Lease(
                leaseID: LeaseID(rawValue: 0), group: group, prompt: "p", memberCount: 1,
                weights: WeightsReference(
                    version: PolicyVersion(rawValue: 0), digest: WeightsDigest(bytes: zeros),
                    manifest: ManifestDigest(bytes: zeros)), expiresInMilliseconds: 1),
            order, by: "w", gradient: [:], digest: order.trajectory,
            statistics: GradientStatistics(
                sampleCount: 1, ratioCount: 1, loss: 0, distance: 0, squaredChange: 0, ratio: 1, above: 0, below: 0,
                smallestRatio: 1, largestRatio: 1, drifts: []),
            seconds: [:]),
        ContentRequest(content: order.trajectory),
    ]

    /// Handlers of every kind, which say that they were reached.
    private static let routes: [Route] = requests.map { route($0) }

    private static func route<Message: WireRequest>(_ message: Message) -> Route {
        Route(Message.self) { (_: Message, _: Request) in
            throw Failure(code: FailureCode(rawValue: "reached"), message: "")
        }
    }

    private static let health: @Sendable () async -> RoleHealth = { RoleHealth(serving: true, reason: "") }

    /// The clock of a role that does nothing.
    private static var clock: RoleClock<RelayActivity> { RoleClock(.idle) }

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
            let router = Router(receiver, clock: Self.clock, shutdown: ShutdownSignal(), own, health: Self.health)
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
        let router = Router(.learner, clock: Self.clock, shutdown: shutdown, own, health: Self.health)
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
            let router = Router(.relay, clock: Self.clock, shutdown: shutdown, [], health: Self.health)
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
            .rewardServer, clock: Self.clock, shutdown: ShutdownSignal(),
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

    /// A heartbeat as a broken worker would send it.
    private struct BrokenHeartbeat: WireRequest {
        typealias Reply = HeartbeatAcknowledgement
        static let kind = MessageKind.heartbeat
        var worker = 7
    }

    private static let acknowledgement = HeartbeatAcknowledgement()

    private static func requests(_ server: Server, _ loop: SocketLoop) async throws -> [String: Health.Requests] {
        try await client(server, loop, .operator).request(HealthRequest(), deadline: .seconds(30)).requests
    }

    /// Sends many heartbeats at once.
    ///
    /// - Returns: seconds until all are answered.
    private static func beat(_ count: Int, _ client: Client) async throws -> Double {
        let begin = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<count {
                group.addTask {
                    _ = try await client.request(Heartbeat(worker: "w", state: .waiting), deadline: .seconds(30))
                }
            }
            try await group.waitForAll()
        }
        return (ContinuousClock.now - begin).seconds
    }

    @Test(
        "latency counts from arrival: what waits behind a slow handler, or in its role's queue, has waited",
        arguments: [true, false])
    func latency(isAtDoor: Bool) async throws {
        let (loop, peers) = (try SocketLoop(), try SocketLoop())
        let queue = DispatchQueue(label: "work")
        let route = Route(Heartbeat.self) { (_: Heartbeat, request: Request) in
            let work: @Sendable () -> Void = {
                usleep(10_000)
                request.reply(Self.acknowledgement)
            }
            if isAtDoor { work() } else { queue.async(execute: work) }
        }
        let router = Router(.learner, clock: Self.clock, shutdown: ShutdownSignal(), [route], health: Self.health)
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: router.handle)
        let worker = try Self.client(server, peers, .rolloutWorker)
        // More than the door takes in one round; the last has waited for all of them.
        let passed = try await Self.beat(40, worker)
        let beats = try #require(try await Self.requests(server, peers)["heartbeat"])
        #expect(beats.answered == 40 && beats.busy + beats.refused + beats.rejected == 0)
        let latency = try #require(beats.latency)
        #expect((380...passed * 1050 + 1).contains(latency.p99Milliseconds), "\(latency), \(passed) s passed")
        // Replies to what a round took in leave after it, so at the door they have all waited for the others.
        let half = latency.p99Milliseconds * (isAtDoor ? 1 : 0.7)
        #expect((150...half).contains(latency.p50Milliseconds), "\(latency)")
        await peers.shutdown()
        await loop.shutdown()
    }

    @Test("requests that are turned away, refused or malformed are counted by their kind, and wait for nobody")
    func counts() async throws {
        let (loop, peers) = (try SocketLoop(), try SocketLoop())
        let routes = [
            Route(Heartbeat.self) { _ in Self.acknowledgement },
            Route(LeaseRequest.self) { (_: LeaseRequest, _: Request) in throw Failure(code: .busy, message: "") },
            Route(TaskFailure.self) { (_: TaskFailure, _: Request) in throw Failure(code: .failed, message: "") },
        ]
        let router = Router(.learner, clock: Self.clock, shutdown: ShutdownSignal(), routes, health: Self.health)
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: router.handle)
        let worker = try Self.client(server, peers, .rolloutWorker)
        #expect(try await Self.outcome(Heartbeat(worker: "w", state: .waiting), worker) == "answered")
        for _ in 0..<2 { #expect(try await Self.outcome(BrokenHeartbeat(), worker) == "malformedFields") }
        #expect(try await Self.outcome(StopRequest(drain: false, reason: ""), worker) == "notAllowed")
        #expect(try await Self.outcome(LeaseRequest(worker: "w"), worker) == "busy")
        #expect(
            try await Self.outcome(
                TaskFailure(worker: "w", leaseID: LeaseID(rawValue: 0), task: .rollout(Self.group), cause: ""), worker)
                == "failed")
        let requests = try await Self.requests(server, peers)
        func counts(_ kind: MessageKind) -> [Int] {
            requests["\(kind)"].map { [$0.answered, $0.busy, $0.refused, $0.rejected] } ?? []
        }
        #expect(counts(.heartbeat) == [1, 0, 0, 2])
        #expect(counts(.stopRequest) == [0, 0, 1, 0])
        #expect(counts(.leaseRequest) == [0, 1, 0, 0] && requests["leaseRequest"]?.latency == nil)
        #expect(counts(.taskFailure) == [0, 0, 1, 0] && requests["taskFailure"]?.latency != nil)
        // The question itself is answered after the counting.
        #expect(Set(requests.keys) == ["heartbeat", "stopRequest", "leaseRequest", "taskFailure"])
        await peers.shutdown()
        await loop.shutdown()
    }
}
