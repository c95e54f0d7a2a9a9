import Protocol
import SafeTensors
import Testing

@testable import Transport

@Suite("Requests and replies, over every link", .serialized, .timeLimit(.minutes(2)))
struct ConformanceTests {
    @Test("a request gets its reply, asynchronously and blocking", arguments: Link.allCases)
    func echo(link: Link) async throws {
        let bench = try Bench(link)
        let client = try bench.client()
        #expect(try await client.request(HealthRequest(), deadline: .seconds(100)) == health())
        let request = scoreRequest(seed: 7)
        #expect(try await client.request(request, deadline: .seconds(100)) == scores(for: request))
        #expect(try client.requestBlocking(request, deadline: .seconds(100)) == scores(for: request))
        #expect(bench.server.statistics.requestCount == 3)
        #expect(await eventually { bench.server.statistics.replyCount == 3 })
        let kinds = bench.server.statistics.kinds
        #expect(kinds.mapValues(\.answeredCount) == [.healthRequest: 1, .scoreRequest: 2])
        #expect(kinds.values.allSatisfy { $0.latencies.count == $0.answeredCount })
        await bench.end()
    }

    @Test("a thousand concurrent requests each get their own reply, done once", arguments: Link.allCases)
    func concurrent(link: Link) async throws {
        let done = Log<Int>()
        let bench = try Bench(link) { request in
            done.add(1)
            answer(request)
        }
        let clients = [try bench.client(), try bench.client()]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<1000 {
                group.addTask {
                    let request = scoreRequest(seed: UInt8(number % 251), members: 1, side: 2)
                    let reply = try await clients[number % 2].request(request, deadline: .seconds(100))
                    #expect(reply == scores(for: request))
                }
            }
            try await group.waitForAll()
        }
        #expect(done.count == 1000)
        await bench.end()
    }

    @Test("20 MiB of images arrive unchanged, and so do the replies", arguments: Link.allCases)
    func large(link: Link) async throws {
        let bench = try Bench(link)
        let client = try bench.client()
        let request = scoreRequest(seed: 3, members: 10, side: 840)
        #expect(request.images.bytes.count > 20 << 20)
        for _ in 0..<2 {
            #expect(try await client.request(request, deadline: .seconds(100)) == scores(for: request))
        }
        await bench.end()
    }

    @Test("a large reply arrives unchanged", arguments: Link.allCases)
    func largeReply(link: Link) async throws {
        let weights = SharedBytes(copying: (0..<2 << 20).map { Float($0) })
        let bench = try Bench(link) { $0.reply(Pieces([weights])) }
        let request = PiecesRequest(pieces: [PieceDigest(bytes: [UInt8](repeating: 9, count: 16))])
        let reply = try await bench.client().request(request, deadline: .seconds(100))
        #expect(reply.pieces == [weights])
        await bench.end()
    }

    @Test("several requests of one thread are on their way at a time; those nobody waits for are forgotten")
    func pipelined() async throws {
        let waiting = Log<Request>()
        let bench = try Bench(.tcp) { waiting.add($0) }
        let client = try bench.client { $0.maximumPendingCount = 4 }
        let seeds: [UInt8] = [1, 2, 3]
        var pending = try seeds.map { try client.begin(scoreRequest(seed: $0), deadline: .seconds(100)) }
        #expect(await eventually { waiting.count == 3 })
        for request in waiting.take().reversed() { answer(request) }
        for (seed, reply) in zip(seeds, pending) {
            #expect(try reply.wait() == scores(for: scoreRequest(seed: seed)))
        }
        pending = try seeds.map { try client.begin(scoreRequest(seed: $0), deadline: .seconds(100)) }
        #expect(await eventually { waiting.count == 3 })
        // Held until here: a value may go with its last use.
        withExtendedLifetime(pending) {}
        pending = []
        // Four more would be too many if the three were remembered.
        pending = try (seeds + [4]).map { try client.begin(scoreRequest(seed: $0), deadline: .seconds(100)) }
        #expect(await eventually { waiting.count == 7 })
        for request in waiting.take() { answer(request) }
        for reply in pending { _ = try reply.wait() }
        await bench.end()
    }

    @Test("a failure is thrown with the server's words", arguments: Link.allCases)
    func failures(link: Link) async throws {
        let bench = try Bench(link)
        let client = try bench.client()
        let error = await failure(Failure.self) {
            _ = try await client.request(StatusRequest(), deadline: .seconds(100))
        }
        #expect(
            error
                == Failure(
                    code: FailureCode(rawValue: "unsupported"), message: "no statusRequest here",
                    remedy: "ask elsewhere"))
        await bench.end()
    }

    @Test("with keys, the server knows who asks")
    func user() async throws {
        let peers = Log<Request.Peer>()
        let bench = try Bench(.curve) { request in
            peers.add(request.peer)
            answer(request)
        }
        let client = try bench.client()
        _ = try await client.request(HealthRequest(), deadline: .seconds(100))
        #expect(peers.all.first?.user == "worker-1")
        #expect(peers.all.first?.id == client.id.rawValue)
        #expect(peers.all.first?.address == "127.0.0.1")
        await bench.end()
    }
}
