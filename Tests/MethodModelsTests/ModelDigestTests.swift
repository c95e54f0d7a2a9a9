import Foundation
import SafeTensors
import TestSupport
import Testing

@testable import MethodModels

@Suite("Digests of models")
struct ModelDigestTests {
    private let model = Repository.models + "/emoji-sd3-tiny"

    /// Gives a test a copy of one part of the pipeline.
    private func withCopy(of part: String, _ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.path + "/digest-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.copyItem(atPath: "\(model)/\(part)", toPath: folder)
        try body(folder)
    }

    @Test("every part of a pipeline has one, and no two the same")
    func pipeline() throws {
        let digests = try ModelDigest.pipeline(model)
        #expect(
            digests.keys.sorted() == [
                "model/scheduler", "model/text_encoder", "model/text_encoder_2", "model/tokenizer", "model/tokenizer_2",
                "model/transformer", "model/vae",
            ])
        #expect(Set(digests.values).count == digests.count && digests.values.allSatisfy { $0.count == 32 })
    }

    @Test("how a file is written does not matter: shards, a mark, line ends, what a library notes")
    func sameContent() throws {
        try withCopy(of: "transformer") { folder in
            let before = try ModelDigest.folder(folder)
            let path = folder + "/diffusion_pytorch_model.safetensors"
            let file = try SafeTensorsFile(path: path)
            let tensors = try file.entries.map {
                SafeTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: try file.bytes(of: $0.name))
            }
            let half = tensors.count / 2
            var map: [String: String] = [:]
            for (index, part) in [tensors[..<half], tensors[half...]].enumerated() {
                let name = "part-\(index).safetensors"
                try SafeTensorsWriter.write(Array(part), to: "\(folder)/\(name)")
                for tensor in part { map[tensor.name] = name }
            }
            try JSONEncoder().encode(["weight_map": map]).write(
                to: URL(fileURLWithPath: path + ".index.json"))
            try FileManager.default.removeItem(atPath: path)
            let configuration = URL(fileURLWithPath: folder + "/config.json")
            let text = try String(contentsOf: configuration, encoding: .utf8)
            let other = "\u{FEFF}" + text.replacing("{", with: "{\"_name_or_path\": \"elsewhere\",", maxReplacements: 1)
            try Data(other.replacing("\n", with: "\r\n").utf8).write(to: configuration)
            #expect(try ModelDigest.folder(folder) == before)
        }
    }

    @Test("a single bit of a weight, a number of a configuration and a line of a vocabulary matter")
    func otherContent() throws {
        try withCopy(of: "vae") { folder in
            let before = try ModelDigest.folder(folder)
            let weights = URL(fileURLWithPath: folder + "/diffusion_pytorch_model.safetensors")
            var bytes = try Data(contentsOf: weights)
            bytes[bytes.count - 1] ^= 1
            try bytes.write(to: weights)
            let changed = try ModelDigest.folder(folder)
            #expect(changed != before)
            let configuration = URL(fileURLWithPath: folder + "/config.json")
            let text = try String(contentsOf: configuration, encoding: .utf8)
            try Data(text.replacing("\"scaling_factor\": 0.", with: "\"scaling_factor\": 1.").utf8).write(
                to: configuration)
            #expect(try ModelDigest.folder(folder) != changed)
        }
        try withCopy(of: "tokenizer") { folder in
            let before = try ModelDigest.folder(folder)
            let merges = URL(fileURLWithPath: folder + "/merges.txt")
            try (try Data(contentsOf: merges) + Data("x y\n".utf8)).write(to: merges)
            #expect(try ModelDigest.folder(folder) != before)
        }
    }

    @Test("a difference is named by the first part that both have")
    func difference() {
        #expect(ModelDigest.difference(["a": "1", "b": "2"], ["b": "3", "c": "1"]) == "b")
        #expect(ModelDigest.difference(["a": "1"], ["b": "1"]) == nil)
    }
}
