import Foundation
import Protocol
import SafeTensors
import Synchronization
import TestSupport
import Testing

@testable import Transport

@Suite("Lost servers, repetitions, deadlines", .serialized, .timeLimit(.minutes(2)))
struct RecoveryTests {
    @Test(
        "a client survives its server: requests before, during and after its absence",
        arguments: [Link.ipc, .longIPC, .tcp])
    func restart(link: Link) async throws {
        let folder = try TemporaryFolder()
        var endpoint = try Endpoint(link == .tcp ? "tcp://127.0.0.1:0" : "ipc://\(folder.path(link))/s")
        let clientLoop = try SocketLoop()
        let first = try SocketLoop()
        let silent = Log<Request>()
        let server = try Server(endpoint, on: first) { request in
            // Health is answered; scores are accepted and die with the server.
            if request.kind == .healthRequest { answer(request) } else { silent.add(request) }
        }
        endpoint = server.endpoint
        // Only the new connection can be the reason for sending again within the time.
        var options = ClientOptions()
        options.resendInterval = .seconds(200)
        let client = try Client(endpoint, on: clientLoop, options: options)
        _ = try await client.request(HealthRequest(), deadline: .seconds(100))
        let request = scoreRequest()
        async let lost = client.request(request, deadline: .seconds(100))
        #expect(await eventually { silent.count == 1 })
        await first.shutdown()
        silent.take().forEach { $0.fail(Failure(code: FailureCode(rawValue: "late"), message: "after the end")) }
        async let during = client.request(HealthRequest(), deadline: .seconds(100))
        try await Task.sleep(for: .milliseconds(300))
        let second = try SocketLoop()
        let again = try Server(endpoint, on: second, handler: answer)
        #expect(try await lost == scores(for: request))
        #expect(try await during == health())
        #expect(again.statistics.requestCount == 2)
        await clientLoop.shutdown()
        await second.shutdown()
    }

    @Test("a client may start before its server", arguments: [Link.ipc, .longIPC, .tcp])
    func clientFirst(link: Link) async throws {
        let folder = try TemporaryFolder()
        let loop = try SocketLoop()
        // A free port: one that has just been given up.
        let scout = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: answer)
        let endpoint = link == .tcp ? scout.endpoint : try Endpoint("ipc://\(folder.path(link))/s")
        scout.close()
        let client = try Client(endpoint, on: loop)
        async let reply = client.request(HealthRequest(), deadline: .seconds(100))
        try await Task.sleep(for: .milliseconds(300))
        let server = try Server(endpoint, on: loop, handler: answer)
        #expect(try await reply == health())
        #expect(server.statistics.requestCount == 1)
        await loop.shutdown()
    }

    @Test("a repeated request is done once: while in progress, and after it is finished")
    func repetitions() async throws {
        let waiting = Log<Request>()
        let bench = try Bench(.tcp) { waiting.add($0) }
        let message = try EncodedMessage(
            HealthRequest(), runID: nil, clientID: ClientID(rawValue: "python-1"), requestID: 5)
        let peer = try RawPeer(bench.server.endpoint)
        peer.send(message.frames)
        peer.send(message.frames)
        #expect(await eventually { bench.server.statistics.repetitionCount == 1 })
        // The same client over another connection: the reply goes to the latest.
        let elsewhere = try RawPeer(bench.server.endpoint)
        elsewhere.send(message.frames)
        #expect(await eventually { bench.server.statistics.repetitionCount == 2 })
        #expect(waiting.count == 1)
        waiting.all[0].reply(health(queueDepth: 42))
        #expect(try elsewhere.reply()?.decoded(as: Health.self) == health(queueDepth: 42))
        peer.send(message.frames)
        #expect(try peer.reply()?.decoded(as: Health.self) == health(queueDepth: 42))
        #expect(waiting.count == 1)
        #expect(bench.server.statistics.requestCount == 1)
        // The same id for something else is a mistake, and said to be one.
        peer.send(
            try EncodedMessage(
                StatusRequest(), runID: nil, clientID: ClientID(rawValue: "python-1"), requestID: 5
            ).frames)
        #expect(try peer.reply()?.decoded(as: Failure.self).code == .badFraming)
        // Another client's request 5 is another request.
        peer.send(try EncodedMessage(HealthRequest(), runID: nil, requestID: 5).frames)
        #expect(await eventually { waiting.count == 2 })
        await bench.end()
    }

    @Test("a slow server is asked again and still does the work once")
    func slowServer() async throws {
        let waiting = Log<Request>()
        let bench = try Bench(.ipc) { waiting.add($0) }
        let client = try bench.client { $0.resendInterval = .milliseconds(20) }
        async let reply = client.request(HealthRequest(), deadline: .seconds(100))
        #expect(await eventually { bench.server.statistics.repetitionCount >= 4 })
        #expect(waiting.count == 1)
        // By now the client has also changed its socket; the reply finds it.
        try await Task.sleep(for: .milliseconds(300))
        waiting.take().forEach { $0.reply(health()) }
        #expect(try await reply == health())
        await bench.end()
    }

    @Test("a deadline error names the kind, the peer, the wait, and what is known of the peer")
    func deadlines() async throws {
        let bench = try Bench(.tcp) { request in
            Task {
                try? await Task.sleep(for: .seconds(2)); request.reply(health())
            }
        }
        let client = try bench.client()
        let silent = await failure(TransportError.self) {
            _ = try await client.request(HealthRequest(), deadline: .milliseconds(200))
        }
        #expect(silent?.code == .deadlineExceeded)
        #expect(
            silent?.description
                == "no reply to healthRequest from \(bench.server.endpoint) within 200 ms: it is connected but has not replied; "
                + "see its log, or ask for its health")
        let nobody = try Client(Endpoint("tcp://127.0.0.1:1"), on: bench.clientLoop)
        let absent = await failure(TransportError.self) {
            _ = try nobody.requestBlocking(HealthRequest(), deadline: .milliseconds(200))
        }
        #expect(absent?.description.contains("within 200 ms: nobody has answered there yet") == true)
        await bench.end()
    }

    @Test("cancelling a task ends its wait at once")
    func cancellation() async throws {
        let waiting = Log<Request>()
        let bench = try Bench(.inproc) { waiting.add($0) }
        let client = try bench.client()
        let task = Task { try await client.request(HealthRequest(), deadline: .seconds(100)) }
        #expect(await eventually { waiting.count == 1 })
        task.cancel()
        #expect(await failure(CancellationError.self) { _ = try await task.value } != nil)
        await bench.end()
    }

    @Test("a request that is let go is answered with a failure")
    func droppedRequest() async throws {
        let bench = try Bench(.inproc) { _ in }
        let client = try bench.client()
        let error = await failure(Failure.self) {
            _ = try await client.request(HealthRequest(), deadline: .seconds(100))
        }
        #expect(error?.code == .internal)
        await bench.end()
    }

    @Test("a reply that breaks its own rules becomes a failure, not silence")
    func invalidReply() async throws {
        let bench = try Bench(.inproc) { request in
            request.reply(
                Scores(discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: TensorPayload(floats: [.nan])))
        }
        let client = try bench.client()
        let error = await failure(Failure.self) {
            _ = try await client.request(scoreRequest(), deadline: .seconds(100))
        }
        #expect(error == Failure(code: .invalidValue, message: "tensor rewards holds nan at element 0"))
        await bench.end()
    }
}

@Suite("Ends", .serialized, .timeLimit(.minutes(2)))
struct ShutdownTests {
    @Test("loops end in either order with requests in progress on both sides", arguments: Link.allCases, [true, false])
    func order(link: Link, clientFirst: Bool) async throws {
        let waiting = Log<Request>()
        let bench = try Bench(link) { waiting.add($0) }
        let client = try bench.client()
        async let reply = failure(TransportError.self) {
            _ = try await client.request(scoreRequest(members: 10, side: 300), deadline: .seconds(100))
        }
        #expect(await eventually { waiting.count == 1 })
        let begin = ContinuousClock.now
        if clientFirst {
            await bench.clientLoop.shutdown()
            await bench.serverLoop.shutdown()
        } else {
            await bench.serverLoop.shutdown()
            await bench.clientLoop.shutdown()
        }
        #expect(ContinuousClock.now - begin < .seconds(50))
        #expect(await reply?.code == .closed)
        waiting.take().forEach { $0.reply(health()) }
        #expect(
            await failure(TransportError.self) {
                _ = try client.requestBlocking(HealthRequest(), deadline: .seconds(5))
            }?.code == .closed)
        await bench.clientLoop.shutdown()
        bench.serverLoop.shutdownBlocking()
        #expect(await failure(TransportError.self) { _ = try bench.client() }?.code == .closed)
    }

    @Test("the last reply leaves although the loop ends right after it", arguments: [Link.ipc, .tcp, .curve])
    func lastReply(link: Link) async throws {
        let bench = try Bench(link) { request in request.reply(StopAcknowledgement()) }
        let client = try bench.client()
        async let reply = client.request(StopRequest(drain: false, reason: "test"), deadline: .seconds(100))
        #expect(await eventually { bench.server.statistics.replyCount >= 1 })
        await bench.serverLoop.shutdown()
        #expect(try await reply == StopAcknowledgement())
        await bench.clientLoop.shutdown()
    }

    @Test(
        "a reply that has arrived counts, also when its connection ends before it is read",
        arguments: [Link.ipc, .tcp, .curve])
    func replyBeforeEnd(link: Link) async throws {
        let waiting = Log<Request>()
        let bench = try Bench(link) { waiting.add($0) }
        // Nobody is left to answer a repetition.
        let client = try bench.client { $0.resendInterval = .seconds(200) }
        async let reply = client.request(StopRequest(drain: false, reason: "test"), deadline: .seconds(20))
        #expect(await eventually { waiting.count == 1 })
        // Reply and end come while the client's thread does something else.
        let isBusy = Atomic(false)
        bench.clientLoop.submit { _ in
            isBusy.store(true, ordering: .relaxed)
            usleep(500_000)
        }
        #expect(await eventually { isBusy.load(ordering: .relaxed) })
        waiting.take().forEach { $0.reply(StopAcknowledgement()) }
        await bench.serverLoop.shutdown()
        #expect(try await reply == StopAcknowledgement())
        await bench.clientLoop.shutdown()
    }
}
