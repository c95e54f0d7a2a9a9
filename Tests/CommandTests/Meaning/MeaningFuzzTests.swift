import Configuration
import Foundation
import Protocol
import TestSupport
import Testing

@testable import Transport

extension ProcessTests {
    /// Well-formed messages of every kind that mean something extreme, contradictory or stale, to living roles: none
    /// dies, and the run that goes on meanwhile ends with the bits of an undisturbed one.
    ///
    /// Inputs are numbers, as `FuzzTarget`'s are; `ADVGRPO_FUZZ_SECONDS` asks for more of them,
    /// `ADVGRPO_FUZZ_FIRST=1700` for others. Those that once did harm are `Tests/Fixtures/Fuzz/meaning.json`, and are
    /// said to every run first.
    @Suite("Meaning under fire", .optimized, .timeLimit(.minutes(180)), .serialized)
    struct MeaningFuzzTests {
        @Test("requests to learner, reward server, relay and workers")
        func requests() async throws {
            let budget = FuzzTarget.budget(share: 0.5)
            let begin = ContinuousClock.now
            var number = ProcessInfo.processInfo.environment["ADVGRPO_FUZZ_FIRST"].flatMap(Int.init) ?? 0
            var counts: [String: Int] = [:]
            repeat {
                try await withWorkspace { workspace in
                    let cluster = try await HandStartedRun(workspace)
                    let intruder = try Intruder(cluster.endpoints, settings: workspace.path + "/settings.yaml")
                    try await disturb(cluster, intruder, from: &number, &counts)
                    try await cluster.expectHonestEnd()
                }
            } while .now - begin < budget
            print("fuzz meaning: inputs up to \(number), \(counts.sorted { $0.key < $1.key })")
            let refused = counts.filter { $0.key != "answered" && $0.key != "accepted" }.values.reduce(0, +)
            #expect(refused > 100 && counts["answered", default: 0] > 10, "one of both hardly happened")
        }

        /// Says known harm and then one input after the other, until the run is over.
        private func disturb(
            _ cluster: HandStartedRun, _ intruder: Intruder, from number: inout Int, _ counts: inout [String: Int]
        ) async throws {
            try await intruder.join()
            try await intruder.look()
            for known in try KnownHarm.all() {
                let said = try known.utterance(intruder.knowledge)
                let outcome = try await intruder.say(said, from: known.from, to: known.to, mustBeRefused: true)
                #expect(known.codes.contains(outcome.answer), "known harm: \(outcome)")
            }
            while cluster.learner.exit == nil, !intruder.knowledge.isOver {
                do {
                    if number % 8 == 0 { try await intruder.look() }
                    let outcome = try await intruder.say(number)
                    counts[outcome.answer, default: 0] += 1
                    if outcome.mustBeRefused {
                        #expect(!["answered", "accepted"].contains(outcome.answer), "input \(number): \(outcome)")
                    }
                    number += 1
                } catch let error as TransportError {
                    // The end of the run looks like this, too.
                    _ = try? await cluster.learner.finish(within: .seconds(10))
                    guard cluster.learner.exit == .status(0) else { throw TestFailure("input \(number): \(error)") }
                }
                try await Task.sleep(for: .milliseconds(1))
            }
        }
    }
}

/// A run of roles that were started by hand, with a relay, each at a local socket. Nobody starts again what dies.
final class HandStartedRun {
    let learner: RunningProcess
    let endpoints: [Role: Endpoint]
    private let others: [RunningProcess]
    private let workspace: Workspace

    init(_ workspace: Workspace) async throws {
        self.workspace = workspace
        func at(_ name: String) -> String { "ipc://\(workspace.path)/run/sockets/\(name)" }
        endpoints = [
            .learner: try Endpoint(at("learner")), .rewardServer: try Endpoint(at("reward-server")),
            .relay: try Endpoint(at("relay")), .rolloutWorker: try Endpoint(at("worker-0")),
        ]
        func start(_ arguments: String...) throws -> RunningProcess {
            try RunningProcess(
                arguments + ["--run-dir", "run", "--set", "cluster.leaseSeconds=1"], folder: workspace.path,
                name: "\(arguments[0])-\(UUID().uuidString.prefix(4))")
        }
        let rewardServer = try start("reward-server", "settings.yaml")
        try await eventually("the reward server") { rewardServer.errors.contains("ready at") ? true : nil }
        let learner = try start("learner", "settings.yaml")
        self.learner = learner
        let relay = try start("relay", "settings.yaml")
        try await eventually("learner and relay") {
            learner.errors.contains("training from epoch") && relay.errors.contains("ready at") ? true : nil
        }
        let workers = try (0..<2).map { index in
            try start(
                "rollout-worker", "settings.yaml", "--name", "worker-\(index)", "--bind", at("worker-\(index)"),
                "--relay",
                at("relay"))
        }
        others = [rewardServer, relay] + workers
        try await eventually("the workers") { workers.allSatisfy { $0.errors.contains("ready at") } ? true : nil }
    }

    /// The run is over, with the right bits, and nobody died on its way.
    func expectHonestEnd() async throws {
        let finished = try await learner.finish()
        #expect(finished.exit == .status(0), "\(finished.errors)")
        try await expectSameBits(workspace.files("run"))
        for (role, name) in zip(others, ["reward-server", "relay"]) {
            #expect(role.exit == nil, "\(name) died: \(role.errors.suffix(2000))")
            role.signal(SIGTERM)
        }
        for role in others { #expect(try await role.finish().exit == .status(0), "\(role.errors.suffix(2000))") }
        #expect(!workspace.exists("run/logs/learner.requests") || workspace.isEmpty("run/logs/learner.requests"))
        #expect(workspace.isEmpty("run/logs/reward-server.requests"))
    }
}

extension Workspace {
    /// Whether a file is there and has nothing in it.
    func isEmpty(_ name: String) -> Bool {
        FileManager.default.contents(atPath: "\(path)/\(name)")?.isEmpty ?? false
    }
}

/// A message that once ended a role or made one work for nothing, as `Tests/Fixtures/Fuzz/meaning.json` keeps it.
struct KnownHarm: Decodable {
    struct Tensor: Decodable {
        var dtype: String
        var shape: [Int]
        /// Every element; 0 unless given.
        var fill: Float?
    }

    /// What it did.
    var harm: String
    var from: Role
    var to: Role
    var kind: String
    /// Texts `$epoch`, `$policyVersion`, `$weightsDigest`, `$discriminatorVersion` and `$prompt` stand for the run's
    /// own.
    var fields: Said
    var tensors: [String: Tensor]
    /// What may be answered.
    var codes: [String]

    static func all() throws -> [KnownHarm] {
        let url = URL(fileURLWithPath: Repository.fixtures + "/Fuzz/meaning.json")
        return try JSONDecoder().decode([KnownHarm].self, from: Data(contentsOf: url))
    }

    func utterance(_ knowledge: Knowledge) throws -> Utterance {
        var said = try Utterance(HealthRequest())
        guard let kind = MessageKind.allCases.first(where: { "\($0)" == kind }) else {
            throw TestFailure("no kind \(kind)")
        }
        said.kind = kind
        said.fields = Self.filled(fields, knowledge)
        for (name, tensor) in tensors {
            let floats = [Float](repeating: tensor.fill ?? 0, count: tensor.shape.reduce(1, *))
            switch tensor.dtype {
            case "U8": said.tensors[name] = TensorPayload(uint8s: floats.map { UInt8($0) }, shape: tensor.shape)
            case "I32": said.tensors[name] = TensorPayload(int32s: floats.map { Int32($0) })
            default: said.tensors[name] = TensorPayload(floats: floats, shape: tensor.shape)
            }
        }
        return said
    }

    private static func filled(_ said: Said, _ knowledge: Knowledge) -> Said {
        switch said {
        case .text("$epoch"): .int(knowledge.epoch)
        case .text("$policyVersion"): .int(knowledge.policyVersion)
        case .text("$weightsDigest"): .text(knowledge.weightsDigest)
        case .text("$discriminatorVersion"): .int(knowledge.discriminatorVersion)
        case .text("$prompt"): .text(knowledge.prompts[0])
        case .object(let members): .object(members.mapValues { filled($0, knowledge) })
        case .list(let elements): .list(elements.map { filled($0, knowledge) })
        default: said
        }
    }
}
