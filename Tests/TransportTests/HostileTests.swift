import CZeroMQ
import Foundation
import LibC
import Protocol
import SafeTensors
import TestSupport
import Testing

@testable import Transport

@Suite("Strangers, garbage and misuse", .serialized, .timeLimit(.minutes(2)))
struct HostileTests {
    @Test("garbage is counted, reported once a peer, and disturbs nobody", arguments: [Link.ipc, .tcp, .inproc])
    func garbage(link: Link) async throws {
        let rejections = Log<Rejection>()
        let handled = Log<MessageKind>()
        let bench = try Bench(link, options: .with { $0.onRejection = { rejections.add($0) } }) { request in
            handled.add(request.kind)
            answer(request)
        }
        let peer = try RawPeer(bench.server.endpoint)
        let junk = SharedBytes(copying: (0..<200).map { UInt8(truncatingIfNeeded: $0 &* 37) })
        peer.send([SharedBytes()])
        peer.send([junk])
        peer.send([junk, junk, junk])
        peer.send([SharedBytes(), SharedBytes(), SharedBytes()])
        peer.send([SharedBytes](repeating: junk, count: 40))
        let good = try EncodedMessage(HealthRequest(), runID: nil, requestID: 9)
        peer.send([good.envelope.bytes, good.header])
        #expect(await eventually { bench.server.statistics.rejectedCount == 6 })
        // What has our envelope is told what is wrong with the rest.
        peer.send([good.envelope.bytes, junk, SharedBytes()])
        let reply = try #require(try peer.reply())
        #expect(reply.envelope.requestID == 9)
        #expect([FailureCode.malformedTensors, .limitExceeded].contains(try reply.decoded(as: Failure.self).code))
        var future = good.envelope.bytes.array
        future[4] = UInt8(Envelope.version) + 1
        peer.send([SharedBytes(copying: future), good.header, SharedBytes()])
        #expect(try peer.reply()?.decoded(as: Failure.self).code == .unsupportedVersion)
        var reflected = good
        reflected.envelope.isReply = true
        peer.send(reflected.frames)
        #expect(await eventually { bench.server.statistics.rejectedCount == 9 })
        #expect(rejections.count == 1)
        // The same peer is still served when it behaves, and so is everybody else.
        peer.send(good.frames)
        #expect(try peer.reply()?.decoded(as: Health.self) == health())
        #expect(try await bench.client().request(HealthRequest(), deadline: .seconds(100)) == health())
        #expect(handled.count == 2)
        await bench.end()
    }

    @Test("bytes that are no ZeroMQ at all disturb nobody")
    func rawSocket() async throws {
        let bench = try Bench(.tcp)
        guard case .tcp(_, let port) = bench.server.endpoint.address else { return }
        for count in [1, 10, 100, 100_000] {
            let descriptor = rawConnection(port: port)
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 131) }
            _ = LibC.send(descriptor, bytes, count, Int32(MSG_NOSIGNAL))
            close(descriptor)
        }
        #expect(try await bench.client().request(HealthRequest(), deadline: .seconds(100)) == health())
        await bench.end()
    }

    @Test("a REQ socket is served too: its routing frames come back as they came")
    func requestSocket() async throws {
        let bench = try Bench(.tcp)
        let peer = try RawPeer(bench.server.endpoint, type: ZMQ_REQ)
        peer.send(try EncodedMessage(HealthRequest(), runID: nil, requestID: 1).frames)
        #expect(try peer.reply()?.decoded(as: Health.self) == health())
        await bench.end()
    }

    @Test("keys that are not allowed, wrong server keys and no keys get nothing")
    func keys() async throws {
        let keys = try Keys()
        let loop = try SocketLoop()
        let handled = Log<Int>()
        let rejections = Log<Rejection>()
        var options = ServerOptions()
        options.onRejection = { rejections.add($0) }
        options.security = .curve(keys.server, allowed: keys.allowed)
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, options: options) { request in
            handled.add(1)
            answer(request)
        }
        let stranger = try CurveKeyPair.generate()
        let wrong: [(ClientSecurity, String)] = [
            (.curve(server: keys.server.publicKey, own: stranger), "it refused the connection"),
            (.curve(server: stranger.publicKey, own: keys.client), ""), (.none, ""),
        ]
        for (security, text) in wrong {
            var clientOptions = ClientOptions()
            clientOptions.security = security
            let client = try Client(server.endpoint, on: loop, options: clientOptions)
            let error = await failure(TransportError.self) {
                _ = try await client.request(HealthRequest(), deadline: .milliseconds(700))
            }
            #expect(error?.code == .deadlineExceeded)
            #expect(error?.description.contains(text) == true || text.isEmpty, "\(error?.description ?? "none")")
        }
        #expect(handled.count == 0)
        #expect(server.statistics.refusedConnectionCount >= 1)
        #expect(
            rejections.all.map(\.description)
                == ["refused 127.0.0.1 (a new connection): its key is not in the allow-list"])
        var clientOptions = ClientOptions()
        clientOptions.security = .curve(server: keys.server.publicKey, own: keys.client)
        let client = try Client(server.endpoint, on: loop, options: clientOptions)
        #expect(try await client.request(HealthRequest(), deadline: .seconds(100)) == health())
        await loop.shutdown()
    }

    @Test("a frame beyond the limit ends the connection, not the server")
    func oversized() async throws {
        let bench = try Bench(.tcp, options: .with { $0.limits.dataByteCount = 2 << 20 })
        let peer = try RawPeer(bench.server.endpoint)
        peer.send([SharedBytes(copying: [UInt8](repeating: 0, count: 3 << 20))])
        #expect(peer.receive(seconds: 0.2) == nil)
        let client = try bench.client()
        #expect(try await client.request(HealthRequest(), deadline: .seconds(100)) == health())
        let error = await failure(TransportError.self) {
            _ = try await client.request(scoreRequest(members: 1, side: 1024), deadline: .milliseconds(500))
        }
        #expect(error?.code == .deadlineExceeded)
        #expect(bench.server.statistics.requestCount == 1)
        await bench.end()
    }

    @Test("a full server says busy, a full client refuses to send")
    func busy() async throws {
        let waiting = Log<Request>()
        let bench = try Bench(.inproc, options: .with { $0.maximumInProgressCount = 8 }) { waiting.add($0) }
        let client = try bench.client { $0.maximumPendingCount = 2 }
        let first = Task { try await client.request(HealthRequest(), deadline: .seconds(100)) }
        let second = Task { try await client.request(HealthRequest(), deadline: .seconds(100)) }
        #expect(await eventually { waiting.count == 2 })
        let full = await failure(TransportError.self) {
            _ = try await client.request(HealthRequest(), deadline: .seconds(100))
        }
        #expect(full?.code == .tooManyRequests)
        // Two are a quarter of eight: another connection has room for (8 / 2 - 2) / 2 = 1.
        let other = try bench.client()
        let third = Task { try await other.request(HealthRequest(), deadline: .seconds(100)) }
        #expect(await eventually { waiting.count == 3 })
        let busy = await failure(Failure.self) { _ = try await other.request(HealthRequest(), deadline: .seconds(100)) }
        #expect(busy?.code == .busy)
        #expect(
            busy?.message
                == "a request too many: 1 of this connection, 3 of this peer and 3 of all are in progress")
        waiting.take().forEach { $0.reply(health()) }
        #expect(try await first.value == health())
        #expect(try await second.value == health())
        #expect(try await third.value == health())
        #expect(bench.server.statistics.kinds[.healthRequest]?.busyCount == 1)
        #expect(bench.server.statistics.busyCount == 1)
        await bench.end()
    }

    @Test("requests of another run are refused, except those that ask or change which run it is")
    func wrongRun() async throws {
        let bench = try Bench(.inproc, options: .with { $0.runID = RunID(rawValue: "new") })
        let client = try bench.client { $0.runID = RunID(rawValue: "old") }
        let error = await failure(Failure.self) {
            _ = try await client.request(scoreRequest(), deadline: .seconds(100))
        }
        #expect(error?.code == .wrongRun)
        #expect(error?.message == "this server belongs to run new, the request to run old")
        #expect(try await client.request(HealthRequest(), deadline: .seconds(100)) == health())
        client.join(RunID(rawValue: "new")!)
        #expect(try await client.request(scoreRequest(), deadline: .seconds(100)) == scores(for: scoreRequest()))
        await bench.end()
    }
}

@Suite("Places to listen", .serialized, .timeLimit(.minutes(2)))
struct BindTests {
    @Test("a path or port of a living server is not taken away; a dead one's path is")
    func inUse() async throws {
        let folder = try TemporaryFolder()
        let loop = try SocketLoop()
        let path = "ipc://\(folder.path)/run/s.ipc"
        let first = try Server(Endpoint(path), on: loop, handler: answer)
        let taken = await failure(TransportError.self) { _ = try Server(Endpoint(path), on: loop, handler: answer) }
        #expect(taken?.code == .addressInUse)
        #expect(taken?.description.hasPrefix("\(path) is in use by a living process") == true)
        let attributes = try FileManager.default.attributesOfItem(atPath: "\(folder.path)/run/s.ipc")
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let runFolder = try FileManager.default.attributesOfItem(atPath: "\(folder.path)/run")
        #expect(runFolder[.posixPermissions] as? Int == 0o700)
        first.close()
        // What a killed server leaves behind: its socket file, without a lock.
        let second = try Server(Endpoint(path), on: loop, handler: answer)
        #expect(
            try await Client(second.endpoint, on: loop).request(HealthRequest(), deadline: .seconds(100)) == health())
        let tcp = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: answer)
        let port = await failure(TransportError.self) { _ = try Server(tcp.endpoint, on: loop, handler: answer) }
        #expect(port?.description == "\(tcp.endpoint) is in use by another server; stop it, or choose another endpoint")
        await loop.shutdown()
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/run").isEmpty, "files are left")
    }

    @Test("a path is not taken away from a program that knows no locks")
    func stranger() async throws {
        let folder = try TemporaryFolder()
        let path = "ipc://\(folder.path)/s.ipc"
        let context = zmq_ctx_new()
        let stranger = zmq_socket(context, ZMQ_ROUTER)
        #expect(zmq_bind(stranger, path) == 0)
        let loop = try SocketLoop()
        let taken = await failure(TransportError.self) { _ = try Server(Endpoint(path), on: loop, handler: answer) }
        #expect(taken?.code == .addressInUse && taken?.message == "\(path) is in use by a living process")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["s.ipc"])
        zmq_close(stranger)
        zmq_ctx_term(context)
        // What it left: its socket file.
        let server = try Server(Endpoint(path), on: loop, handler: answer)
        #expect(
            try await Client(server.endpoint, on: loop).request(HealthRequest(), deadline: .seconds(100)) == health())
        await loop.shutdown()
    }

    @Test("a folder others can write to is refused")
    func sharedFolder() async throws {
        let folder = try TemporaryFolder()
        let loop = try SocketLoop()
        chmod(folder.path, 0o777)
        let error = await failure(TransportError.self) {
            _ = try Server(Endpoint("ipc://\(folder.path)/s.ipc"), on: loop, handler: answer)
        }
        #expect(error?.code == .insecure)
        await loop.shutdown()
    }

    @Test("beyond loopback without keys only on explicit request")
    func insecure() async throws {
        let loop = try SocketLoop()
        for text in ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0"] {
            let error = await failure(TransportError.self) { _ = try Server(Endpoint(text), on: loop, handler: answer) }
            #expect(error?.code == .insecure)
        }
        var options = ServerOptions()
        options.security = .insecure
        let server = try Server(Endpoint("tcp://0.0.0.0:0"), on: loop, options: options, handler: answer)
        guard case .tcp(_, let port) = server.endpoint.address else { return }
        let client = try Client(Endpoint("tcp://localhost:\(port)"), on: loop)
        #expect(try await client.request(HealthRequest(), deadline: .seconds(100)) == health())
        let nowhere = await failure(TransportError.self) {
            _ = try Server(Endpoint("tcp://203.0.113.1:0"), on: loop, options: options, handler: answer)
        }
        #expect(nowhere?.code == .system)
        await loop.shutdown()
    }
}
