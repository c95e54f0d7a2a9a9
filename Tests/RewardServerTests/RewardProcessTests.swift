import AdvGRPO
import Configuration
import Foundation
import Processes
import Protocol
import TestSupport
import Testing
import TinyRun
import Transport

@testable import RewardServer

/// A process that gives a reward of one's own, and does what a test tells it.
private final class FakeProcess: Sendable {
    struct State: Sendable {
        var requests: [RewardRequest] = []
        /// What it does with the next requests, one each; then it is honest.
        var deeds: [@Sendable (RewardRequest, Request) -> Void] = []
        var kept: [Request] = []
    }

    let state = SharedState(State())
    let server: Server

    init(_ endpoint: String, on loop: SocketLoop, options: ServerOptions = ServerOptions()) throws {
        server = try Server(Endpoint(endpoint), on: loop, options: options) { [state] request in
            request.answering {
                let asked = try request.decoded(as: RewardRequest.self)
                let deed = state.withLock { state -> (@Sendable (RewardRequest, Request) -> Void)? in
                    state.requests.append(asked)
                    return state.deeds.isEmpty ? nil : state.deeds.removeFirst()
                }
                if let deed { return deed(asked, request) }
                request.reply(Self.honest(asked))
            }
        }
    }

    /// Group 0's images get 1 and 2, group 1's 11 and 12; maps of two places, whose own level is 100.
    static func honest(_ request: RewardRequest) -> Rewards {
        let values = (1...2).map { Float(10 * request.group.index + $0) }
        return Rewards(
            group: request.group, values: TensorPayload(floats: values),
            maps: request.wantsMaps ? TensorPayload(floats: [99, 101, 98, 102], shape: [2, 1, 2]) : nil)
    }

    var askedCount: Int { state.withLock { $0.requests.count } }

    /// Does not answer yet.
    @Sendable func keep(_ asked: RewardRequest, _ request: Request) { state.withLock { $0.kept.append(request) } }

    func next(_ deeds: (@Sendable (RewardRequest, Request) -> Void)...) { state.withLock { $0.deeds = deeds } }
}

/// A reward server and the two processes whose rewards it adds: `redness` with weight 0.5, `size` with 2.
private func withProcesses(
    overrides: [String] = [], start: Bool = true,
    _ body: (RewardBench, _ redness: FakeProcess, _ size: FakeProcess) throws -> Void
) throws {
    try withTemporaryFolder { folder in
        let loop = try SocketLoop()
        defer { loop.shutdownBlocking() }
        let redness = try FakeProcess("ipc://\(folder)/redness", on: loop)
        let size = try FakeProcess("ipc://\(folder)/size", on: loop)
        let bench = try RewardBench(
            TinyRun.load(
                in: folder,
                overrides: [
                    "rewardProcesses={redness: {endpoint: 'ipc://\(folder)/redness', weight: 0.5, maps: true}, "
                        + "size: {endpoint: 'ipc://\(folder)/size', weight: 2}, "
                        + "unused: {endpoint: 'ipc://\(folder)/unused', weight: 0}}"
                ] + overrides))
        bench.compute()
        defer { #expect(throws: Never.self) { try bench.end() } }
        try bench.restore()
        try bench.open(0)
        try body(bench, redness, size)
    }
}

/// The failure that `body` throws, or nil.
private func refusal(_ body: () throws -> Void) -> Failure? {
    do {
        try body()
        return nil
    } catch {
        return error as? Failure
    }
}

@Suite("Rewards of one's own", .serialized, .timeLimit(.minutes(2)))
struct RewardProcessTests {
    private let first = GroupID(epoch: 0, index: 0)

    @Test("their values are components and enter the weighted sum, and a group asked for again gets the same")
    func sum() throws {
        var plain: [Scores] = []
        try withRewardServer { bench in
            try bench.restore()
            try bench.open(0)
            plain = try bench.scores(0)
        }
        try withProcesses { bench, redness, size in
            let scores = try bench.scores(0)
            for (index, (scores, plain)) in zip(scores, plain).enumerated() {
                #expect(Set(scores.components.keys) == ["texture", "redness", "size"])
                #expect(scores.components["texture"] == plain.components["texture"])
                for (member, (sum, own)) in zip(scores.rewards.floats, plain.rewards.floats).enumerated() {
                    let value = Float(10 * index + member + 1)
                    #expect(scores.components["redness"]?.floats[member] == value)
                    #expect(abs(sum - (own + 2.5 * value)) < 1e-5)
                }
                #expect(scores.maps == nil)
            }
            let request = try #require(redness.state.withLock { $0.requests.first })
            #expect(request.reward == "redness" && request.group == first && !request.wantsMaps)
            #expect(try request.images == bench.request(first).images)
            #expect(try request.prompt == bench.request(first).prompt)

            // Another value would be given now; nobody is asked.
            size.next { asked, request in
                request.reply(Rewards(group: asked.group, values: TensorPayload(floats: [7, 7])))
            }
            #expect(try bench.scores(0) == scores && redness.askedCount == 2 && size.askedCount == 2)
            var other = try bench.request(first)
            other.tensors = [
                "images": TensorPayload(uint8s: [UInt8](repeating: 9, count: 2 * 64 * 64 * 3), shape: [2, 64, 64, 3])
            ]
            #expect(try bench.ask(bench.worker, other).components["size"]?.floats == [7, 7])
            #expect(try bench.health().counters["rewardProcesses.size.answers"] == 3)
        }
    }

    @Test(
        "where patches are credited, a map says where, its level is the value's, and without a map every place counts alike"
    )
    func maps() throws {
        var plain: [Scores] = []
        try withRewardServer(overrides: ["policy.advantage=patch"]) { bench in
            try bench.restore()
            try bench.open(0)
            plain = try bench.scores(0)
        }
        try withProcesses(overrides: ["policy.advantage=patch"]) { bench, _, _ in
            let scores = try bench.scores(0)[0]
            let (maps, own) = (try #require(scores.maps), try #require(plain[0].maps))
            #expect(maps.shape == own.shape && maps.shape[2] % 2 == 0)
            let (rows, columns) = (maps.shape[1], maps.shape[2])
            for member in 0..<2 {
                for place in 0..<rows * columns {
                    let side: Float = place % columns < columns / 2 ? -1 : 1
                    let value = Float(member + 1)
                    // redness: value -+ 1 for the first image, -+ 2 for the second, times 0.5; size: value times 2.
                    let expected =
                        own.floats[member * rows * columns + place] + 0.5 * (value + side * value) + 2 * value
                    #expect(abs(maps.floats[member * rows * columns + place] - expected) < 1e-4)
                }
            }
        }
    }

    @Test("a lie is refused by name, the group can be scored again, and nothing of the lie stays")
    func lies() throws {
        try withProcesses(overrides: ["policy.advantage=patch"]) { bench, redness, _ in
            func lie(_ rewards: @escaping @Sendable (RewardRequest) -> Rewards) -> String {
                redness.next { asked, request in request.reply(rewards(asked)) }
                let failure = refusal { try bench.ask(bench.worker, bench.request(first)) }
                #expect(failure?.code == .rewardProcess)
                #expect(failure?.message.contains("reward process redness at ipc://") == true)
                return failure?.message ?? ""
            }
            let values = TensorPayload(floats: [1, 2])
            #expect(lie { Rewards(group: $0.group, values: TensorPayload(floats: [1])) }.contains("F32 [1]"))
            #expect(lie { _ in Rewards(group: GroupID(epoch: 0, index: 1), values: values) }.contains("group is 0/1"))
            #expect(lie { Rewards(group: $0.group, values: values) }.contains("maps is missing"))
            let fine = TensorPayload(floats: [Float](repeating: 0, count: 2 * 65), shape: [2, 65, 1])
            #expect(lie { Rewards(group: $0.group, values: values, maps: fine) }.contains("at most 64 x 64"))
            redness.next { _, request in request.reply(EpochOpened()) }
            #expect(refusal { try bench.ask(bench.worker, bench.request(first)) }?.code == .rewardProcess)
            redness.next { _, request in request.fail(Failure(code: .failed, message: "no model")) }
            #expect(refusal { try bench.ask(bench.worker, bench.request(first)) }?.message.contains("no model") == true)

            let scores = try bench.scores(0)[0]
            #expect(scores.components["redness"]?.floats == [1, 2])
            #expect(try bench.health().serving)
        }
    }

    @Test("one that is slow is asked again, says so, and holds up neither trainings nor other groups")
    func slow() throws {
        let times = ["rewardProcesses.redness.timeout=0.5", "rewardProcesses.redness.patience=20"]
        try withProcesses(overrides: times) { bench, redness, _ in
            _ = try bench.scores(0)
            try bench.open(1)
            let late = GroupID(epoch: 1, index: 0)
            redness.next(redness.keep, redness.keep, redness.keep)
            let pending = try bench.worker.begin(bench.request(late), deadline: .seconds(30))
            var health = try bench.health()
            while health.counters["groupsScored"] != 3 || !health.reason.hasPrefix("waiting for") {
                health = try bench.health()
            }
            #expect(health.reason.hasPrefix("waiting for reward process redness at ipc://"))
            // The compute thread is free.
            #expect(try bench.train(0, from: 0).version.rawValue == 1)
            #expect(try pending.wait().components["redness"]?.floats == [1, 2])
            #expect(redness.askedCount >= 6)
            health = try bench.health()
            #expect(health.counters["rewardProcesses.redness.retries"] ?? 0 >= 3)
            #expect(health.counters["failures"] == 0 && health.seconds["rewardProcesses"] ?? 0 > 0)
        }
    }

    @Test(
        "one that is gone costs its groups after the stated time, and is used when it is back; one without time is waited for"
    )
    func gone() throws {
        let times = ["rewardProcesses.redness.timeout=0.4", "rewardProcesses.redness.patience=1.2"]
        try withProcesses(overrides: times) { bench, redness, _ in
            redness.next { _, request in request.fail(Failure(code: .busy, message: "one moment")) }
            _ = try bench.scores(0)
            #expect(redness.askedCount >= 3)
            try bench.open(1)
            let lost = GroupID(epoch: 1, index: 0)
            redness.next(redness.keep, redness.keep, redness.keep, redness.keep, redness.keep)
            let failure = refusal { try bench.ask(bench.worker, bench.request(lost)) }
            #expect(failure?.code == .rewardProcess)
            #expect(
                failure?.message.contains("has not scored group 1/0 within 1.2 s") == true, "\(failure?.message ?? "")")
            redness.next()
            #expect(try bench.scores(1)[0].components["redness"]?.floats == [1, 2])
            #expect(try bench.health().counters["rewardProcesses.redness.failures"] == 1)
        }
    }

    @Test(
        "told to finish first, the role waits for answers on their way; told to end, it sends those who wait to its successor"
    )
    func ends() throws {
        for drains in [true, false] {
            try withProcesses { bench, redness, _ in
                redness.next(redness.keep)
                let pending = try bench.worker.begin(bench.request(first), deadline: .seconds(30))
                while try bench.health().counters["groupsScored"] != 1 {}
                bench.shutdown.request("night", drains: drains)
                if drains {
                    let asked = try #require(redness.state.withLock { $0.requests.first })
                    redness.state.withLock { $0.kept[0] }.reply(FakeProcess.honest(asked))
                    #expect(try pending.wait().components["redness"]?.floats == [1, 2])
                } else {
                    #expect(refusal { _ = try pending.wait() }?.code == .busy)
                }
                try bench.finish()
            }
        }
    }

    @Test("beyond this machine there are keys, or the reward server does not start")
    func insecure() throws {
        try withTemporaryFolder { folder in
            let overrides = ["rewardProcesses={r: {endpoint: 'tcp://192.0.2.1:7001'}}"]
            #expect(throws: TransportError.self) { try RewardBench(TinyRun.load(in: folder, overrides: overrides)) }
        }
    }
}

/// docs/examples/reward.py, in Python with pyzmq and safetensors, asked by a reward server.
@Suite("Python reward process", .optimized, .serialized, .timeLimit(.minutes(2)))
struct PythonRewardTests {
    private static let python = Repository.path + "/.venv-peers/bin/python"
    private static let example = Repository.path + "/docs/examples/reward.py"

    /// Runs the example, or a changed one, at an endpoint and gives a test a reward server that asks it.
    private func withExample(
        keys: String = "", overrides: [String] = [], changing change: (String) -> String = { $0 },
        _ body: (RewardBench) throws -> Void
    ) throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: Self.python), "\(Self.python) is missing: run dev/python-peers"
        )
        try withTemporaryFolder { folder in
            let text = try String(contentsOfFile: Self.example, encoding: .utf8)
            let changed = change(text)
            var script = Self.example
            if changed != text {
                script = folder + "/changed.py"
                try Data(changed.utf8).write(to: URL(fileURLWithPath: script))
            }
            let endpoint = "ipc://\(folder)/reward"
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Self.python)
            process.arguments = [script, endpoint] + (keys.isEmpty ? [] : [keys])
            let output = Pipe()
            process.standardOutput = output
            try process.run()
            // A thread of a test has signals blocked, and so has what it starts: SIGTERM would wait for ever.
            defer {
                kill(process.processIdentifier, SIGKILL)
                process.waitUntilExit()
            }
            let ready = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
            #expect(ready.hasPrefix("ready"))
            let bench = try RewardBench(
                TinyRun.load(
                    in: folder,
                    overrides: ["rewardProcesses={redness: {endpoint: '\(endpoint)', maps: true, patience: 30}}"]
                        + overrides))
            bench.compute()
            defer { #expect(throws: Never.self) { try bench.end() } }
            try bench.restore()
            try bench.open(0)
            try body(bench)
        }
    }

    /// Redness of the bench's images of a group of epoch 0, by hand.
    private func redness(_ group: Int) -> [[Float]] {
        let levels = (0..<2 * 64 * 64 * 3).map { Float(UInt8(truncatingIfNeeded: 7 * $0 + 31 * group)) / 255 }
        return (0..<2).map { image in
            (0..<64 * 64).map { place in
                let first = 3 * (image * 64 * 64 + place)
                return levels[first] - (levels[first + 1] + levels[first + 2]) / 2
            }
        }
    }

    @Test("the example of the documentation scores images, and says where when patches are credited")
    func example() throws {
        var texture: TensorPayload?
        try withRewardServer(overrides: ["policy.advantage=both"]) { bench in
            try bench.restore()
            try bench.open(0)
            texture = try bench.scores(0)[0].maps
        }
        try withExample { bench in
            for scores in try bench.scores(0).enumerated() {
                let places = redness(scores.offset)
                let values = try #require(scores.element.components["redness"]?.floats)
                for (value, places) in zip(values, places) {
                    #expect(abs(value - places.reduce(0, +) / Float(places.count)) < 1e-4)
                }
            }
        }
        try withExample(overrides: ["policy.advantage=both"]) { bench in
            let scores = try bench.scores(0)[0]
            let (maps, own) = (try #require(scores.maps), try #require(texture))
            #expect(maps.shape == [2, 64, 64] && 64 % own.shape[1] == 0)
            let places = redness(0)
            let side = 64 / own.shape[1]
            for image in 0..<2 {
                for place in 0..<64 * 64 {
                    let patch = place / 64 / side * own.shape[2] + place % 64 / side
                    let expected = own.floats[image * own.shape[1] * own.shape[2] + patch] + places[image][place]
                    #expect(abs(maps.floats[image * 64 * 64 + place] - expected) < 1e-3)
                }
            }
        }
    }

    @Test(
        "bytes that no reward may have are refused by name",
        arguments: [
            ("places.mean((1, 2))", "numpy.float32(numpy.nan) * places.mean((1, 2))", "tensor values holds nan"),
            ("places.mean((1, 2))", "places.mean((1, 2))[:1]", "tensor values is F32 [1], expected F32 [2]"),
            ("places.mean((1, 2))", "places.mean((1, 2)).astype(float)", "tensor values is F64 [2], expected F32"),
            ("{\"group\": fields[\"group\"]}", "{\"group\": {\"epoch\": 9, \"index\": 0}}", "group is 9/0"),
            ("{\"group\": fields[\"group\"]}", "{}", "\"group\" is missing"),
            ("kind, answer, tensors = 34", "kind, answer, tensors = 13", "got scores"),
        ]) func lies(honest: String, lying: String, refusal: String) throws
    {
        try withExample(changing: { $0.replacing(honest, with: lying) }) { bench in
            do {
                _ = try bench.scores(0)
                Issue.record("a lie was scored")
            } catch let failure as Failure {
                #expect(failure.code == .rewardProcess && failure.message.contains(refusal), "\(failure)")
            }
            #expect(try bench.health().serving)
        }
    }

    @Test("with keys it is known by its own, and answers the reward server alone")
    func keys() throws {
        try withTemporaryFolder { folder in
            let (keys, others) = (folder + "/keys", folder + "/others")
            try ClusterSecurity.generate(folder: keys)
            try ClusterSecurity.generate(folder: others)
            try withExample(keys: keys, overrides: ["cluster.keys=\(keys)"]) { bench in
                let scores = try bench.scores(0)[0]
                #expect(scores.components["redness"] != nil)
            }
            // Another reward server, or another process, is nobody that one talks to.
            let short = ["rewardProcesses.redness.timeout=1", "rewardProcesses.redness.patience=1"]
            try withExample(keys: keys, overrides: ["cluster.keys=\(others)"] + short) { bench in
                #expect(failure { _ = try bench.scores(0) } == .rewardProcess)
            }
        }
    }
}
