import Foundation
import Protocol
import SafeTensors

let run = RunID(rawValue: "run-2026.1_a")!
let digest = WeightsDigest(bytes: (0..<32).map { UInt8($0 * 8) })
let manifestDigest = ManifestDigest(bytes: (0..<32).map { UInt8(255 - $0) })
let pieceDigest = PieceDigest(bytes: (0..<16).map { UInt8(255 - $0) })
let contentDigest = ContentDigest(bytes: (0..<16).map { UInt8($0 * 16) })
let group = GroupID(epoch: 12, index: 3)

/// F32 tensor that counts 0, 0.5, 1, ...
func counting(_ shape: [Int]) -> TensorPayload {
    TensorPayload(floats: (0..<shape.reduce(1, *)).map { Float($0) / 2 }, shape: shape)
}

let sampleLease = Lease(
    leaseID: LeaseID(rawValue: 77), group: group, prompt: "a \"red\" fox / émoji 🦊\n", memberCount: 4,
    weights: WeightsReference(version: PolicyVersion(rawValue: 5), digest: digest, manifest: manifestDigest),
    expiresInMilliseconds: 60_000)

let sampleGradientLease = Lease(
    leaseID: LeaseID(rawValue: 78), group: group, prompt: "a fox", memberCount: 2,
    weights: WeightsReference(version: PolicyVersion(rawValue: 5), digest: digest, manifest: manifestDigest),
    expiresInMilliseconds: 60_000,
    gradient: GradientOrder(update: 1, sampleCount: 96, trajectory: contentDigest), advantages: counting([2]))

let sampleStatistics = GradientStatistics(
    sampleCount: 4, ratioCount: 4, loss: -0.25, distance: 0.5, squaredChange: 0.125, ratio: 4.5, above: 1, below: 0,
    smallestRatio: 0.75, largestRatio: 1.5,
    drifts: [.init(step: 1, sum: 0.5, count: 2), .init(step: 2, sum: 0.25, count: 2)])

let sampleGradient = GradientResult(
    of: sampleGradientLease, GradientOrder(update: 1, sampleCount: 96, trajectory: contentDigest), by: "worker-1",
    gradient: ["blocks.0.lora_A.weight": counting([2, 3]), "b": counting([])], digest: contentDigest,
    statistics: sampleStatistics, seconds: ["gradient": 1.5])

let sampleScores = Scores(
    discriminatorVersion: DiscriminatorVersion(rawValue: 4), rewards: counting([2]),
    components: ["dino": counting([2])], witnesses: ["twin": counting([2])])

let sampleResult = GroupResult(
    of: sampleLease, by: "worker-1",
    GroupResult.Trajectory(
        latents: counting([2, 3, 1, 2, 2]), logProbabilities: counting([2, 2]),
        stepIndices: TensorPayload(int32s: [1, 2])),
    sampleScores, seconds: ["denoise": 1.5, "score": 0.25])

let sampleRewardRequest = RewardRequest(
    reward: "redness", group: group, prompt: "a fox", wantsMaps: true,
    images: TensorPayload(uint8s: (0..<24).map { $0 }, shape: [2, 2, 2, 3]))

/// Six bytes in pieces of four, and an empty tensor.
let sampleManifest: WeightsManifest = {
    let last = PieceDigest(bytes: [UInt8](repeating: 1, count: 16))
    // Three bf16 values, and none.
    return try! WeightsManifest(
        pieceByteCount: 4,
        tensors: [
            .init(name: "a/\"b\"", dtype: .bfloat16, shape: [3], pieces: [pieceDigest, last]),
            .init(name: "c", dtype: .float32, shape: [0, 2], pieces: []),
        ])
}()

let sampleChunk = TensorChunk(tensors: ["blocks.0.lora_A.weight": counting([2, 3]), "b": counting([])])

/// One message of every kind, and of every case where a kind has several.
let samples: [(name: String, message: any WireMessage)] = [
    (
        "hello",
        Hello(
            role: .rolloutWorker, name: "worker-1",
            process: ProcessDescription(
                host: "node7", processID: 4711, processor: "EPYC 9004", engine: "oneDNN", program: "1.2.3"),
            settingsDigest: "abc", models: ["model/transformer": "0123456789abcdef0123456789abcdef"])
    ),
    ("welcome", Welcome(runID: run, program: "1.2.3")),
    (
        "welcome-reward",
        Welcome(runID: run, program: "1.2.3", discriminatorVersion: DiscriminatorVersion(rawValue: 4), epoch: 12)
    ),
    ("leaseRequest", LeaseRequest(worker: "worker-1")),
    ("leaseAnswer-lease", LeaseAnswer.lease(sampleLease)),
    ("leaseAnswer-gradient", LeaseAnswer.lease(sampleGradientLease)),
    ("leaseAnswer-wait", LeaseAnswer.wait(reason: "all groups are leased", retryInMilliseconds: 250)),
    ("leaseAnswer-stop", LeaseAnswer.stop(reason: "the run is finished")),
    ("manifestRequest", ManifestRequest(manifest: manifestDigest)),
    ("manifest", Manifest(text: sampleManifest.text)),
    (
        "piecesRequest",
        PiecesRequest(pieces: [pieceDigest, PieceDigest(bytes: [UInt8](repeating: 1, count: 16))])
    ),
    ("pieces", Pieces([SharedBytes(copying: [1, 2, 3] as [UInt8]), SharedBytes(copying: [4] as [UInt8])])),
    ("groupResult", sampleResult),
    (
        "taskFailure",
        TaskFailure(
            worker: "worker-1", leaseID: LeaseID(rawValue: 77), task: .gradient(group, update: 1), cause: "no memory")
    ),
    ("taskAcknowledgement", TaskAcknowledgement(.refused, reason: "weights digest differs")),
    (
        "heartbeat",
        Heartbeat(worker: "worker-1", state: .rollingOut, task: .rollout(group), seconds: ["rollingOut": 12.5])
    ),
    ("heartbeatAcknowledgement", HeartbeatAcknowledgement(lost: .gradient(group, update: 1), nextInMilliseconds: 500)),
    (
        "scoreRequest",
        ScoreRequest(
            group: group, prompt: "a fox",
            images: TensorPayload(uint8s: (0..<24).map { $0 }, shape: [2, 2, 2, 3]))
    ),
    ("scores", sampleScores),
    (
        "discriminatorTraining",
        DiscriminatorTraining(
            epoch: 12, fromVersion: DiscriminatorVersion(rawValue: 4), groups: [group], steps: 10)
    ),
    (
        "discriminatorTrained",
        DiscriminatorTrained(
            version: DiscriminatorVersion(rawValue: 5), realMean: 0.5, fakeMean: -0.5, auc: 0.9375,
            metrics: ["discriminator.loss": 0.75, "discriminator.broken": nil])
    ),
    ("discriminatorStateRequest", DiscriminatorStateRequest(version: DiscriminatorVersion(rawValue: 5), chunkIndex: 0)),
    (
        "discriminatorState",
        DiscriminatorState(
            version: DiscriminatorVersion(rawValue: 5), chunkIndex: 0, chunkCount: 1,
            chunk: TensorChunk(tensors: ["big": counting([4])], part: TensorPart(shape: [2, 4], elementOffset: 4)))
    ),
    (
        "discriminatorRestore",
        DiscriminatorRestore(
            version: DiscriminatorVersion(rawValue: 5), chunkIndex: 0, chunkCount: 1, runID: run, chunk: sampleChunk)
    ),
    (
        "discriminatorRestored",
        DiscriminatorRestored(version: DiscriminatorVersion(rawValue: 5), models: ["rewardBackbone": "0f"])
    ),
    ("rewardRequest", sampleRewardRequest),
    ("rewards", Rewards(group: group, values: counting([2]), maps: counting([2, 1, 2]))),
    ("gradientResult", sampleGradient),
    ("contentRequest", ContentRequest(content: contentDigest)),
    ("content", Content(["latents": counting([2, 3]), "steps": TensorPayload(int32s: [1, 2])])),
    ("epochOpening", EpochOpening(epoch: 12)),
    ("epochOpened", EpochOpened()),
    ("healthRequest", HealthRequest()),
    (
        "health",
        Health(
            role: .rewardServer, serving: true, reason: "scoring", runID: run, version: 5, uptimeSeconds: 12.25,
            memoryBytes: 123_456_789, queueDepth: 2, seconds: ["scoring": 8, "idle": 4.25], counters: ["scored": 40],
            requests: [
                "scoreRequest": Health.Requests(
                    answered: 40, busy: 1, refused: 2, rejected: 3,
                    latency: Health.Latency(p50Milliseconds: 3.5, p99Milliseconds: 20)),
                "healthRequest": Health.Requests(),
            ],
            unreadableMessages: 1, refusedConnections: 2,
            detail: ["references": 64, "list": [1.5, nil, true, "x"], "nested": ["a": [:]]])
    ),
    ("statusRequest", StatusRequest()),
    ("status", Status(document: ["roles": ["worker-1": "rollingOut"]])),
    ("stopRequest", StopRequest(drain: true, reason: "asked by an operator")),
    ("stopAcknowledgement", StopAcknowledgement()),
    ("failure", Failure(code: .busy, message: "the queue is full", remedy: "ask again")),
]

/// Folder of the committed bytes.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Fixtures/Protocol")

/// Encodes as the fixtures were: request id 0x0102030405060708, deadline 1500 ms.
func encode(_ message: some WireMessage) throws -> EncodedMessage {
    var encoded = try EncodedMessage(message, runID: run, requestID: 0x0102_0304_0506_0708)
    encoded.envelope.deadlineMilliseconds = 1500
    return encoded
}

/// The message a receiver gets from these frames, as the same type.
func decode<Message: WireMessage>(_ frames: [SharedBytes], like message: Message) throws -> Message {
    try ReceivedMessage(frames: frames).decoded(as: Message.self)
}

/// The code of the `WireError` that `body` throws, or nil.
func failure(_ body: () throws -> Void) -> FailureCode? {
    do {
        try body()
        return nil
    } catch {
        return (error as? WireError)?.code
    }
}
