import Foundation
import Protocol
import SafeTensors
import Testing

@Suite("Messages survive the wire, and only whole ones do")
struct CodecTests {
    @Test("every kind has a sample, and every sample comes back equal")
    func roundTrip() throws {
        #expect(Set(samples.map { type(of: $0.message).kind }) == Set(MessageKind.allCases))
        for (name, message) in samples {
            func check(_ message: some WireMessage) throws {
                let encoded = try encode(message)
                let received = try ReceivedMessage(frames: encoded.frames)
                #expect(received.runID == run)
                #expect(received.envelope.requestID == 0x0102_0304_0506_0708)
                #expect(received.envelope.deadlineMilliseconds == 1500)
                #expect(try received.decoded(as: type(of: message)) == message, "\(name)")
            }
            try check(message)
        }
    }

    @Test("the bytes are those committed for protocol version 8")
    func fixtureBytes() throws {
        for (name, message) in samples {
            let path = fixtures.appending(path: name + ".message")
            let bytes = try encode(message).frames.reduce(into: Data()) { $0.append(contentsOf: $1.array) }
            if ProcessInfo.processInfo.environment["ADVGRPO_WRITE_FIXTURES"] != nil { try bytes.write(to: path) }
            #expect(
                try Data(contentsOf: path) == bytes,
                "\(name): the wire format changed; if on purpose, raise Envelope.version")
        }
    }

    @Test("header and data are one safetensors file, and tensors stay out of the JSON")
    func safetensorsFile() throws {
        let encoded = try encode(sampleResult)
        let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).safetensors").path
        try DurableFile.write([encoded.header, encoded.data], to: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let file = try SafeTensorsFile(path: path)
        #expect(try file.floats(of: "rewards") == [0, 0.5])
        #expect(file.metadata["run"] == "run-2026.1_a")
        #expect(file.metadata["message"]?.contains("tensors") == false)
        #expect(encoded.header.count % 64 == 0)
    }

    @Test("a single tensor is sent from where it lies")
    func noCopy() throws {
        let images = TensorPayload(uint8s: [UInt8](repeating: 1, count: 12), shape: [1, 2, 2, 3])
        let request = ScoreRequest(group: group, prompt: "a", images: images)
        let encoded = try encode(request)
        #expect(encoded.data.retained.bytes.baseAddress == images.bytes.retained.bytes.baseAddress)
    }

    @Test("a plain Python parser reads a committed message")
    func python() throws {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "python3", fixtures.appending(path: "read.py").path, fixtures.appending(path: "groupResult.message").path,
        ]
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(
            text.split(separator: "\n").map(String.init) == [
                "version 8 kind 7 request 0x102030405060708 deadline 1500 flags 0", "run run-2026.1_a",
                "group 12/3 worker worker-1", "latents F32 [2, 3, 1, 2, 2] first 0.0 last 11.5",
                "logProbabilities F32 [2, 2] first 0.0 last 1.5", "reward.dino F32 [2] first 0.0 last 0.5",
                "rewards F32 [2] first 0.0 last 0.5", "stepIndices I32 [2] first 1 last 2",
                "witness.twin F32 [2] first 0.0 last 0.5",
            ])
    }
}

@Suite("Whatever arrives, the decoder answers with a message or a WireError")
struct HostileBytesTests {
    let frames: [SharedBytes]

    init() throws { frames = try encode(sampleResult).frames }

    @Test("no truncated frame is accepted")
    func truncations() {
        for position in 0..<3 {
            for count in 0..<frames[position].count {
                var cut = frames
                cut[position] = frames[position][0..<count]
                #expect(failure { _ = try ReceivedMessage(frames: cut) } != nil, "frame \(position) cut to \(count)")
            }
        }
    }

    @Test("missing, additional and exchanged frames are refused")
    func frameCounts() {
        let wrong = [
            [], [frames[0]], Array(frames[0..<2]), frames + [SharedBytes()], [frames[1], frames[0], frames[2]],
            [frames[0], frames[2], frames[1]], [SharedBytes()] + frames,
        ]
        for frames in wrong { #expect(failure { _ = try ReceivedMessage(frames: frames) } != nil) }
    }

    @Test("a flipped byte never does worse than a refusal", arguments: [0x01, 0x20, 0x80, 0xFF] as [UInt8])
    func flippedBytes(mask: UInt8) throws {
        var refused = 0
        for position in 0..<2 {
            for offset in 0..<frames[position].count {
                var bytes = frames[position].array
                bytes[offset] ^= mask
                var flipped = frames
                flipped[position] = SharedBytes(copying: bytes)
                do {
                    _ = try decode(flipped, like: sampleResult)
                } catch {
                    #expect(error is WireError)
                    refused += 1
                }
            }
        }
        // Digits, names and padding may still read well; most positions may not.
        #expect(refused > 300)
    }

    @Test("envelopes are refused for the right reason")
    func envelopes() throws {
        func changed(_ offset: Int, _ value: UInt8) -> [SharedBytes] {
            var bytes = frames[0].array
            bytes[offset] = value
            return [SharedBytes(copying: bytes), frames[1], frames[2]]
        }
        #expect(failure { _ = try ReceivedMessage(frames: changed(0, 0)) } == .badFraming)
        #expect(failure { _ = try ReceivedMessage(frames: changed(4, 1)) } == .unsupportedVersion)
        #expect(failure { _ = try ReceivedMessage(frames: changed(7, 9)) } == .unknownKind)
        #expect(failure { _ = try ReceivedMessage(frames: changed(20, 2)) } == .badFraming)
        #expect(Envelope.requestID(ofUnsupported: changed(4, 1)[0]) == 0x0102_0304_0506_0708)
        #expect(Envelope.requestID(ofUnsupported: changed(0, 0)[0]) == nil)
        #expect(
            failure { _ = try ReceivedMessage(frames: changed(6, 1)).decoded(as: GroupResult.self) } == .unknownKind)
    }

    @Test("limits hold on both sides")
    func limits() throws {
        let small = WireLimits(dataByteCount: 16)
        #expect(failure { _ = try ReceivedMessage(frames: frames, limits: small) } == .limitExceeded)
        #expect(
            failure { _ = try EncodedMessage(sampleResult, runID: run, requestID: 1, limits: small) } == .limitExceeded)
        let long = Status(document: .string(String(repeating: "x", count: 1 << 20)))
        #expect(failure { _ = try encode(long) } == .limitExceeded)
    }

    @Test(
        "JSON that is missing fields, of wrong types, or absurdly deep is refused",
        arguments: [
            "", "{}", "[]", "null", #"{"document":}"#, #"{"document":1} x"#, String(repeating: "[", count: 200_000),
            #"{"document":"# + String(repeating: #"{"a":"#, count: 100_000) + "1"
                + String(repeating: "}", count: 100_001),
        ])
    func badJSON(json: String) throws {
        let header = try SafeTensorsHeader(describing: [], metadata: ["message": json])
        let received = try ReceivedMessage(
            frames: [
                Envelope(kind: .status, requestID: 1).bytes, SharedBytes(copying: header.encoded()), SharedBytes(),
            ])
        #expect(failure { _ = try received.decoded(as: Status.self) } == .malformedFields)
    }

    @Test("metadata without a message or with a bad run id is refused")
    func badMetadata() throws {
        for metadata in [
            [:], ["message": "{}", "run": "a b"], ["message": "{}", "run": ""], ["message": "{}", "client": "/"],
        ] {
            let header = try SafeTensorsHeader(describing: [], metadata: metadata)
            let frames = [
                Envelope(kind: .healthRequest, requestID: 1).bytes, SharedBytes(copying: header.encoded()),
                SharedBytes(),
            ]
            #expect(failure { _ = try ReceivedMessage(frames: frames) } == .malformedFields)
        }
    }
}
