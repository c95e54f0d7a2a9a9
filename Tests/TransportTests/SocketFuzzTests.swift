import CZeroMQ
import Foundation
import LibC
import Protocol
import SafeTensors
import Synchronization
import TestSupport
import Testing

@testable import Transport

/// Running sockets under fire: what strangers send must not reach those who behave.
@Suite("Sockets under fire", .serialized, .timeLimit(.minutes(5)))
struct SocketFuzzTests {
    /// Frames of every valid message of the protocol.
    static let corpus: [[SharedBytes]] = {
        let folder = Repository.fixtures + "/Protocol"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { $0.hasSuffix(".message") }.sorted().compactMap { name in
            guard let data = FileManager.default.contents(atPath: folder + "/" + name) else { return nil }
            let bytes = Array(data)
            let length = Int(bytes[24]) | Int(bytes[25]) << 8 | Int(bytes[26]) << 16
            return [bytes[..<24], bytes[24..<32 + length], bytes[(32 + length)...]].map {
                SharedBytes(copying: Array($0))
            }
        }
    }()

    /// What a broken or hostile peer sends: a message whole, damaged, repeated, as a reply, short of frames, with too many.
    private func hostile(_ mutator: inout Mutator) -> [SharedBytes] {
        var frames = Self.corpus[mutator.random.below(Self.corpus.count)]
        switch mutator.random.below(8) {
        case 0: return frames
        case 1: frames.removeLast(1 + mutator.random.below(2))
        case 2: frames += [SharedBytes](repeating: frames[0], count: 1 + mutator.random.below(40))
        case 3: frames.shuffle(using: &mutator.random)
        default:
            let index = mutator.random.below(3)
            let bytes = mutator.damaged(frames[index].array, others: Self.corpus.map { $0[index].array })
            frames[index] = SharedBytes(copying: bytes)
        }
        return frames
    }

    @Test(
        "a server refuses, counts and reports each hostile peer once, and serves the honest one",
        arguments: [Link.tcp, .ipc])
    func server(link: Link) async throws {
        let rejections = Log<Rejection>()
        let bench = try Bench(link, options: .with { $0.onRejection = { rejections.add($0) } })
        let slow = link == .tcp ? try SlowPeers(bench.server.endpoint, count: 32) : nil
        let client = try bench.client()
        let before = residentBytes()
        let end = ContinuousClock.now + FuzzTarget.budget(share: 0.2)
        let attacker = Task.detached { [endpoint = bench.server.endpoint] in
            var mutator = Mutator(seed: 1)
            var (messages, connections) = (0, 0)
            while ContinuousClock.now < end {
                // Peers come and go; some never read what they are told.
                let peer = try RawPeer(endpoint, type: mutator.random.below(8) == 0 ? ZMQ_REQ : ZMQ_DEALER)
                connections += 1
                // Messages of a peer that leaves before it was let in are lost with it.
                peer.send(Self.corpus[0])
                _ = peer.receive(seconds: 1)
                for _ in 0..<mutator.random.below(400) {
                    if peer.trySend(hostile(&mutator)) { messages += 1 }
                    if mutator.random.below(4) == 0 { _ = peer.receive(seconds: 0) }
                }
                slow?.drip()
            }
            return (messages, connections)
        }
        var honest = 0
        var slowest = Duration.zero
        while ContinuousClock.now < end {
            let begin = ContinuousClock.now
            let request = scoreRequest(seed: UInt8(truncatingIfNeeded: honest))
            #expect(try await client.request(request, deadline: .seconds(60)) == scores(for: request))
            slowest = max(slowest, .now - begin)
            honest += 1
        }
        let (messages, connections) = try await attacker.value
        let statistics = bench.server.statistics
        print(
            "fuzz \(link) server: \(messages) messages of \(connections) peers, \(statistics.rejectedCount) rejected, "
                + "\(rejections.count) reports; \(honest) honest requests, slowest \(slowest), memory grew by "
                + "\((residentBytes() - before) >> 10) KiB")
        #expect(honest > 20 && slowest < .seconds(5))
        #expect(statistics.rejectedCount > messages / 20)
        // All come from one address (tcp) or one process (ipc), whatever they call themselves: one line a minute.
        let minutes = Int((FuzzTarget.budget(share: 0.2) / .seconds(60)).rounded(.up))
        #expect((1...minutes + 1).contains(rejections.count))
        #expect(connections > 2)
        #expect(residentBytes() - before < 128 << 20)
        #expect(try await client.request(HealthRequest(), deadline: .seconds(60)) == health())
        await bench.end()
    }

    @Test("a client whose server talks nonsense gets its answer, or an error by its deadline")
    func client() async throws {
        let loop = try SocketLoop()
        let server = try NonsenseServer()
        let client = try Client(server.endpoint, on: loop)
        let end = ContinuousClock.now + FuzzTarget.budget(share: 0.1)
        let isOver = Atomic(false)
        let serving = Task.detached {
            var mutator = Mutator(seed: 2)
            while !isOver.load(ordering: .relaxed) {
                server.answer { request in
                    var nonsense = (0..<mutator.random.below(6)).map { _ in hostile(&mutator) }
                    // The right answer under the right number, sometimes, and sometimes damaged.
                    if let id = Envelope.requestID(ofUnsupported: request[request.count - 3]),
                        mutator.random.below(2) == 0,
                        var right = try? EncodedMessage(health(), runID: nil, requestID: id, isReply: true).frames
                    {
                        if mutator.random.below(3) == 0 {
                            right[1] = SharedBytes(copying: mutator.damaged(right[1].array, others: [right[1].array]))
                        }
                        nonsense.append(right)
                    }
                    return nonsense
                }
            }
        }
        var (answered, failed) = (0, 0)
        // Until both have happened: few requests fit into a short time, and what is answered is a matter of luck.
        while ContinuousClock.now < end || min(answered, failed) == 0 && ContinuousClock.now < end + .seconds(20) {
            let begin = ContinuousClock.now
            do {
                _ = try await client.request(HealthRequest(), deadline: .milliseconds(100))
                answered += 1
            } catch {
                #expect(error is TransportError || error is Failure || error is WireError, "\(error)")
                failed += 1
            }
            #expect(.now - begin < .seconds(5))
        }
        print("fuzz client: \(answered) answered, \(failed) failed")
        #expect(answered > 0 && failed > 0)
        isOver.store(true, ordering: .relaxed)
        await serving.value
        await loop.shutdown()
    }
}

/// Connections that say one byte of ZeroMQ's greeting at a time.
private final class SlowPeers: @unchecked Sendable {
    // Used by one task.
    private var descriptors: [Int32] = []

    init(_ endpoint: Endpoint, count: Int) throws {
        guard case .tcp(_, let port) = endpoint.address else { return }
        for _ in 0..<count {
            descriptors.append(rawConnection(port: port))
        }
    }

    deinit { descriptors.forEach { close($0) } }

    func drip() {
        for (index, descriptor) in descriptors.enumerated() {
            // The greeting begins with 0xFF; every other peer says something else.
            _ = LibC.send(
                descriptor, [index % 2 == 0 ? 0xFF : 0x41] as [UInt8], 1, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
    }
}

/// A ROUTER that answers requests with whatever it is given.
private final class NonsenseServer: @unchecked Sendable {
    // Used by one task after its making.
    private let context = zmq_ctx_new()
    private let pointer: UnsafeMutableRawPointer?
    let endpoint: Endpoint

    init() throws {
        pointer = zmq_socket(context, ZMQ_ROUTER)
        var linger: Int32 = 0
        zmq_setsockopt(pointer, ZMQ_LINGER, &linger, MemoryLayout<Int32>.size)
        #expect(zmq_bind(pointer, "tcp://127.0.0.1:*") == 0)
        var text = [UInt8](repeating: 0, count: 256)
        var count = text.count
        zmq_getsockopt(pointer, ZMQ_LAST_ENDPOINT, &text, &count)
        endpoint = try Endpoint(String(decoding: text.prefix { $0 != 0 }, as: UTF8.self))
    }

    deinit {
        zmq_close(pointer)
        zmq_ctx_term(context)
    }

    /// Answers one request, if one comes within a moment.
    func answer(_ replies: ([SharedBytes]) -> [[SharedBytes]]) {
        var item = zmq_pollitem_t(socket: pointer, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)
        guard zmq_poll(&item, 1, 10) > 0 else { return }
        var frames: [SharedBytes] = []
        var hasMore = true
        while hasMore {
            var message = zmq_msg_t()
            zmq_msg_init(&message)
            guard zmq_msg_recv(&message, pointer, 0) >= 0 else { return }
            frames.append(
                SharedBytes(
                    copying: Array(UnsafeRawBufferPointer(start: zmq_msg_data(&message), count: zmq_msg_size(&message)))
                ))
            hasMore = zmq_msg_more(&message) != 0
            zmq_msg_close(&message)
        }
        guard frames.count >= 4 else { return }
        for reply in replies(frames) {
            let whole = [frames[0]] + reply
            for (index, frame) in whole.enumerated() {
                let flags = index + 1 < whole.count ? ZMQ_SNDMORE : 0
                _ = frame.withUnsafeBytes { zmq_send(pointer, $0.baseAddress, $0.count, flags) }
            }
        }
    }
}
