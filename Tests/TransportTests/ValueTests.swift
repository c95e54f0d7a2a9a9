import Foundation
import Protocol
import SafeTensors
import Testing

@testable import Transport

@Suite("Endpoints, keys, and the memory of requests")
struct ValueTests {
    @Test(
        "endpoints are read and written back",
        arguments: [
            "ipc:///run/advgrpo/learner.ipc", "ipc://relative.ipc", "tcp://127.0.0.1:5555", "tcp://host.example:0",
            "tcp://*:1",
            "tcp://[::1]:65535", "inproc://name",
        ])
    func endpoints(text: String) throws {
        #expect(try Endpoint(text).description == text)
    }

    @Test(
        "what is no endpoint is refused with the form expected",
        arguments: [
            "", "127.0.0.1:5555", "udp://a:1", "ipc://", "tcp://", "tcp://host", "tcp://host:", "tcp://:1",
            "tcp://host:65536",
            "tcp://host:-1", "tcp://::1:80", "tcp://a b:1", "inproc://", "tcp://eth0;a:1",
            "ipc://" + String(repeating: "x", count: 108),
        ])
    func invalidEndpoints(text: String) {
        do throws(TransportError) {
            _ = try Endpoint(text)
            Issue.record("accepted \(text)")
        } catch {
            #expect(error.code == .invalidEndpoint)
        }
    }

    @Test("only loopback counts as local")
    func reachability() throws {
        for text in [
            "ipc://x", "inproc://x", "tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://localhost:1", "tcp://[::1]:1",
        ] {
            #expect(try !Endpoint(text).isReachableFromOutside)
        }
        for text in [
            "tcp://*:1", "tcp://0.0.0.0:1", "tcp://10.0.0.1:1", "tcp://127.evil.example:1", "tcp://[::]:1",
            "tcp://eth0:1",
        ] {
            #expect(try Endpoint(text).isReachableFromOutside)
        }
    }

    @Test("key files keep secrets to their owner")
    func keyFiles() throws {
        let folder = try TemporaryFolder()
        let pair = try CurveKeyPair.generate()
        let paths = try KeyFiles.write(pair, name: "learner", folder: folder.path)
        let mode = try FileManager.default.attributesOfItem(atPath: paths.secret)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(try KeyFiles.pair(secretPath: paths.secret) == pair)
        #expect(try KeyFiles.publicKey(path: paths.public) == pair.publicKey)
        #expect(throws: TransportError.self) { try KeyFiles.write(pair, name: "learner", folder: folder.path) }
        chmod(paths.secret, 0o640)
        #expect(throws: TransportError.self) { try KeyFiles.pair(secretPath: paths.secret) }
        try Data("short\n".utf8).write(to: URL(filePath: paths.public))
        #expect(throws: TransportError.self) { try KeyFiles.publicKey(path: paths.public) }
    }

    @Test("allow-lists name the line that is wrong")
    func allowLists() throws {
        let key = try CurveKeyPair.generate().publicKey
        let list = try CurveAllowList(text: "# workers\n\n\(key.text) worker-1\n", source: "allowed")
        #expect(list.name(ofKey: key) == "worker-1")
        #expect(list.count == 1)
        for bad in ["\(key.text)", "\(key.text) a b", "nonsense worker", "\(key.text.dropLast()) w"] {
            do throws(TransportError) {
                _ = try CurveAllowList(text: "\n" + bad, source: "allowed")
                Issue.record("accepted \(bad)")
            } catch {
                #expect(error.description.hasPrefix("allowed: line 2 is not KEY NAME"))
            }
        }
    }

    @Test("kept replies stay within their bounds, oldest first")
    func replyCache() throws {
        var cache = ReplyCache(maximumCount: 3, maximumByteCount: 1 << 20)
        let reply = try EncodedMessage(StopAcknowledgement(), runID: nil, requestID: 0, isReply: true)
        func key(_ number: UInt64) -> ReplyCache.Key { ReplyCache.Key(client: "c", requestID: number) }
        for number in 0..<5000 as Range<UInt64> {
            guard case .new = cache.look(key(number), kind: .stopRequest, route: []) else {
                Issue.record("known")
                return
            }
            cache.begin(key(number), kind: .stopRequest, route: [SharedBytes()], byteCount: 10)
            #expect(cache.inProgressCount == 1 && cache.inProgressByteCount == 10)
            #expect(cache.finish(key(number), reply).count == 1)
            #expect(cache.finish(key(number), reply).isEmpty)
        }
        #expect(cache.inProgressCount == 0 && cache.inProgressByteCount == 0)
        for number in 4990..<5000 as Range<UInt64> {
            if case .finished = cache.look(key(number), kind: .stopRequest, route: []) {
                #expect(number >= 4997)
            } else {
                #expect(number < 4997)
            }
        }
        var small = ReplyCache(maximumCount: 100, maximumByteCount: reply.header.count * 2)
        for number in 0..<4 as Range<UInt64> {
            small.begin(key(number), kind: .stopRequest, route: [], byteCount: 0)
            _ = small.finish(key(number), reply)
        }
        if case .finished = small.look(key(1), kind: .stopRequest, route: []) { Issue.record("kept too much") }
        if case .new = small.look(key(3), kind: .stopRequest, route: []) { Issue.record("kept too little") }
        small.begin(key(9), kind: .stopRequest, route: [SharedBytes()], byteCount: 5)
        #expect(small.finish(key(9), reply, isKept: false).count == 1 && small.inProgressByteCount == 0)
        guard case .new = small.look(key(9), kind: .stopRequest, route: []) else {
            Issue.record("kept what was not to be kept")
            return
        }
    }
}
