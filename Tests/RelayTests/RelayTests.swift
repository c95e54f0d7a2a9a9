import Foundation
import Logging
import Processes
import Protocol
import SafeTensors
import TestSupport
import Testing
import Transport
import WeightsPublisher
import WeightsTransfer

@testable import Relay

private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A relay with a socket, before an origin.
private final class RelayBench: Sendable {
    let origin: Publisher
    let loop: SocketLoop
    let relay: Relay
    let server: Server

    init(_ weights: PublishedWeights, maximumByteCount: Int = 1 << 30, journal: RequestJournal? = nil) throws {
        origin = try Publisher(weights)
        loop = try SocketLoop()
        relay = Relay(
            learner: try Client(origin.server.endpoint, on: loop), maximumByteCount: maximumByteCount,
            shutdown: ShutdownSignal(), journal: journal)
        server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: relay.router.handle)
    }

    func client(as role: Role = .rolloutWorker) throws -> Client {
        var options = ClientOptions()
        options.role = role
        return try Client(server.endpoint, on: loop, options: options)
    }

    /// A download that has nobody but the relay.
    func download() throws -> WeightsDownload { WeightsDownload(learner: try client(), logger: logger) }

    func health() throws -> Health {
        try client().requestBlocking(HealthRequest(), deadline: .seconds(30))
    }

    func end() {
        loop.shutdownBlocking()
        origin.end()
    }
}

/// Weights of these many float32 values, tensor by tensor; the seed decides about all of them.
private func weights(_ counts: [Int], seed: Int = 1, pieceByteCount: Int = 1 << 20) throws -> PublishedWeights {
    let values = (0..<counts.reduce(0, +)).map { UInt32(truncatingIfNeeded: $0 &* 2_654_435_761 &+ seed) }
    return try PublishedWeights(
        version: PolicyVersion(rawValue: seed), digest: WeightsDigest(bytes: [UInt8](repeating: 0, count: 32)),
        tensors: counts.indices.map { ("t\(10 + $0)", .float32, [counts[$0]]) }, bytes: SharedBytes(copying: values),
        pieceByteCount: pieceByteCount)
}

@Suite("Relay", .serialized, .timeLimit(.minutes(2)))
struct RelayTests {
    @Test("eight workers at once get all of it, and the learner sends each byte once")
    func fanOut() throws {
        let published = try weights([3 << 20] + [Int](repeating: 1000, count: 50))
        let bench = try RelayBench(published)
        let arrived = SharedState<[[PieceDigest: SharedBytes]]>([])
        for _ in 0..<8 {
            let download = try bench.client()
            Thread.detachNewThread {
                let download = WeightsDownload(learner: download, logger: logger)
                var pieces: [PieceDigest: SharedBytes] = [:]
                if let manifest = try? download.manifest(published.manifestDigest) {
                    try? download.pull(manifest.pieces) { pieces[$0] = $1 }
                }
                arrived.withLock { $0.append(pieces) }
            }
        }
        let all = try #require(arrived.wait(for: "workers", limit: .seconds(60)) { $0.count == 8 ? $0 : nil })
        let expected = Set(published.manifest.pieces.map(\.digest))
        for pieces in all {
            #expect(Set(pieces.keys) == expected)
            #expect(pieces.allSatisfy { PieceDigest(of: $1) == $0 })
        }
        let record = bench.origin.record.withLock { $0 }
        #expect(record.manifestCount == 1)
        #expect(Set(record.given.keys) == expected && record.given.values.allSatisfy { $0 == 1 })
        let health = try bench.health()
        #expect(health.seconds["serving"] ?? 0 > 0 && health.seconds["idle"] ?? 0 > 0, "\(health.seconds)")
        #expect(health.requests["manifestRequest"]?.answered == 8)
        let counters = health.counters
        let byteCount = Double(published.manifest.pieces.reduce(0) { $0 + $1.byteCount })
        #expect(counters["bytesFetched"] == byteCount + Double(published.manifest.text.count))
        #expect(counters["bytesServed"] == 8 * (byteCount + Double(published.manifest.text.count)))
        #expect(counters["bytesKept"] == counters["bytesFetched"])
        bench.end()
    }

    @Test("it keeps what the last two manifests name, and no more bytes than it may")
    func bounds() throws {
        let versions = try (1...3).map { try weights([2 << 20], seed: $0) }
        let bench = try RelayBench(versions[0], maximumByteCount: 20 << 20)
        func kept() throws -> Int { Int(try bench.health().counters["bytesKept"] ?? -1) }
        for version in versions {
            bench.origin.record.withLock { $0.weights = version }
            let download = try bench.download()
            try download.pull(download.manifest(version.manifestDigest).pieces) { _, _ in }
        }
        let texts = versions[1].manifest.text.count + versions[2].manifest.text.count
        #expect(try kept() == 16 << 20 + texts)
        bench.end()

        let small = try RelayBench(versions[0], maximumByteCount: 3 << 20)
        for _ in 0..<2 {
            let download = try small.download()
            var count = 0
            try download.pull(download.manifest(versions[0].manifestDigest).pieces) { _, _ in count += 1 }
            #expect(count == 8)
        }
        let health = try small.health().counters
        #expect(health["bytesKept"] ?? 0 <= Double(3 << 20))
        // Not all of it could stay.
        #expect(small.origin.record.withLock { $0.given.count == 8 && $0.given.values.contains(2) })
        small.end()
    }

    @Test("what the learner does not publish any more is refused in its words; a learner that lies is named")
    func refusals() throws {
        let published = try weights([1 << 18])
        let bench = try RelayBench(published)
        func failure(_ body: () throws -> Void) -> Failure? {
            do { try body() } catch { return error as? Failure }
            return nil
        }
        let client = try bench.client()
        let other = PiecesRequest(pieces: [PieceDigest(bytes: 0..<16)])
        #expect(failure { _ = try client.requestBlocking(other, deadline: .seconds(30)) }?.code == .staleVersion)
        #expect(try bench.health().serving)
        bench.origin.record.withLock { record in
            record.spoil = { _, pieces in Pieces(pieces.pieces.map { $0[0..<$0.count - 1] }) }
        }
        let wanted = PiecesRequest(pieces: [published.manifest.pieces[0].digest])
        let lie = failure { _ = try client.requestBlocking(wanted, deadline: .seconds(30)) }
        #expect(lie?.code == .wrongBytes && lie?.message.contains(bench.origin.server.endpoint.description) == true)
        let health = try bench.health()
        #expect(!health.serving && health.reason.contains("wrongBytes"))
        // Nothing of it was kept, and the next one who asks is served.
        bench.origin.record.withLock { $0.spoil = nil }
        #expect(try client.requestBlocking(wanted, deadline: .seconds(30)).pieces.map { $0.count } == [1 << 20])
        #expect(try bench.health().serving)
        #expect(
            failure {
                _ = try client.requestBlocking(
                    LeaseRequest(worker: "w"), deadline: .seconds(30))
            }?.code == .notAllowed)
        bench.end()
    }

    @Test("a request that ended a relay before is not carried out again, others are")
    func journal() throws {
        try withTemporaryFolder { folder in
            let published = try weights([1 << 10])
            let request = ManifestRequest(manifest: published.manifestDigest)
            let message = try ReceivedMessage(frames: EncodedMessage(request, runID: nil, requestID: 1).frames)
            let path = folder + "/logs/relay.requests"
            try FileManager.default.createDirectory(atPath: folder + "/logs", withIntermediateDirectories: true)
            try Data("\(RequestFingerprint(of: message))\n".utf8).write(to: URL(fileURLWithPath: path))
            let bench = try RelayBench(published, journal: RequestJournal(path: path))
            do {
                _ = try bench.client().requestBlocking(request, deadline: .seconds(30))
                Issue.record("it was carried out")
            } catch let failure as Failure {
                #expect(failure.code == .endedRole && failure.remedy?.contains(path) == true)
            }
            let pieces = PiecesRequest(pieces: [published.manifest.pieces[0].digest])
            #expect(try bench.client().requestBlocking(pieces, deadline: .seconds(30)).pieces.count == 1)
            bench.end()
        }
    }
}
