import Configuration
import Datasets
import Foundation
import ImageModels
import NeuralNetworks
import Protocol
import Raster
import SafeTensors
import TensorCore
import TestSupport
import Testing

/// The readers and what they are fed.
enum Readers {
    /// Inputs that once did harm, here or elsewhere: `Tests/Fixtures/Fuzz/NAME-*`.
    static func known(_ name: String) -> [[UInt8]] {
        let folder = Repository.fixtures + "/Fuzz"
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return files.filter { $0.hasPrefix(name + "-") }.sorted().map { bytes(folder + "/" + $0) }
    }

    static func bytes(_ path: String) -> [UInt8] { FileManager.default.contents(atPath: path).map(Array.init) ?? [] }

    static func put(_ bytes: [UInt8], _ path: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }

    /// A file of tensors: the length of its header mended.
    private static func withLength(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.count > 8, let end = bytes.lastIndex(of: UInt8(ascii: "}")), end >= 8 else { return bytes }
        var mended = bytes
        for offset in 0..<8 { mended[offset] = UInt8(truncatingIfNeeded: (end - 7) >> (8 * offset)) }
        return mended
    }

    static func safetensors(folder: String) -> FuzzTarget {
        let path = folder + "/f.safetensors"
        let corpus = [
            "SafeTensors/reference.safetensors", "rewards.safetensors", "mmdit-a-lora/adapter_model.safetensors",
        ]
        let files = corpus.map { bytes(Repository.fixtures + "/" + $0) }.filter { !$0.isEmpty && $0.count < 1 << 16 }
        return FuzzTarget("safetensors", corpus: known("safetensors") + files, finish: withLength) { bytes in
            try put(bytes, path)
            let file = try SafeTensorsFile(path: path)
            for entry in file.entries {
                _ = try file.bytes(of: entry.name)
                if [.float32, .float16, .bfloat16].contains(entry.dtype) { _ = try file.floats(of: entry.name) }
            }
        }
    }

    static func png() -> FuzzTarget {
        let folder = Repository.fixtures + "/Raster"
        let files = ["alpha", "gray", "palette", "source", "box-5x29"].map { bytes("\(folder)/\($0).png") }
        return FuzzTarget("png", corpus: known("png") + files) { _ = try RGBImage(encoded: $0) }
    }

    /// The EXIF of a small JPEG whose pixels are left alone: damage falls upon the orientation.
    static func exif() -> FuzzTarget {
        let file = bytes(Repository.fixtures + "/images/turned-6.jpg")
        let marker: [UInt8] = [0xFF, 0xE1]
        let start = file.indices.first { file[$0...].starts(with: marker) } ?? 0
        let end = start + 2 + (Int(file[start + 2]) << 8 | Int(file[start + 3]))
        let segment = Array(file[start + 4..<end])
        return FuzzTarget("exif", corpus: known("exif") + [segment]) { damaged in
            let length = damaged.count + 2
            guard length < 1 << 16 else { throw RasterError(code: .tooLarge, path: nil, message: "", remedy: "") }
            let header = marker + [UInt8(length >> 8), UInt8(length & 255)]
            let image = try RGBImage(encoded: Array(file[..<start]) + header + damaged + Array(file[end...]))
            precondition(image.width * image.height == 27 * 19, "turning changed the size")
        }
    }

    /// Lists of prompts: rows, arrays, keys, lines.
    static func prompts(_ name: String, folder: String) -> FuzzTarget {
        let corpus: [String: String] = [
            "jsonl": "{\"prompt\": \"a \\u00e9\\ud83d\\ude00\", \"tag\": [1, {\"x\": null}]}\r\n{\"text\": \"b\"}\n",
            "json": "{\"a cat\": [\"a.png\", \"b.png\"], \"b\": []}", "txt": "\u{FEFF}a cat\r\nb \u{2028} c\r\u{85}d\n",
        ]
        let path = folder + "/list." + name
        return FuzzTarget(name, corpus: known(name) + [Array((corpus[name] ?? "").utf8)]) { bytes in
            try put(bytes, path)
            let prompts = try PromptList(path: path).prompts
            precondition(!prompts.isEmpty && prompts.allSatisfy { $0 == PromptText.trimmed($0) && !$0.isEmpty })
        }
    }

    /// JPEG or WebP files, with their orientation.
    static func images(_ ending: String) -> FuzzTarget {
        let folder = Repository.fixtures + "/images"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let files = names.filter { $0.hasSuffix("." + ending) }.sorted().map { bytes("\(folder)/\($0)") }
        return FuzzTarget(ending, corpus: known(ending) + files) { _ = try RGBImage(encoded: $0) }
    }

    static func settings() -> FuzzTarget {
        let folder = Repository.path + "/deploy/settings"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        let files = names.filter { $0.hasSuffix(".yaml") }.sorted().map { bytes(folder + "/" + $0) }
        return FuzzTarget("settings", corpus: known("settings") + files) {
            _ = try Settings.parse(String(decoding: $0, as: UTF8.self))
        }
    }

    /// The three frames of a message that lies in one piece.
    static func frames(_ bytes: [UInt8]) -> [SharedBytes] {
        let envelope = min(Envelope.byteCount, bytes.count)
        var header = bytes.count
        if bytes.count >= envelope + 8 {
            let length = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[envelope + $1]) << (8 * UInt64($1)) }
            if length < UInt64(bytes.count) { header = min(bytes.count, envelope + 8 + Int(length)) }
        }
        return [bytes[..<envelope], bytes[envelope..<header], bytes[header...]].map { SharedBytes(copying: Array($0)) }
    }

    static func messages() -> FuzzTarget {
        let folder = Repository.fixtures + "/Protocol"
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter {
            $0.hasSuffix(".message")
        }
        let files = names.sorted().map { bytes(folder + "/" + $0) }
        func mended(_ bytes: [UInt8]) -> [UInt8] {
            Array(bytes.prefix(24)) + withLength(Array(bytes.dropFirst(24)))
        }
        return FuzzTarget("messages", corpus: known("messages") + files, finish: mended) { bytes in
            let message = try ReceivedMessage(frames: frames(bytes))
            func decode<Message: WireMessage>(_ type: Message.Type) throws {
                let value = try message.decoded(as: type)
                // What was accepted can be said again.
                let again = try EncodedMessage(value, runID: message.runID, requestID: 1)
                let back = try ReceivedMessage(frames: again.frames).decoded(as: type)
                precondition(back == value, "\(type) changed on its way")
                guard let chunk = value as? any ChunkMessage else { return }
                var assembler = TensorAssembler(chunkCount: chunk.chunkCount, maximumByteCount: 1 << 20)
                try assembler.add(chunk.chunk, index: chunk.chunkIndex)
                _ = try assembler.assembled()
            }
            try decode(messageType(message.envelope.kind))
        }
    }

    private static func messageType(_ kind: MessageKind) -> any WireMessage.Type {
        switch kind {
        case .hello: Hello.self
        case .welcome: Welcome.self
        case .leaseRequest: LeaseRequest.self
        case .leaseAnswer: LeaseAnswer.self
        case .groupResult: GroupResult.self
        case .taskFailure: TaskFailure.self
        case .taskAcknowledgement: TaskAcknowledgement.self
        case .heartbeat: Heartbeat.self
        case .heartbeatAcknowledgement: HeartbeatAcknowledgement.self
        case .scoreRequest: ScoreRequest.self
        case .scores: Scores.self
        case .discriminatorTraining: DiscriminatorTraining.self
        case .discriminatorTrained: DiscriminatorTrained.self
        case .discriminatorStateRequest: DiscriminatorStateRequest.self
        case .discriminatorState: DiscriminatorState.self
        case .discriminatorRestore: DiscriminatorRestore.self
        case .discriminatorRestored: DiscriminatorRestored.self
        case .healthRequest: HealthRequest.self
        case .health: Health.self
        case .statusRequest: StatusRequest.self
        case .status: Status.self
        case .stopRequest: StopRequest.self
        case .stopAcknowledgement: StopAcknowledgement.self
        case .failure: Failure.self
        case .manifestRequest: ManifestRequest.self
        case .manifest: Manifest.self
        case .piecesRequest: PiecesRequest.self
        case .pieces: Pieces.self
        case .epochOpening: EpochOpening.self
        case .epochOpened: EpochOpened.self
        case .rewardRequest: RewardRequest.self
        case .rewards: Rewards.self
        case .gradientResult: GradientResult.self
        case .contentRequest: ContentRequest.self
        case .content: Content.self
        }
    }

    /// The text of a manifest, which describes what its pieces are put together to.
    static func manifests() -> FuzzTarget {
        let digest = String(repeating: "0f", count: 16)
        let tensor = #"{"dtype":"F32","name":"a","pieces":["\#(digest)"],"shape":[2,3]}"#
        let whole = #"{"pieceByteCount":64,"tensors":[\#(tensor)]}"#
        return FuzzTarget("manifest", corpus: known("manifest") + [Array(whole.utf8)]) { bytes in
            let manifest = try WeightsManifest(text: SharedBytes(copying: bytes))
            precondition(manifest.pieces.reduce(0) { $0 + $1.byteCount } <= manifest.byteCount)
            let again = try WeightsManifest(text: manifest.text)
            precondition(again == manifest, "a manifest changed on its way")
        }
    }

    /// Sequences of chunks: bytes choose names, shapes, parts and order.
    static func chunks() -> FuzzTarget {
        let sizes = [0, 1, 2, 3, 4, 8, 1 << 20, 1 << 40, Int.max, Int.max - 1, -1, Int.min]
        // Two whole tensors and one in two parts; each chunk is eight bytes.
        let valid: [[UInt8]] = [
            [0, 0, 2, 0, 0, 0, 0, 0], [0, 0, 2, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0],
            [0, 0, 2, 1, 4, 1, 0, 0, 1, 0, 2, 1, 4, 1, 2, 0],
        ]
        return FuzzTarget("chunks", corpus: known("chunks") + valid) { bytes in
            var assembler = TensorAssembler(chunkCount: bytes.count / 8, maximumByteCount: 1 << 16)
            for begin in stride(from: 0, to: bytes.count - 7, by: 8) {
                let choice = bytes[begin..<begin + 8].map(Int.init)
                func size(_ index: Int) -> Int { sizes[choice[index] % sizes.count] }
                let payload = TensorPayload(floats: [Float](repeating: 1, count: choice[2]), shape: [choice[2]])
                let part =
                    choice[3] % 2 == 0 ? nil : TensorPart(shape: [size(4), size(5)], elementOffset: size(6))
                try assembler.add(
                    TensorChunk(tensors: ["\(choice[1] % 4)": payload], part: part),
                    index: choice[7] > 250 ? choice[7] : choice[0])
            }
            _ = try assembler.assembled()
        }
    }

    // MARK: Models

    /// A folder of fixtures and the file of it that is damaged.
    struct ModelFolder: Sendable, CustomTestStringConvertible {
        let name: String
        let file: String
        let load: @Sendable (String) throws -> Void
        var testDescription: String { "\(name)/\(file)" }

        init(_ name: String, _ file: String = "config.json", load: @escaping @Sendable (String) throws -> Void) {
            self.name = name
            self.file = file
            self.load = load
        }
    }

    static let modelFolders = [
        ModelFolder("mmdit-a") { _ = try MMDiT(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("mmdit-b") { _ = try MMDiT(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("vae-a") { _ = try AutoencoderKL(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("clip-a") { _ = try CLIPTextEncoder(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("clip-dual-a") { _ = try CLIPModel(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("siglip-a") { _ = try SiglipModel(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("ImageModels/t5") { _ = try T5Encoder(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("dino-reg") { _ = try DINOv2(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("dino-v3") { _ = try DINOv2(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("dino-reg", "model.safetensors") { _ = try DINOv2(folder: $0, engine: OpenBLASEngine.shared) },
        ModelFolder("mmdit-a-lora", "adapter_config.json") {
            _ = try LoRAAdapter(path: $0, engine: OpenBLASEngine.shared)
        },
        ModelFolder("SafeTensors/sharded", "model.safetensors.index.json") { folder in
            let tensors = try SafeTensorsFolder(path: folder)
            _ = tensors.metadata
        },
    ]

    static func model(_ folder: ModelFolder, scratch: String) throws -> FuzzTarget {
        let source = Repository.fixtures + "/" + folder.name
        for other in try FileManager.default.contentsOfDirectory(atPath: source)
        where other != folder.file && other != "golden.safetensors" {
            try FileManager.default.copyItem(atPath: source + "/" + other, toPath: scratch + "/" + other)
        }
        let name = folder.name.replacingOccurrences(of: "/", with: "_") + "_" + folder.file
        let isTensors = folder.file.hasSuffix(".safetensors")
        let corpus: [[UInt8]] = known(name) + [bytes(source + "/" + folder.file)]
        func finish(_ input: [UInt8]) -> [UInt8] { isTensors ? withLength(input) : input }
        func read(_ input: [UInt8]) throws {
            try put(input, scratch + "/" + folder.file)
            try folder.load(scratch)
        }
        return FuzzTarget(name, corpus: corpus, finish: finish, read: read)
    }

    static func tokenizer(_ name: String, scratch: String) throws -> FuzzTarget {
        let isCLIP = name.hasPrefix("clip")
        let source = Repository.fixtures + (isCLIP ? "/tokenizer-tiny" : "/ImageModels/t5-tokenizer")
        let files = ["clip-vocab": "vocab.json", "clip-merges": "merges.txt", "clip-settings": "tokenizer_config.json"]
        let file = files[name] ?? "tokenizer.json"
        for other in try FileManager.default.contentsOfDirectory(atPath: source) where other != file {
            try FileManager.default.copyItem(atPath: source + "/" + other, toPath: scratch + "/" + other)
        }
        let text = "A red fox, naïve  coffee 🦊 <|endoftext|> 12"
        return FuzzTarget(name, corpus: known(name) + [bytes(source + "/" + file)]) { bytes in
            try put(bytes, scratch + "/" + file)
            if isCLIP {
                _ = try CLIPTokenizer(folder: scratch).padded(text)
            } else {
                _ = try T5Tokenizer(folder: scratch).padded(text, length: 77)
            }
        }
    }
}
