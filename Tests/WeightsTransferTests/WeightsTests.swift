import ComputeRoles
import FaultyNetwork
import Foundation
import Logging
import NeuralNetworks
import Processes
import Protocol
import SafeTensors
import Synchronization
import TensorCore
import Testing
import Transport
import WeightsPublisher

@testable import WeightsTransfer

private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Tensors of values no two pieces of which are alike; the seed decides about all of them.
private func parameters(_ counts: [Int], seed: Int = 1) -> Parameters {
    var tensors: [String: Tensor] = [:]
    for (index, count) in counts.enumerated() {
        tensors["t\(index)"] = OpenBLASEngine.shared.tensor(
            (0..<count).map { Float(Int32(truncatingIfNeeded: ($0 + seed * 7919 + index * 104_729) &* 2_654_435_761)) },
            shape: [count])
    }
    return Parameters(tensors)
}

private func published(_ parameters: Parameters, version: Int = 1, pieceByteCount: Int = 4 << 20) throws
    -> PublishedWeights
{
    try PublishedWeights(
        version: PolicyVersion(rawValue: version), parameters: parameters, pieceByteCount: pieceByteCount)
}

@Suite("Weights travel by their digests", .serialized, .timeLimit(.minutes(3)))
struct WeightsTests {
    private let clientLoop: SocketLoop

    init() throws { clientLoop = try SocketLoop() }

    private func client(_ publisher: Publisher, port: Int? = nil) throws -> Client {
        try Client(Endpoint("tcp://127.0.0.1:\(port ?? publisher.port)"), on: clientLoop)
    }

    @Test("every bit arrives, whatever the pieces are", arguments: [7, 64, 4096, 4 << 20])
    func roundTrip(pieceByteCount: Int) throws {
        var source = parameters([0, 1, 5, 1000, 33])
        source = source.merging(Parameters(["half": source["t3"]!.converted(to: .bfloat16)]))
        let weights = try published(source, pieceByteCount: pieceByteCount)
        let publisher = try Publisher(weights)
        let download = WeightsDownload(learner: try client(publisher), logger: logger)
        let received = try WeightsStore(download).parameters(
            weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        #expect(received.names == source.names)
        for (name, tensor) in source.entries {
            #expect(received[name]?.shape == tensor.shape && received[name]?.dtype == tensor.dtype)
            #expect(received[name].map { $0.engine.bytes(of: $0) } == tensor.engine.bytes(of: tensor), "\(name)")
        }
        #expect(WeightsDigest(of: received) == weights.digest)
        #expect(download.statistics.learnerByteCount == weights.manifest.pieces.reduce(0) { $0 + $1.byteCount })
        publisher.end()
    }

    @Test("pieces that follow each other are sent from where they lie")
    func noCopy() throws {
        let weights = try published(parameters([100, 200, 300]), pieceByteCount: 256)
        let request = PiecesRequest(pieces: weights.manifest.pieces.map(\.digest))
        let pieces = try weights.answer(request)
        let message = try EncodedMessage(pieces, runID: nil, requestID: 1, isReply: true)
        #expect(message.data.count == 2400)
        #expect(message.data.retained.bytes.baseAddress == pieces.pieces[0].retained.bytes.baseAddress)
    }

    @Test("of a version with one changed tensor of many only that one travels")
    func unchanged() throws {
        let counts = [Int](repeating: 1000, count: 40)
        let first = parameters(counts)
        let initial = try published(first)
        let publisher = try Publisher(initial)
        let download = WeightsDownload(learner: try client(publisher), logger: logger)
        let store = WeightsStore(download)
        _ = try store.parameters(initial.manifestDigest, of: initial.digest, on: OpenBLASEngine.shared)
        #expect(download.statistics.learnerByteCount == 160_000)

        let changed = first.mapped { $0 == "t17" ? parameters([1000], seed: 5)["t0"]! : $1 }
        let second = try published(changed, version: 2)
        publisher.record.withLock { $0.weights = second }
        let before = publisher.server.statistics.sentByteCount
        let received = try store.parameters(second.manifestDigest, of: second.digest, on: OpenBLASEngine.shared)
        #expect(WeightsDigest(of: received) == second.digest)
        #expect(download.statistics.learnerByteCount == 164_000)
        // On the wire: the manifest, 4000 bytes, and two headers.
        let sent = publisher.server.statistics.sentByteCount - before
        #expect(sent < 4000 + second.manifest.text.count + 1024, "\(sent)")

        store.forget()
        _ = try store.parameters(second.manifestDigest, of: second.digest, on: OpenBLASEngine.shared)
        #expect(download.statistics.learnerByteCount == 324_000)
        publisher.end()
    }

    @Test("after a connection that was cut only what was missing is asked for again")
    func cutConnection() throws {
        // 12 requests of 4 MiB; the cut comes within the sixth answer or a little later.
        let weights = try published(parameters([12 << 20]), pieceByteCount: 1 << 20)
        let publisher = try Publisher(weights)
        let proxy = try FaultyProxy(
            to: UInt16(publisher.port), faults: [WireFault(.reset, isTowardsServer: false, offset: 23 << 20)])
        let download = WeightsDownload(learner: try client(publisher, port: Int(proxy.port)), logger: logger)
        let received = try WeightsStore(download).parameters(
            weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        #expect(WeightsDigest(of: received) == weights.digest)
        #expect(proxy.met.count == 1)
        let given = publisher.record.withLock { $0.given }
        #expect(given.count == 48)
        // Four whole answers and more had passed; what was on its way, at most eight requests of four pieces, came again.
        let again = given.values.count { $0 > 1 }
        #expect((1...32).contains(again), "\(again) pieces were asked for more than once")
        #expect(download.statistics.learnerByteCount == 48 << 20)
        publisher.end()
    }

    @Test("a download that failed goes on where it was")
    func resumption() throws {
        let weights = try published(parameters([6 << 20]), pieceByteCount: 1 << 20)
        let publisher = try Publisher(weights)
        publisher.record.withLock { record in
            record.spoil = { request, pieces in
                if request.pieces[0] == weights.manifest.pieces[12].digest {
                    throw Failure(code: .busy, message: "not now")
                }
                return pieces
            }
        }
        let download = WeightsDownload(learner: try client(publisher), logger: logger)
        let store = WeightsStore(download)
        #expect(throws: Failure.self) {
            _ = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        }
        #expect(download.statistics.learnerByteCount == 12 << 20)
        publisher.record.withLock {
            $0.spoil = nil
            $0.given = [:]
        }
        _ = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        // Requests of the first attempt that were on their way may be answered after it failed: a piece may be given twice.
        let given = publisher.record.withLock { Set($0.given.keys) }
        #expect(given == Set(weights.manifest.pieces[12...].map(\.digest)))
        publisher.end()
    }

    @Test("a version that is not published any more is refused as stale, absurd requests by their limits")
    func refusals() throws {
        let weights = try published(parameters([3 << 20, 5]), pieceByteCount: 1 << 20)
        let publisher = try Publisher(weights)
        let download = WeightsDownload(learner: try client(publisher), logger: logger)
        let byte = SharedBytes(copying: [1] as [UInt8])
        let other = PieceDigest(of: byte)
        func code(_ body: () throws -> Void) -> FailureCode? {
            do { try body() } catch { return (error as? Failure)?.code }
            return nil
        }
        #expect(code { _ = try download.manifest(ManifestDigest(of: byte)) } == .staleVersion)
        #expect(code { try download.pull([.init(digest: other, byteCount: 1)]) { _, _ in } } == .staleVersion)
        #expect(
            code { _ = try weights.answer(PiecesRequest(pieces: weights.manifest.pieces.map(\.digest))) }
                == .limitExceeded)
        // The right bytes, but not as many as somebody says.
        let short = WeightsManifest.Piece(digest: weights.manifest.pieces[3].digest, byteCount: 21)
        #expect(code { try download.pull([short]) { _, _ in Issue.record("taken") } } == .wrongBytes)
        publisher.end()
    }

    @Test(
        "digests of pieces are XXH3-128 as xxhsum -H2 prints it",
        arguments: [
            (0, "99aa06d3014798d86001c324468d497f"), (1000, "18bf41bc8229e27733ef703fb2b20ed1"),
            (1 << 20, "53738d98098cabba6e0d7ac36b8c10ff"),
        ])
    func digests(count: Int, expected: String) {
        let bytes = SharedBytes(copying: (0..<count).map { UInt8($0 % 251) })
        #expect(PieceDigest(of: bytes).hexadecimal == expected)
        #expect(
            PieceDigest(of: SharedBytes(copying: Array("abc".utf8))).hexadecimal == "06b05ab6733a618578af5f94892f3950")
    }

    @Test("bytes that are not what their digest says are refused, and their sender is named")
    func wrongBytes() throws {
        let weights = try published(parameters([1000]))
        let publisher = try Publisher(weights)
        publisher.record.withLock { $0.spoil = { _, pieces in Pieces(pieces.pieces.map(flipped)) } }
        let store = WeightsStore(WeightsDownload(learner: try client(publisher), logger: logger))
        do {
            _ = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
            Issue.record("wrong bytes were accepted")
        } catch let failure as Failure {
            #expect(failure.code == .wrongBytes && failure.message.contains(":\(publisher.port) sent 4000 bytes"))
        }
        publisher.end()
    }

    // MARK: Relays

    @Test("a relay that sends wrong bytes is not asked again, and what it owes comes from the learner")
    func lyingRelay() throws {
        let weights = try published(parameters([6 << 20]), pieceByteCount: 1 << 20)
        let (learner, relay) = (try Publisher(weights), try Publisher(weights))
        let lie = weights.manifest.pieces[8].digest
        relay.record.withLock { record in
            record.spoil = { request, pieces in
                request.pieces[0] == lie ? Pieces(pieces.pieces.dropLast() + [flipped(pieces.pieces[3])]) : pieces
            }
        }
        let download = WeightsDownload(learner: try client(learner), relay: try client(relay), logger: logger)
        let store = WeightsStore(download)
        let received = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        #expect(WeightsDigest(of: received) == weights.digest)
        #expect(
            download.statistics
                == .init(learnerByteCount: 16 << 20, relayByteCount: 8 << 20, relayFailureCount: 1))
        #expect(learner.record.withLock { $0.given.count } == 16)
        // Not for the next version either.
        let asked = relay.record.withLock { $0.givenCount }
        store.forget()
        _ = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        #expect(relay.record.withLock { $0.givenCount } == asked)
        for publisher in [learner, relay] { publisher.end() }
    }

    @Test("a relay's forged piece of the right digest is never executed: the relay is not asked again, the learner is")
    func forgingRelay() throws {
        let source = forgeable()
        let weights = try published(source)
        let (learner, relay) = (try Publisher(weights), try Publisher(weights))
        relay.record.withLock { $0.spoil = { _, pieces in Pieces(pieces.pieces.map(forged)) } }
        let download = WeightsDownload(learner: try client(learner), relay: try client(relay), logger: logger)
        let store = WeightsStore(download)
        let received = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        #expect(received["t0"]?.values == source["t0"]?.values)
        // Nobody noticed before the end: all of it came twice.
        #expect(
            download.statistics == .init(learnerByteCount: 4000, relayByteCount: 4000, relayFailureCount: 1))
        store.forget()
        _ = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
        #expect(relay.record.withLock { $0.givenCount } == 1)
        for publisher in [learner, relay] { publisher.end() }
    }

    @Test("who sent it is named when the learner's weights are not those of the lease, and nothing of them is kept")
    func forgingLearner() throws {
        let (first, second) = (try published(parameters([1000])), try published(forgeable(), version: 2))
        let (learner, relay) = (try Publisher(first), try Publisher(first))
        let download = WeightsDownload(learner: try client(learner), relay: try client(relay), logger: logger)
        let store = WeightsStore(download)
        // What the relay has sent is proven by the time when it fails.
        _ = try store.parameters(first.manifestDigest, of: first.digest, on: OpenBLASEngine.shared)
        #expect(download.statistics == .init(relayByteCount: 4000))
        relay.record.withLock { $0.spoil = { _, _ in throw Failure(code: .upstream, message: "gone") } }
        learner.record.withLock {
            $0.weights = second
            $0.spoil = { _, pieces in Pieces(pieces.pieces.map(forged)) }
        }
        do {
            _ = try store.parameters(second.manifestDigest, of: second.digest, on: OpenBLASEngine.shared)
            Issue.record("other weights than the lease's were accepted")
        } catch let failure as Failure {
            #expect(failure.code == .wrongBytes && failure.message.contains(":\(learner.port) sent weights of digest"))
        }
        learner.record.withLock { $0.spoil = nil }
        let received = try store.parameters(second.manifestDigest, of: second.digest, on: OpenBLASEngine.shared)
        #expect(WeightsDigest(of: received) == second.digest)
        for publisher in [learner, relay] { publisher.end() }
    }

    @Test("a relay that does not answer is left after its deadline, and not waited for again at once")
    func deadRelay() throws {
        let weights = try published(parameters([1000]))
        let (learner, relay) = (try Publisher(weights), try Publisher(weights))
        relay.end()
        let download = WeightsDownload(learner: try client(learner), relay: try client(relay), logger: logger)
        let store = WeightsStore(download)
        for _ in 0..<2 {
            let begin = ContinuousClock.now
            let isFirst = download.statistics.relayFailureCount == 0
            _ = try store.parameters(weights.manifestDigest, of: weights.digest, on: OpenBLASEngine.shared)
            let wait = ContinuousClock.now - begin
            #expect(isFirst ? wait >= WeightsDownload.relayDeadline : wait < WeightsDownload.relayDeadline)
            store.forget()
        }
        #expect(download.statistics == .init(learnerByteCount: 8000, relayFailureCount: 1))
        learner.end()
    }

    @Test("requests of others are answered between the pieces of four that pull")
    func interleaving() throws {
        let weights = try published(parameters([16 << 20]))
        let publisher = try Publisher(weights)
        let running = SharedState(4)
        for _ in 0..<4 {
            let client = try Client(publisher.server.endpoint, on: try SocketLoop())
            Thread.detachNewThread {
                let download = WeightsDownload(learner: client, logger: logger)
                for _ in 0..<4 { try? download.pull(weights.manifest.pieces) { _, _ in } }
                running.withLock { $0 -= 1 }
            }
        }
        let other = try client(publisher)
        var answers = 0
        while running.withLock({ $0 }) == 4 {
            _ = try other.requestBlocking(StopRequest(drain: true, reason: "test"), deadline: .seconds(60))
            answers += 1
        }
        // 1 GiB is pulled meanwhile; whoever had to wait for its end would be answered once.
        #expect(answers >= 10, "\(answers)")
        #expect(running.wait(for: "the others", limit: .seconds(100)) { $0 == 0 ? true : nil } == true)
        publisher.end()
    }
}

/// Other bytes of the same length.
private func flipped(_ bytes: SharedBytes) -> SharedBytes {
    var changed = bytes.array
    changed[changed.count / 2] ^= 1
    return SharedBytes(copying: changed)
}

/// 1000 values for which XXH3-128 can be forged. Of every eight bytes XXH3 adds all to one lane and, to its neighbour, the product
/// of their halves after an exclusive or with a public secret; a lower half that is the secret's makes that product zero. Two such
/// at the same place of two stripes may then change their upper halves by opposite amounts.
private func forgeable() -> Parameters {
    var values = (0..<1000).map { Float($0) }
    // The secret's bytes 0 to 3 and 8 to 11 (`XXH3_kSecret`), for the first lane of the first two stripes of 64 bytes.
    (values[0], values[1]) = (Float(bitPattern: 0x396c_feb8), 1)
    (values[16], values[17]) = (Float(bitPattern: 0x2c81_017c), 2)
    return Parameters(["t0": OpenBLASEngine.shared.tensor(values, shape: [1000])])
}

/// Other bytes than those of `forgeable`, of the same digest.
private func forged(_ bytes: SharedBytes) -> SharedBytes {
    var values = bytes.array(of: UInt32.self)
    values[1] += 1
    values[17] -= 1
    let forged = SharedBytes(copying: values)
    #expect(forged != bytes && PieceDigest(of: forged) == PieceDigest(of: bytes))
    return forged
}
