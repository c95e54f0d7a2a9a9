import Foundation
import Protocol
import SafeTensors
import TestSupport
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
            "ipc://" + String(repeating: "x", count: 108), "ipc:///" + String(repeating: "x/", count: 2048) + "learner",
            "ipc://~no-such-user/learner",
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

    @Test("a byte-order mark and CR LF in key files and allow-lists change nothing")
    func editedKeyFiles() throws {
        let folder = try TemporaryFolder()
        let pair = try CurveKeyPair.generate()
        func write(_ text: String, _ name: String) throws -> String {
            let path = folder.path + "/" + name
            try Data([0xEF, 0xBB, 0xBF] + Array(text.utf8)).write(to: URL(filePath: path))
            chmod(path, 0o600)
            return path
        }
        #expect(try KeyFiles.publicKey(path: write(pair.publicKey.text + "\r\n", "a.pub")) == pair.publicKey)
        #expect(try KeyFiles.pair(secretPath: write(pair.secretKey.text + "\r\n", "a.key")) == pair)
        let other = try CurveKeyPair.generate()
        let list = try KeyFiles.allowList(
            path: write(
                "# workers\r\n\(pair.publicKey.text) one worker\r\n\(other.publicKey.text) two relay\r\n", "list"))
        #expect(
            try list
                == CurveAllowList(
                    text: "\(pair.publicKey.text) one worker\n\(other.publicKey.text) two relay\n", source: "list"))
    }

    @Test("allow-lists name the line that is wrong")
    func allowLists() async throws {
        let key = try CurveKeyPair.generate().publicKey
        let list = try CurveAllowList(text: "# workers\n\n\(key.text) worker-1 worker\n", source: "allowed")
        #expect(list.owner(ofKey: key) == .init(name: "worker-1", role: .rolloutWorker))
        #expect(list.role(of: "worker-1") == .rolloutWorker && list.role(of: "worker") == nil)
        #expect(list.count == 1)
        let other = try CurveKeyPair.generate().publicKey
        let wrong = [
            "\(key.text)": "is not KEY NAME ROLE", "nonsense worker": "is not KEY NAME ROLE",
            "\(key.text.dropLast()) w worker": "is not KEY NAME ROLE", "\(key.text) a b c": "is not KEY NAME ROLE",
            // A list from before there were roles.
            "\(key.text) client": "does not say which role client's key has",
            "\(key.text) a boss": "has no role that there is",
            // A reward server asks nobody.
            "\(key.text) a rewardServer": "has no role that there is",
        ]
        for (line, what) in wrong {
            let error = await failure(TransportError.self) {
                _ = try CurveAllowList(text: "\n" + line, source: "allowed")
            }
            let text = error?.description ?? "accepted"
            #expect(text.hasPrefix("allowed: line 2 \(what); write ") && !text.contains(key.text), "\(line): \(text)")
        }
        for second in ["\(key.text) b operator", "\(other.text) a operator"] {
            let error = await failure(TransportError.self) {
                _ = try CurveAllowList(text: "\(key.text) a worker\n\(second)", source: "allowed")
            }
            #expect(error?.description.hasPrefix("allowed: line 2 gives ") == true, "\(second)")
        }
    }

    @Test("kept replies stay within their bounds, oldest first; a peer keeps at most half of what the others leave")
    func replyCache() throws {
        let reply = try EncodedMessage(StopAcknowledgement(), runID: nil, requestID: 0, isReply: true)
        func key(_ number: UInt64) -> ReplyCache.Key { ReplyCache.Key(client: "c", requestID: number) }
        func finish(_ number: UInt64, of payer: [String], in cache: inout ReplyCache) {
            guard case .new = cache.look(key(number), kind: .stopRequest, route: []) else {
                Issue.record("known")
                return
            }
            let requests = cache.requests
            let isTaken = cache.begin(
                key(number), kind: .stopRequest, route: [SharedBytes()], byteCount: 10, payer: payer)
            #expect(isTaken && requests.held == Load(count: 1, byteCount: 10))
            let (first, second) = (cache.finish(key(number), reply), cache.finish(key(number), reply))
            #expect(first.count == 1 && second.isEmpty && requests.held == Load())
        }
        func kept(_ numbers: Range<UInt64>, in cache: inout ReplyCache) -> [UInt64] {
            var kept: [UInt64] = []
            for number in numbers {
                if case .finished = cache.look(key(number), kind: .stopRequest, route: []) { kept.append(number) }
            }
            return kept
        }
        func expect(_ numbers: Range<UInt64>, _ expected: [UInt64], in cache: inout ReplyCache) {
            let kept = kept(numbers, in: &cache)
            #expect(kept == expected)
        }
        // One peer with one connection: a quarter of 12.
        var cache = ReplyCache(
            requests: Load(count: 8, byteCount: 80), replies: Load(count: 12, byteCount: 1 << 20))
        for number in 0..<5000 as Range<UInt64> { finish(number, of: ["a", "1"], in: &cache) }
        expect(0..<5000, [4997, 4998, 4999], in: &cache)
        // The next finds (12 - 3) / 4 = 2, and pushes out its own.
        for number in 5000..<5010 as Range<UInt64> { finish(number, of: ["b", "1"], in: &cache) }
        expect(0..<5010, [4997, 4998, 4999, 5008, 5009], in: &cache)
        // Many that come once: the oldest of all go while less than a quarter is free.
        var many = ReplyCache(requests: Load(count: 8, byteCount: 80), replies: Load(count: 40, byteCount: 1 << 20))
        for number in 6000..<7000 as Range<UInt64> { finish(number, of: ["peer \(number)", "1"], in: &many) }
        expect(0..<7000, Array(6970..<7000), in: &many)
        // By bytes: a quarter of eight replies.
        var small = ReplyCache(
            requests: Load(count: 8, byteCount: 80), replies: Load(count: 1000, byteCount: reply.header.count * 8))
        for number in 0..<4 as Range<UInt64> { finish(number, of: ["a", "1"], in: &small) }
        expect(0..<4, [2, 3], in: &small)
        // One that need not be kept leaves nothing.
        let isTaken = small.begin(key(9), kind: .stopRequest, route: [SharedBytes()], byteCount: 5, payer: ["a", "1"])
        let route = small.finish(key(9), reply, isKept: false)
        expect(9..<10, [], in: &small)
        #expect(isTaken && route.count == 1 && small.requests.held == Load())
    }

    @Test("nobody holds more than it leaves to the others")
    func fairShare() throws {
        /// Requests of one until there is no room.
        func flood(_ share: FairShare, _ path: [String]) -> Int {
            var count = 0
            while share.admit(Load(count: 1), to: path) != nil { count += 1 }
            return count
        }
        // Half, half of the rest, and so on.
        let share = FairShare(capacity: Load(count: 4096))
        let floods = ["a", "b", "c"].map { flood(share, [$0]) }
        #expect(floods == [2048, 1024, 512])
        // A connection takes half of its peer's half and leaves the other connections the rest.
        let deep = FairShare(capacity: Load(count: 4096))
        let deepFloods = [["a", "1"], ["a", "2"], ["b", "1"]].map { flood(deep, $0) }
        #expect(deepFloods == [1024, 512, 640])
        // What is given back can be taken by others, and nothing is left of those that hold nothing.
        let account = try #require(deep.admit(Load(count: 1), to: ["c", "1"]))
        deep.remove(Load(count: 1), from: account)
        #expect(deep.held(by: ["c"]) == Load() && deep.held.count == 1024 + 512 + 640)
        // Bytes count as well as numbers.
        let bytes = FairShare(capacity: Load(count: 100, byteCount: 1000))
        #expect(bytes.admit(Load(count: 1, byteCount: 501), to: ["a"]) == nil)
        #expect(bytes.admit(Load(count: 1, byteCount: 500), to: ["a"]) != nil)
    }

    @Test("a peer is reported once a minute, all peers 256 times a minute, and the others are counted")
    func reports() {
        var limit = ReportLimit()
        let begin = ContinuousClock.now
        #expect(limit.note("a", at: begin) == 0)
        for second in 0..<60 { #expect(limit.note("a", at: begin + .seconds(second)) == nil) }
        #expect(limit.note("b", at: begin + .seconds(59)) == 60)
        #expect(limit.note("a", at: begin + .seconds(60)) == 0)
        #expect(limit.note("a", at: begin + .seconds(61)) == nil)
        let later = begin + .seconds(1000)
        let reported = (0..<100_000).count { limit.note("stranger \($0)", at: later) != nil }
        #expect(reported == 256)
        #expect(limit.note("late", at: later + .seconds(60)) == 100_000 - 256)
    }
}

@Suite("Latencies")
struct LatencyTests {
    @Test("quantiles of a histogram are those of the sorted times within 5 percent")
    func quantiles() throws {
        var histogram = LatencyHistogram()
        #expect(histogram.p50 == nil)
        var generator = SystemRandomNumberGenerator()
        let times = (0..<5000).map { _ in Double.random(in: 0.00001...0.5, using: &generator) }
        for time in times { histogram.record(.seconds(time)) }
        let sorted = times.sorted()
        for fraction in [0.01, 0.5, 0.99, 1] {
            let expected = sorted[Int((fraction * 5000).rounded(.up)) - 1]
            let found = try #require(histogram.quantile(fraction)) / .seconds(1)
            #expect(abs(found / expected - 1) <= 0.051, "\(fraction): \(found), \(expected)")
        }
        histogram.record(.seconds(1_000_000))
        histogram.record(.zero)
        #expect(histogram.count == 5002)
    }

    @Test("times of long ago are forgotten, a thousand new ones are enough")
    func recent() throws {
        var latencies = RecentLatencies()
        #expect(latencies.p50 == nil && latencies.p99 == nil)
        for _ in 0..<4096 { latencies.record(.seconds(10)) }
        for _ in 0..<2048 { latencies.record(.milliseconds(1)) }
        #expect(latencies.count == 2048)
        #expect(try #require(latencies.p99) < .milliseconds(1.1))
        latencies.record(.seconds(10))
        #expect(latencies.count == 1025 && latencies.p99.map { $0 < .milliseconds(1.1) } == true)
    }
}
