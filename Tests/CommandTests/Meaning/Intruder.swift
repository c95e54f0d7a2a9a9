import Configuration
import Foundation
import Processes
import Protocol
import RunFiles
import SafeTensors
import Synchronization
import TestSupport

@testable import Transport

/// What an intruder knows of the run it disturbs: all that an operator may ask, and the settings.
struct Knowledge {
    var runID: RunID?
    var epoch = 0
    var policyVersion = 0
    var weightsDigest = String(repeating: "0", count: 64)
    var discriminatorVersion = 0
    var prompts = [String](repeating: "a", count: 2)
    var isOver = false
}

/// A peer of a run of the workspace's settings that says well-formed things which mean something wrong: input `i` is
/// the same for everybody who asks for it, but for what it takes from the run as it stands.
final class Intruder {
    /// What was said to whom, and what came back.
    struct Outcome: CustomStringConvertible {
        var sender: Role
        var receiver: Role
        var said: Utterance
        /// The failure's code, "answered", or a group's verdict.
        var answer: String
        /// Whether nothing but a refusal would do.
        var mustBeRefused: Bool
        var description: String {
            "\(said.kind) from \(sender) to \(receiver): \(answer); \(said.fields)".prefix(600) + ""
        }
    }

    /// Inputs of a run that may send its learner back to a snapshot; more, and it would never come to its end.
    private static let disturbanceLimit = 3
    /// Leases that it takes and lets end.
    private static let leaseLimit = 5

    private let endpoints: [Role: Endpoint]
    private let loop: SocketLoop
    private let settingsDigest: String
    private var clients: [String: Client] = [:]
    private(set) var knowledge = Knowledge()
    private var disturbanceCount = 0
    private var leaseCount = 0

    init(_ endpoints: [Role: Endpoint], settings: String) throws {
        self.endpoints = endpoints
        loop = try SocketLoop()
        settingsDigest = try Settings.load(path: settings).methodDigest
    }

    deinit { loop.shutdownBlocking() }

    private func client(_ receiver: Role, as sender: Role) throws -> Client {
        let key = "\(sender)-\(receiver)"
        if let known = clients[key] { return known }
        guard let endpoint = endpoints[receiver] else { throw TestFailure("nobody is a \(receiver)") }
        let made = try Client(endpoint, on: loop, options: try ClientOptions(keys: "", as: sender))
        clients[key] = made
        return made
    }

    /// Joins the run as a worker that never works, so that its results are looked into.
    func join() async throws {
        let hello = Hello(
            role: .rolloutWorker, name: "stranger", process: Self.process, settingsDigest: settingsDigest, models: [:])
        _ = try await client(.learner, as: .rolloutWorker).request(hello, deadline: .seconds(30))
    }

    /// Asks how the run stands. A learner that is done hears that it need not wait for the stranger.
    func look() async throws {
        let status = try await client(.learner, as: .operator).request(StatusRequest(), deadline: .seconds(10)).document
        func number(_ key: String) -> Int {
            if case .number(let value) = status[key] { Int(value) } else { 0 }
        }
        func text(_ value: JSONValue?) -> String? { if case .string(let text) = value { text } else { nil } }
        knowledge.runID = text(status["runID"]).flatMap(RunID.init(rawValue:))
        (knowledge.epoch, knowledge.policyVersion) = (number("epoch"), number("policyVersion"))
        knowledge.discriminatorVersion = number("discriminatorVersion")
        if let digest = text(status["weightsDigest"]), digest.count == 64 { knowledge.weightsDigest = digest }
        if case .array(let groups) = status["groups"], groups.count == 2 {
            knowledge.prompts = groups.map { text($0["prompt"]) ?? "" }
        }
        knowledge.isOver = text(status["stopping"]) != nil
        if knowledge.isOver {
            _ = try await client(.learner, as: .rolloutWorker).request(
                LeaseRequest(worker: "stranger"), deadline: .seconds(10))
        }
    }

    /// Says an utterance and gives the answer.
    func say(_ said: Utterance, from sender: Role, to receiver: Role, mustBeRefused: Bool) async throws -> Outcome {
        let client = try client(receiver, as: sender)
        let encoded = try said.encoded(
            runID: knowledge.runID, clientID: client.id, sender: sender == .operator ? nil : sender,
            requestID: UInt64.random(in: 0 ... .max))
        let reply = try await client.exchange(encoded, deadline: .seconds(20))
        var answer = "answered"
        if reply.envelope.kind == .failure { answer = try reply.decoded(as: Failure.self).code.rawValue }
        if reply.envelope.kind == .taskAcknowledgement {
            answer = try reply.decoded(as: TaskAcknowledgement.self).verdict.rawValue
        }
        return Outcome(sender: sender, receiver: receiver, said: said, answer: answer, mustBeRefused: mustBeRefused)
    }

    /// Says input number `number`.
    func say(_ number: Int) async throws -> Outcome {
        var random = SplitMix(state: UInt64(number))
        while true {
            let permission = Permission.table[random.below(Permission.table.count)]
            let senders = Role.allCases.filter { permission.senders.contains($0) }
            let receivers = Role.allCases.filter { permission.receivers.contains($0) }
            // One in five comes from, or goes to, whom the table does not name.
            var sender = senders[random.below(senders.count)]
            var receiver = receivers[random.below(receivers.count)]
            if random.below(5) == 0 { sender = Role.allCases[random.below(Role.allCases.count)] }
            if random.below(8) == 0 { receiver = Role.allCases[random.below(4)] }
            guard endpoints[receiver] != nil else { continue }
            let isAllowed = Permission.allows(permission.kind, from: sender, to: receiver)
            var said = try utterance(permission.kind, &random)
            var lies = !isAllowed
            if isAllowed {
                guard admits(permission.kind) else { continue }
                if let lie = lie(permission.kind, &said, &random) { lies = lie }
            }
            said.kind = permission.kind
            return try await say(said, from: sender, to: receiver, mustBeRefused: lies)
        }
    }

    /// Whether another such request may be said to whom it is meant for: the run has to come to its end.
    private func admits(_ kind: MessageKind) -> Bool {
        switch kind {
        case .stopRequest: return false
        case .epochOpening, .discriminatorTraining:
            disturbanceCount += 1
            return disturbanceCount <= Self.disturbanceLimit
        case .leaseRequest:
            leaseCount += 1
            return leaseCount <= Self.leaseLimit
        default: return true
        }
    }

    /// Changes what is said. A result or images that nothing is wrong with would count, whoever sent them, so one thing
    /// that is wrong for certain is among the changes; so it is with a state to restore.
    ///
    /// - Returns: whether it must be refused; nil where a change may mean nothing.
    private func lie(_ kind: MessageKind, _ said: inout Utterance, _ random: inout SplitMix) -> Bool? {
        if random.below(2) == 0 { said.twist(&random) }
        let far: [Said] = [.int(1 << 40), .int(-1), .int(knowledge.epoch + 7), .int((1 << 32) - 1)]
        switch kind {
        case .scoreRequest:
            switch random.below(5) {
            case 0: said.tensors = ["images": TensorPayload(uint8s: [0, 0, 0], shape: [1, 1, 1, 3])]
            case 1: said.tensors = ["images": Self.bytes([4097, 1, 1, 3])]
            case 2: said.tensors = ["images": Self.bytes([2, 64, 32, 3])]
            case 3: said.fields["group"]?["epoch"] = far[random.below(far.count)]
            default: said.fields["prompt"] = .text("a prompt of another run")
            }
            return true
        case .groupResult:
            switch random.below(11) {
            case 0: said.fields["group"]?["epoch"] = far[random.below(far.count)]
            case 1: said.fields["group"]?["index"] = .int(2 + random.below(1 << 20))
            case 2: said.fields["policyVersion"] = .int(knowledge.policyVersion + 9)
            case 3: said.fields["discriminatorVersion"] = .int(knowledge.discriminatorVersion + 9)
            case 4: said.tensors["latents"] = TensorPayload(floats: [0, 0], shape: [1, 2, 1, 1, 1])
            case 5: said.tensors["logProbabilities"] = TensorPayload(floats: [-1e30, 0], shape: [2, 1])
            case 6: said.tensors["latents"] = Self.floats([2, 2, 16, 8, 8], 3e38)
            case 7: said.fields["seconds"] = .object(["sample": .number(1e300)])
            case 8: said.fields["prompt"] = .text("a prompt of another run")
            case 9: said.tensors["rewards"] = TensorPayload(floats: [1, .nan])
            default: said.tensors["reward.unheard"] = TensorPayload(floats: [1, 2])
            }
            return true
        case .gradientResult:
            // Its one tensor is of nothing that is trained.
            let numbers: [Said] = [.int(-1), .int(1 << 40), .number(0.5)]
            switch random.below(3) {
            case 0: said.fields["statistics"]?["ratioCount"] = numbers[random.below(numbers.count)]
            case 1: said.tensors["unheard"] = TensorPayload(floats: [.nan])
            default: said.fields["update"] = far[random.below(far.count)]
            }
            return true
        case .discriminatorRestore:
            said.tensors["unheard"] = TensorPayload(floats: [.nan])
            // Some of them wait for a last piece that never comes.
            return nil
        default:
            said.twist(&random)
            return nil
        }
    }

    private static let process = ProcessDescription(
        host: "elsewhere", processID: 1, processor: "", engine: "", program: "")

    private static func bytes(_ shape: [Int]) -> TensorPayload {
        TensorPayload(uint8s: [UInt8](repeating: 7, count: shape.reduce(1, *)), shape: shape)
    }

    private static func floats(_ shape: [Int], _ value: Float = 0.5) -> TensorPayload {
        TensorPayload(floats: [Float](repeating: value, count: shape.reduce(1, *)), shape: shape)
    }

    /// A request as one of the run's own roles would send it now.
    private func utterance(_ kind: MessageKind, _ random: inout SplitMix) throws -> Utterance {
        let group = GroupID(epoch: knowledge.epoch, index: random.below(2))
        let policy = PolicyVersion(rawValue: knowledge.policyVersion)
        let discriminator = DiscriminatorVersion(rawValue: knowledge.discriminatorVersion)
        let digest = WeightsDigest(hexadecimal: knowledge.weightsDigest)!  // 64 digits, as asked for
        let lease = LeaseID(rawValue: random.below(1 << 50))
        let piece = [UInt8](repeating: UInt8(random.below(256)), count: 16)
        switch kind {
        case .hello:
            return try Utterance(
                Hello(
                    role: .rolloutWorker, name: "stranger", process: Self.process, settingsDigest: settingsDigest,
                    models: [:]))
        case .leaseRequest:
            return try Utterance(LeaseRequest(worker: "stranger"))
        case .groupResult:
            return try Utterance(
                GroupResult(
                    of: Lease(
                        leaseID: lease, group: group, prompt: knowledge.prompts[group.index], memberCount: 2,
                        weights: WeightsReference(
                            version: policy, digest: digest, manifest: ManifestDigest(bytes: piece + piece)),
                        expiresInMilliseconds: 1000),
                    by: "stranger",
                    GroupResult.Trajectory(
                        latents: Self.floats([2, 2, 16, 8, 8]), logProbabilities: Self.floats([2, 1]),
                        stepIndices: TensorPayload(int32s: [0])),
                    Scores(
                        discriminatorVersion: discriminator, rewards: Self.floats([2]),
                        components: ["texture": Self.floats([2])]), seconds: ["sample": 1]))
        case .taskFailure:
            return try Utterance(
                TaskFailure(worker: "stranger", leaseID: lease, task: .rollout(group), cause: "no reason"))
        case .gradientResult:
            let order = GradientOrder(update: 0, sampleCount: 4, trajectory: ContentDigest(bytes: piece))
            return try Utterance(
                GradientResult(
                    of: Lease(
                        leaseID: lease, group: group, prompt: knowledge.prompts[group.index], memberCount: 2,
                        weights: WeightsReference(
                            version: policy, digest: digest, manifest: ManifestDigest(bytes: piece + piece)),
                        expiresInMilliseconds: 1000, gradient: order, advantages: Self.floats([2])),
                    order, by: "stranger", gradient: ["unheard": Self.floats([2, 3])],
                    digest: order.trajectory,
                    statistics: GradientStatistics(
                        sampleCount: 2, ratioCount: 2, loss: 0, distance: 0, squaredChange: 0, ratio: 2, above: 0,
                        below: 0, smallestRatio: 1, largestRatio: 1, drifts: [.init(step: 0, sum: 0, count: 2)]),
                    seconds: ["gradient": 1]))
        case .contentRequest: return try Utterance(ContentRequest(content: ContentDigest(bytes: piece)))
        case .heartbeat:
            return try Utterance(Heartbeat(worker: "stranger", state: .rollingOut, task: .rollout(group)))
        case .scoreRequest:
            return try Utterance(
                ScoreRequest(
                    group: group, prompt: knowledge.prompts[group.index],
                    discriminatorVersion: discriminator, images: Self.bytes([2, 64, 64, 3])))
        case .discriminatorTraining:
            return try Utterance(
                DiscriminatorTraining(
                    epoch: knowledge.epoch, fromVersion: discriminator,
                    groups: (0..<2).map { GroupID(epoch: knowledge.epoch, index: $0) }, steps: 2))
        case .discriminatorStateRequest:
            return try Utterance(DiscriminatorStateRequest(version: discriminator, chunkIndex: 0))
        case .discriminatorRestore:
            let document = TensorPayload(
                uint8s: Array(#"{"version":1,"updateCount":2,"kept":[],"waiting":[]}"#.utf8), shape: [52])
            return try Utterance(
                DiscriminatorRestore(
                    version: discriminator, chunkIndex: 0, chunkCount: 1,
                    runID: knowledge.runID ?? RunID(rawValue: "run-other")!,
                    chunk: TensorChunk(tensors: ["document.json": document, "head/x": Self.floats([2])])))
        case .epochOpening: return try Utterance(EpochOpening(epoch: knowledge.epoch))
        case .statusRequest: return try Utterance(StatusRequest())
        case .stopRequest: return try Utterance(StopRequest(drain: random.below(2) == 0, reason: "an intruder"))
        case .manifestRequest: return try Utterance(ManifestRequest(manifest: ManifestDigest(bytes: piece + piece)))
        case .piecesRequest: return try Utterance(PiecesRequest(pieces: [PieceDigest(bytes: piece)]))
        default: return try Utterance(HealthRequest())
        }
    }
}
