import Foundation
import Protocol
import SafeTensors
import Testing

@Suite("Messages cannot be half right")
struct RuleTests {
    /// `sampleResult` with one tensor exchanged or, for nil, taken out.
    func result(_ name: String, _ payload: TensorPayload?) -> GroupResult {
        var result = sampleResult
        result.tensors[name] = payload
        return result
    }

    @Test("a group's tensors must agree with each other and be finite")
    func groupResult() {
        let wrong: [(String, TensorPayload?)] = [
            ("latents", nil), ("logProbabilities", nil), ("rewards", nil), ("stepIndices", nil),
            ("other", counting([1])),
            ("reward.", counting([2])), ("latents", counting([2, 2, 1, 2, 2])), ("latents", counting([3, 3, 1, 2, 2])),
            ("latents", counting([2, 3, 4])), ("rewards", counting([3])), ("reward.dino", counting([1])),
            ("rewards", TensorPayload(int32s: [1, 2])), ("rewards", TensorPayload(floats: [1, .nan])),
            ("reward.dino", TensorPayload(floats: [1, .infinity])),
            ("logProbabilities", TensorPayload(floats: [1, 2, 3, -.infinity], shape: [2, 2])),
            ("logProbabilities", TensorPayload(floats: [], shape: [0, 2])), ("stepIndices", TensorPayload(int32s: [1])),
            ("stepIndices", TensorPayload(int32s: [2, 2])), ("stepIndices", TensorPayload(int32s: [-1, 2])),
        ]
        for (name, payload) in wrong {
            #expect(failure { _ = try encode(result(name, payload)) } == .invalidValue, "\(name)")
        }
        var late = sampleResult
        late.seconds["score"] = .nan
        #expect(failure { _ = try encode(late) } == .invalidValue)
    }

    @Test("errors name the field, the value and the expectation")
    func texts() throws {
        do throws(WireError) {
            try result("rewards", TensorPayload(floats: [1, .nan])).validate()
        } catch {
            #expect(error.description == "tensor rewards holds nan at element 1")
        }
        do throws(WireError) {
            try result("latents", counting([3])).validate()
        } catch {
            #expect(error.description == "tensor latents is F32 [3], expected F32 [2, 3, any, any, any]")
        }
        let header = try SafeTensorsHeader(
            describing: [], metadata: ["message": #"{"lease":{"leaseID":1,"group":{"epoch":1}},"answer":"lease"}"#])
        let received = try ReceivedMessage(
            frames: [
                Envelope(kind: .leaseAnswer, requestID: 1).bytes, SharedBytes(copying: header.encoded()), SharedBytes(),
            ])
        do throws(WireError) {
            _ = try received.decoded(as: LeaseAnswer.self)
        } catch {
            #expect(error.description == "leaseAnswer: field \"lease.group.index\" is missing")
        }
    }

    /// A request whose fields are these, whatever they mean.
    private func request<Message: WireRequest>(_ type: Message.Type, _ json: String) throws -> Message {
        let header = try SafeTensorsHeader(describing: [], metadata: ["message": json])
        return try ReceivedMessage(
            frames: [
                Envelope(kind: type.kind, requestID: 1).bytes, SharedBytes(copying: header.encoded()), SharedBytes(),
            ]
        ).decoded()
    }

    @Test("numbers that no run can have are refused with their range, before anything is made of them")
    func ranges() throws {
        func failure(_ epoch: String, _ index: String) -> FailureCode? {
            ProtocolTests.failure {
                _ = try request(
                    TaskFailure.self,
                    #"{"worker":"w","leaseID":1,"cause":"","task":{"kind":"rollout","group":{"epoch":\#(epoch),"index":\#(index)}}}"#
                )
            }
        }
        #expect(failure("4294967295", "1048575") == nil)
        for (epoch, index) in [
            ("-1", "0"), ("0", "-1"), ("4294967296", "0"), ("0", "1048576"), ("1099511627776", "1099511627776"),
            ("9223372036854775807", "0"),
        ] {
            #expect(failure(epoch, index) == .invalidValue, "\(epoch)/\(index)")
        }
        do {
            _ = try request(EpochOpening.self, #"{"epoch":1099511627776}"#)
            Issue.record("an epoch beyond all")
        } catch {
            #expect("\(error)" == "epoch is 1099511627776, expected 0 to 4294967295")
        }
        for version in ["-1", "4294967296", "9223372036854775807"] {
            #expect(
                ProtocolTests.failure {
                    _ = try request(DiscriminatorStateRequest.self, #"{"version":\#(version),"chunkIndex":0}"#)
                } == .invalidValue)
        }
    }

    @Test("a training names different groups of its epoch and a number of steps that ends")
    func trainings() throws {
        func refused(_ groups: [GroupID], steps: Int = 1) -> Bool {
            failure {
                _ = try encode(
                    DiscriminatorTraining(
                        epoch: 1, fromVersion: DiscriminatorVersion(rawValue: 0), groups: groups, steps: steps))
            } == .invalidValue
        }
        let (first, second) = (GroupID(epoch: 1, index: 0), GroupID(epoch: 1, index: 1))
        #expect(!refused([first, second]))
        #expect(refused([]) && refused([first, first]) && refused([first, GroupID(epoch: 2, index: 0)]))
        #expect(refused([first], steps: -1) && refused([first], steps: 1 << 40))
    }

    @Test("more members than noise can tell apart, and texts without an end, are refused")
    func sizes() throws {
        func score(members: Int, prompt: String = "p") -> ScoreRequest {
            ScoreRequest(
                group: group, prompt: prompt,
                images: TensorPayload(uint8s: [UInt8](repeating: 0, count: members * 3), shape: [members, 1, 1, 3]))
        }
        #expect(failure { _ = try encode(score(members: 4096)) } == nil)
        #expect(failure { _ = try encode(score(members: 4097)) } == .invalidValue)
        #expect(failure { _ = try encode(score(members: 1, prompt: "")) } == .invalidValue)
        #expect(
            failure { _ = try encode(score(members: 1, prompt: String(repeating: "p", count: 1 << 19))) }
                == .invalidValue)
        let many = counting([4097])
        #expect(
            failure { _ = try encode(Scores(discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: many)) }
                == .invalidValue)
        var lease = sampleLease
        lease.memberCount = 4097
        #expect(failure { _ = try encode(LeaseAnswer.lease(lease)) } == .invalidValue)
        let cause = String(repeating: "c", count: 1 << 17)
        #expect(
            failure {
                _ = try encode(
                    TaskFailure(worker: "w", leaseID: LeaseID(rawValue: 1), task: .rollout(group), cause: cause))
            } == .invalidValue)
        let host = String(repeating: "h", count: 257)
        #expect(
            failure {
                _ = try encode(
                    Hello(
                        role: .rolloutWorker, name: "w",
                        process: ProcessDescription(
                            host: host, processID: 1, processor: "", engine: "", program: ""),
                        settingsDigest: "", models: [:]))
            } == .invalidValue)
        var untold = sampleResult
        untold.prompt = ""
        #expect(failure { _ = try encode(untold) } == .invalidValue)
        #expect(failure { _ = try encode(Welcome(runID: run, program: host)) } == .invalidValue)
    }

    private func refused(_ message: some WireMessage) {
        #expect(failure { _ = try encode(message) } == .invalidValue)
    }

    @Test("every message refuses what its rules exclude")
    func others() {
        refused(LeaseRequest(worker: ""))
        refused(DiscriminatorStateRequest(version: DiscriminatorVersion(rawValue: 0), chunkIndex: -1))
        refused(PiecesRequest(pieces: []))
        refused(PiecesRequest(pieces: [pieceDigest, pieceDigest]))
        refused(
            PiecesRequest(
                pieces: (0...1024).map {
                    PieceDigest(
                        bytes: [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] + [UInt8](repeating: 0, count: 14))
                }))
        refused(Pieces([]))
        var renamed = Pieces([SharedBytes()])
        renamed.tensors = ["1": TensorPayload(uint8s: [1], shape: [1])]
        refused(renamed)
        var floats = Pieces([SharedBytes()])
        floats.tensors = ["0000": counting([1])]
        refused(floats)
        var unnamed = Manifest(text: sampleManifest.text)
        unnamed.tensors = ["other": TensorPayload(uint8s: [1], shape: [1])]
        refused(unnamed)
        refused(LeaseAnswer.wait(reason: "", retryInMilliseconds: -1))
        refused(Heartbeat(worker: "w", state: .waiting, seconds: ["waiting": .infinity]))
        refused(Heartbeat(worker: "w", state: .waiting, seconds: ["": 1]))
        let names = (0...64).map { ("n\($0)", 1.0) }
        refused(Heartbeat(worker: "w", state: .waiting, seconds: Dictionary(uniqueKeysWithValues: names)))
        refused(HeartbeatAcknowledgement(nextInMilliseconds: 0))
        refused(HeartbeatAcknowledgement(nextInMilliseconds: 60_001))
        refused(ScoreRequest(group: group, prompt: "a", images: counting([1, 2, 2, 3])))
        refused(
            ScoreRequest(
                group: group, prompt: "",
                images: TensorPayload(uint8s: [0, 0], shape: [1, 1, 1, 2])))
        refused(Scores(discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: TensorPayload(floats: [.nan])))
        let discriminator = DiscriminatorVersion(rawValue: 0)
        let notFinite = TensorPayload(floats: [0, .infinity], shape: [2, 1, 1])
        for maps in [counting([2]), counting([2, 2]), counting([3, 1, 1]), notFinite] {
            refused(Scores(discriminatorVersion: discriminator, rewards: counting([2]), maps: maps))
        }
        for values in [counting([3]), TensorPayload(floats: [0, .nan])] {
            refused(Scores(discriminatorVersion: discriminator, rewards: counting([2]), witnesses: ["twin": values]))
        }
        refused(Scores(discriminatorVersion: discriminator, rewards: counting([2]), witnesses: ["": counting([2])]))
        let large = Scores(discriminatorVersion: discriminator, rewards: counting([2]), maps: counting([2, 1, 257]))
        #expect(failure { _ = try encode(large) } == .limitExceeded)
        // With maps there are log-probabilities of tokens, without them none.
        var mapped = sampleResult
        mapped.tensors["maps"] = counting([2, 2, 2])
        refused(mapped)
        mapped.tensors["logProbabilities"] = counting([2, 2, 4, 4])
        #expect(failure { _ = try encode(mapped) } == nil)
        mapped.tensors["maps"] = nil
        refused(mapped)
        refused(DiscriminatorState(version: discriminator, chunkIndex: 2, chunkCount: 2, chunk: sampleChunk))
        for part in [
            TensorPart(shape: [3], elementOffset: 0), TensorPart(shape: [4], elementOffset: 1),
            TensorPart(shape: [8], elementOffset: -1), TensorPart(shape: [1 << 62, 4], elementOffset: 0),
        ] {
            let chunk = TensorChunk(tensors: ["t": counting([4])], part: part)
            refused(DiscriminatorState(version: discriminator, chunkIndex: 0, chunkCount: 1, chunk: chunk))
        }
    }

    @Test("a reward process answers for every image of the group that it was asked for, and with numbers")
    func rewardProcesses() {
        var nameless = sampleRewardRequest
        nameless.reward = ""
        refused(nameless)
        refused(
            RewardRequest(
                reward: "r", group: group, prompt: "a", wantsMaps: false, images: counting([1, 2, 2, 3])))
        for values in [
            TensorPayload(floats: [0, .nan]), TensorPayload(floats: [0, -2e12]), TensorPayload(int32s: [1, 2]),
            counting([2, 1]), counting([0]),
        ] {
            refused(Rewards(group: group, values: values))
        }
        for maps in [
            counting([3, 1, 1]), counting([2, 2]),
            TensorPayload(floats: [0, .infinity], shape: [2, 1, 1]),
        ] {
            refused(Rewards(group: group, values: counting([2]), maps: maps))
        }
        var stray = Rewards(group: group, values: counting([2]))
        stray.tensors["rewards"] = counting([2])
        refused(stray)

        func check(_ rewards: Rewards, wantsMaps: Bool = true) -> String? {
            var request = sampleRewardRequest
            request.wantsMaps = wantsMaps
            do throws(WireError) {
                try rewards.check(answers: request)
                return nil
            } catch {
                return error.description
            }
        }
        let values = counting([2])
        #expect(check(Rewards(group: group, values: values, maps: counting([2, 2, 2]))) == nil)
        #expect(check(Rewards(group: group, values: values), wantsMaps: false) == nil)
        #expect(
            check(Rewards(group: group, values: values))
                == "tensor maps is missing, and wantsMaps is true")
        #expect(
            check(Rewards(group: group, values: values, maps: counting([2, 3, 2])))
                == "tensor maps is F32 [2, 3, 2], expected at most 2 x 2 places, the images' pixels")
        #expect(
            check(Rewards(group: group, values: counting([3]), maps: counting([3, 1, 1])))
                == "tensor values is F32 [3], expected F32 [2], one an image")
        #expect(
            check(Rewards(group: GroupID(epoch: 12, index: 4), values: values), wantsMaps: false)
                == "group is 12/4, expected 12/3")
    }

    @Test("figures by name are few, named plainly and as the sender's, and finite or absent")
    func figures() {
        func trained(_ metrics: [String: Double?], realMean: Double = 0, auc: Double = 0) -> DiscriminatorTrained {
            DiscriminatorTrained(
                version: DiscriminatorVersion(rawValue: 1), realMean: realMean, fakeMean: 0, auc: auc, metrics: metrics)
        }
        func accepted(_ message: DiscriminatorTrained) { #expect(throws: Never.self) { try message.validate() } }
        accepted(trained([:]))
        accepted(trained(["discriminator.a_1.b": 0, "discriminator.x": nil]))
        refused(trained([:], realMean: .nan))
        refused(trained([:], auc: 1.5))
        refused(trained(["discriminator.x": .nan]))
        refused(trained(["discriminator.x": -.infinity]))
        for name in [
            "", "epoch", "discriminator.", "reward.mean", "discriminator.a b", "discriminator.\n", "discriminator.é",
            "discriminator." + String(repeating: "a", count: 51),
        ] {
            refused(trained([name: 1]))
        }
        accepted(trained(["discriminator." + String(repeating: "a", count: 50): 1]))
        let many = (0...256).map { ("discriminator.n\($0)", Double?(1)) }
        refused(trained(Dictionary(uniqueKeysWithValues: many)))
        accepted(trained(Dictionary(uniqueKeysWithValues: many.dropLast())))
    }

    @Test("health counts nothing negative and times nothing endless")
    func health() {
        func health(_ requests: Health.Requests, seconds: Double = 0, unreadable: Int = 0) -> Health {
            Health(
                role: .relay, serving: true, reason: "", runID: nil, version: nil, uptimeSeconds: 0, memoryBytes: 0,
                queueDepth: 0, seconds: ["idle": seconds], requests: ["scoreRequest": requests],
                unreadableMessages: unreadable)
        }
        #expect(throws: Never.self) { try health(.init()).validate() }
        refused(health(.init(answered: -1)))
        refused(health(.init(busy: -1)))
        refused(health(.init(refused: -1)))
        refused(health(.init(rejected: -1)))
        refused(health(.init(latency: .init(p50Milliseconds: .nan, p99Milliseconds: 1))))
        refused(health(.init(latency: .init(p50Milliseconds: 1, p99Milliseconds: -1))))
        refused(health(.init(), seconds: .infinity))
        refused(health(.init(), unreadable: -1))
    }

    @Test("a message without tensors refuses tensors")
    func uninvitedTensors() throws {
        let header = try SafeTensorsHeader(describing: [("x", .uint8, [1])], metadata: ["message": "{}"])
        let received = try ReceivedMessage(
            frames: [
                Envelope(kind: .healthRequest, requestID: 1).bytes, SharedBytes(copying: header.encoded()),
                SharedBytes(copying: [1] as [UInt8]),
            ])
        #expect(failure { _ = try received.decoded(as: HealthRequest.self) } == .invalidValue)
    }

    @Test("identifiers")
    func identifiers() {
        #expect(group.description == "12/3")
        #expect(GroupID(epoch: 1, index: 9) < GroupID(epoch: 2, index: 0))
        #expect(digest.hexadecimal.hasPrefix("0008101820"))
        #expect(WeightsDigest(hexadecimal: String(repeating: "A", count: 64)) == nil)
        #expect(WeightsDigest(hexadecimal: "00") == nil)
        #expect(PieceDigest(hexadecimal: digest.hexadecimal) == nil)
        #expect(RunID(rawValue: "a/b") == nil)
        #expect(RunID(rawValue: String(repeating: "a", count: 65)) == nil)
    }
}

@Suite("Tensors travel in chunks")
struct ChunkTests {
    let tensors: TensorSet = [
        "a": counting([3]), "b": counting([5, 7]), "c": counting([]), "d": counting([0, 4]), "e": counting([2, 10]),
    ]

    @Test("whatever the chunk size, the same tensors come out", arguments: [8, 12, 16, 40, 140, 1000])
    func roundTrip(byteCount: Int) throws {
        let chunks = TensorChunk.divide(tensors, byteCount: byteCount)
        #expect(chunks.allSatisfy { $0.tensors.byteCount <= byteCount })
        #expect((byteCount == 1000) == (chunks.count == 1))
        var assembler = TensorAssembler(chunkCount: chunks.count, maximumByteCount: tensors.byteCount)
        for (index, chunk) in chunks.enumerated() {
            try assembler.add(chunk, index: index)
            try assembler.add(chunk, index: index)  // a repeated reply changes nothing
        }
        #expect(try assembler.assembled() == tensors)
        #expect(TensorChunk.divide(TensorSet()).count == 1)
    }

    @Test("chunks that do not fit together are refused")
    func refusals() throws {
        let chunks = TensorChunk.divide(tensors, byteCount: 40)
        func assembler(_ limit: Int = 1000) -> TensorAssembler {
            TensorAssembler(chunkCount: chunks.count, maximumByteCount: limit)
        }
        var skipping = assembler()
        #expect(failure { try skipping.add(chunks[1], index: 1) } == .invalidValue)
        var repeating = assembler()
        try repeating.add(chunks[0], index: 0)
        #expect(failure { try repeating.add(chunks[0], index: 1) } == .invalidValue)
        #expect(failure { _ = try repeating.assembled() } == .invalidValue)
        try repeating.add(chunks[1], index: 1)
        #expect(failure { try repeating.add(chunks[1], index: 2) } == .invalidValue)
        #expect(failure { try repeating.add(chunks[0], index: 2) } == .invalidValue)
        var bounded = assembler(11)
        #expect(failure { try bounded.add(chunks[0], index: 0) } == .limitExceeded)
    }
}
