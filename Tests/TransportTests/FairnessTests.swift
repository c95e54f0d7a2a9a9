import Foundation
import Protocol
import SafeTensors
import Testing

@testable import Transport

/// One bad peer takes its own share, and the others keep theirs.
@Suite("Fair shares", .serialized, .timeLimit(.minutes(2)))
struct FairnessTests {
    /// A server that knows two keys, answers `honest` and lets `broken` wait.
    private final class KeyedBench: Sendable {
        let server: Server
        let loop: SocketLoop
        let rejections = Log<Rejection>()
        let held = Log<Request>()
        private let serverLoop: SocketLoop
        private let serverKeys: CurveKeyPair
        private let keys: [String: CurveKeyPair]

        init(_ change: (inout ServerOptions) -> Void) throws {
            serverKeys = try CurveKeyPair.generate()
            keys = ["honest": try CurveKeyPair.generate(), "broken": try CurveKeyPair.generate()]
            loop = try SocketLoop()
            serverLoop = try SocketLoop()
            var options = ServerOptions.with(change)
            let allowed = CurveAllowList(
                Dictionary(uniqueKeysWithValues: keys.map { ($1.publicKey, .init(name: $0, role: .rolloutWorker)) }))
            options.security = .curve(serverKeys, allowed: allowed)
            options.onRejection = { [rejections] in rejections.add($0) }
            server = try Server(Endpoint("tcp://127.0.0.1:0"), on: serverLoop, options: options) { [held] request in
                if request.kind == .scoreRequest { held.add(request) } else { answer(request) }
            }
        }

        func client(_ name: String) throws -> Client {
            var options = ClientOptions()
            options.maximumPendingCount = 1 << 20
            options.resendInterval = .milliseconds(400)
            options.security = .curve(server: serverKeys.publicKey, own: try #require(keys[name]))
            return try Client(server.endpoint, on: loop, options: options)
        }

        func end() async {
            held.take().forEach { $0.reply(scores(for: scoreRequest())) }
            await loop.shutdown()
            await serverLoop.shutdown()
        }
    }

    @Test(
        "a peer that floods the server is told that it is busy; another is served as before, also under the same key",
        arguments: ["honest", "broken"])
    func flood(honestKey: String) async throws {
        let bench = try KeyedBench { $0.maximumInProgressCount = 400 }
        let broken = try bench.client("broken")
        let busy = Log<Int>()
        let flood = Task {
            await withTaskGroup(of: Void.self) { group in
                // Each asks again as soon as it is refused, for what is never answered.
                for seed in 0..<300 {
                    group.addTask {
                        while !Task.isCancelled {
                            do {
                                _ = try await broken.request(
                                    scoreRequest(seed: UInt8(seed & 127)), deadline: .seconds(60))
                            } catch let failure as Failure where failure.code == .busy {
                                busy.add(seed)
                            } catch {
                                return
                            }
                        }
                    }
                }
            }
        }
        // A quarter of 400.
        #expect(await eventually { bench.held.count == 100 && busy.count > 1000 })
        let honest = try bench.client(honestKey)
        var slowest = Duration.zero
        for _ in 0..<200 {
            let begin = ContinuousClock.now
            #expect(try await honest.request(HealthRequest(), deadline: .seconds(60)) == health())
            slowest = max(slowest, .now - begin)
        }
        print("flood: \(busy.count) times busy, slowest of 200 honest requests \(slowest)")
        #expect(slowest < .seconds(2))
        #expect(bench.held.count == 100)
        #expect(bench.rejections.all.map(\.peer) == ["broken"])
        #expect(
            bench.rejections.all.first?.reason
                == "a request too many: 100 of this connection, 100 of this peer and 100 of all are in progress")
        flood.cancel()
        _ = await flood.value
        await bench.end()
    }

    @Test("connections of a key beyond its share are refused, named and counted, and find room when others go")
    func connections() async throws {
        let bench = try KeyedBench { $0.maximumConnectionCount = 8 }
        var clients: [Client] = []
        for _ in 0..<4 {
            clients.append(try bench.client("broken"))
            #expect(try await clients.last?.request(HealthRequest(), deadline: .seconds(60)) == health())
        }
        let fifth = try bench.client("broken")
        let refused = await failure(TransportError.self) {
            _ = try await fifth.request(HealthRequest(), deadline: .seconds(1))
        }
        #expect(refused?.description.contains("it refused the connection") == true, "\(String(describing: refused))")
        #expect(bench.server.statistics.refusedConnectionCount >= 1)
        #expect(
            bench.rejections.all.map(\.description)
                == ["refused broken (a new connection, 127.0.0.1): a connection too many: it has 4 of 4"])
        // The other key has room, and this one, of which (8 - 1) / 2 = 3 may be there now, when two of its own have gone.
        let other = try bench.client("honest")
        #expect(try await other.request(HealthRequest(), deadline: .seconds(60)) == health())
        clients[0].close()
        clients[1].close()
        #expect(try await fifth.request(HealthRequest(), deadline: .seconds(60)) == health())
        await bench.end()
    }

    @Test("connections that never say a word count for their address or process", arguments: [Link.tcp, .ipc])
    func silentConnections(link: Link) async throws {
        let rejections = Log<Rejection>()
        let bench = try Bench(
            link,
            options: .with {
                $0.maximumConnectionCount = 8
                $0.onRejection = { rejections.add($0) }
            })
        // Many at once, so that their handshakes overtake one another.
        var peers: [RawPeer] = []
        for _ in 0..<100 { peers.append(try RawPeer(bench.server.endpoint)) }
        // Four are in; the others are told no, and libzmq does not try again.
        #expect(
            await eventually { bench.server.statistics.refusedConnectionCount == 96 },
            "\(bench.server.statistics.refusedConnectionCount)")
        #expect(rejections.count == 1 && rejections.all[0].reason.hasPrefix("a connection too many: it has "))
        #expect(rejections.all[0].peer == rejections.all[0].address)
        #expect(link == .tcp ? rejections.all[0].peer == "127.0.0.1" : rejections.all[0].peer.hasSuffix(":\(getpid())"))
        peers.removeAll()
        #expect(try await bench.client().request(HealthRequest(), deadline: .seconds(60)) == health())
        await bench.end()
    }

    @Test("a hostile peer that comes back under ever new names is one line in the log", arguments: [Link.tcp, .ipc])
    func reconnecting(link: Link) async throws {
        let rejections = Log<Rejection>()
        let bench = try Bench(link, options: .with { $0.onRejection = { rejections.add($0) } })
        for number in 0..<100 {
            let peer = try RawPeer(bench.server.endpoint)
            peer.send([SharedBytes(copying: Array("nonsense".utf8))])
            #expect(await eventually { bench.server.statistics.rejectedCount == number + 1 })
        }
        #expect(rejections.count == 1)
        #expect(rejections.all.first?.description.contains("expected envelope, header and data, got 1 frames") == true)
        await bench.end()
    }
}
