import Foundation
import ImageModels
import MethodModels
import NeuralNetworks
import SafeTensors
import TensorCore
import TestSupport
import Testing

/// Models whose configurations hold values that no model has.
@Suite struct UnusableValueTests {
    /// A folder, its configuration, and what reads it.
    struct Reader: Sendable, CustomStringConvertible {
        var folder: String
        var file = "config.json"
        var load: @Sendable (String) throws -> Void
        var description: String { "\(folder)/\(file)" }
    }

    static let readers: [Reader] = [
        Reader(folder: "mmdit-a") { _ = try MMDiT(folder: $0, engine: OpenBLASEngine.shared) },
        Reader(folder: "vae-a") {
            let model = try AutoencoderKL(folder: $0, engine: OpenBLASEngine.shared)
            let latents = OpenBLASEngine.shared.tensor(
                [Float](repeating: 0.5, count: 16 * model.configuration.latentChannels),
                shape: [1, model.configuration.latentChannels, 4, 4])
            #expect(model.decode(latents).values.allSatisfy { $0.isFinite })
        },
        Reader(folder: "clip-a") { folder in
            let model = try CLIPTextEncoder(folder: folder, engine: OpenBLASEngine.shared)
            #expect(model([[1, 2, 3, 4]]).pooled.values.allSatisfy { $0.isFinite })
        },
        Reader(folder: "clip-dual-a") { _ = try CLIPModel(folder: $0, engine: OpenBLASEngine.shared) },
        Reader(folder: "clip-dual-a", file: "preprocessor_config.json") {
            _ = try ImageProcessor(folder: $0, standard: .clip(side: 24))
        },
        Reader(folder: "clip-dual-a", file: "tokenizer_config.json") { folder in
            let tokenizer = try CLIPTokenizer(folder: folder)
            #expect(tokenizer.padded("abc").count == tokenizer.maximumLength)
        },
        Reader(folder: "siglip-a") { _ = try SiglipModel(folder: $0, engine: OpenBLASEngine.shared) },
        Reader(folder: "siglip-a", file: "preprocessor_config.json") {
            _ = try ImageProcessor(folder: $0, standard: .siglip(side: 24))
        },
        Reader(folder: "ImageModels/t5") { folder in
            let model = try T5Encoder(folder: folder, engine: OpenBLASEngine.shared)
            #expect(model([[1, 2, 3, 4]]).values.allSatisfy { $0.isFinite })
        },
        Reader(folder: "../../Models/emoji-sd3-tiny/scheduler", file: "scheduler_config.json") { folder in
            let schedule = try FlowMatchSchedule(folder: folder)
            for count in [1, 2, 28, 1000] {
                guard let sigmas = try? schedule.sigmas(stepCount: count) else { continue }
                #expect(zip(sigmas, sigmas.dropFirst()).allSatisfy { $0 > $1 })
            }
        },
    ]
    private static let values = [
        "0", "-1", "1e30", "NaN", "Infinity", "-Infinity", "1099511627776", "0.5", "\"x\"", "null", "[]",
    ]

    @Test("any value in any entry loads, or is refused by the file's name", arguments: readers)
    func everyEntry(reader: Reader) throws {
        let source = Repository.fixtures + "/" + reader.folder
        try withTemporaryFolder { folder in
            for name in try FileManager.default.contentsOfDirectory(atPath: source) where name != reader.file {
                try FileManager.default.createSymbolicLink(
                    atPath: folder + "/" + name, withDestinationPath: source + "/" + name)
            }
            let path = folder + "/" + reader.file
            let text = try String(contentsOf: URL(fileURLWithPath: source + "/" + reader.file), encoding: .utf8)
            // Every value that is no object, once: `"key": value`.
            let entries = text.matches(of: /"[a-z_A-Z]+": ?(\[[^\]]*\]|"[^"]*"|[-0-9.e]+|true|false|null)/)
            #expect(entries.count >= 3)
            var (loaded, refused) = (0, 0)
            for entry in entries {
                for value in Self.values {
                    let changed = text.replacingCharacters(
                        in: entry.output.1.startIndex..<entry.output.1.endIndex, with: value)
                    try Data(changed.utf8).write(to: URL(fileURLWithPath: path))
                    do {
                        try reader.load(folder)
                        loaded += 1
                    } catch {
                        refused += 1
                        #expect(
                            error is ModelError || error is SafeTensorsError, "\(entry.output.0) = \(value): \(error)")
                        #expect("\(error)".hasPrefix(folder), "\(entry.output.0) = \(value): \(error)")
                        #expect(!"\(error)".contains("Swift") && !"\(error)".contains("Optional"), "\(error)")
                    }
                }
            }
            #expect(loaded > 0 && refused > 0)
        }
    }

    @Test(
        "entries that change the arithmetic in ways that are not implemented are refused by name",
        arguments: [
            ("mmdit-a", "\"qk_norm\": \"rms_norm\"", "\"qk_norm\": \"layer_norm\"", "qk_norm layer_norm"),
            ("mmdit-a", "SD3Transformer2DModel", "FluxTransformer2DModel", "_class_name FluxTransformer2DModel"),
            ("vae-a", "\"act_fn\": \"silu\"", "\"act_fn\": \"gelu\"", "act_fn gelu"),
            ("vae-a", "\"AutoencoderKL\"", "\"AsymmetricAutoencoderKL\"", "_class_name AsymmetricAutoencoderKL"),
            ("clip-dual-a", "\"num_channels\": 3", "\"num_channels\": 4", "num_channels 4"),
            ("siglip-a", "\"vision_use_head\": true", "\"vision_use_head\": false", "vision_use_head false"),
            ("ImageModels/t5", "\"gated-gelu\"", "\"relu\"", "feed_forward_proj relu"),
        ])
    func unsupported(fixture: String, old: String, new: String, name: String) throws {
        let text = try String(
            contentsOf: URL(fileURLWithPath: Repository.fixtures + "/\(fixture)/config.json"), encoding: .utf8)
        #expect(text.contains(old))
        try withTemporaryFolder { folder in
            let path = folder + "/config.json"
            try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: URL(fileURLWithPath: path))
            let error = #expect(throws: ModelError.self) {
                switch fixture {
                case "mmdit-a": _ = try MMDiTConfiguration(path: path)
                case "vae-a": _ = try AutoencoderKLConfiguration(path: path)
                case "clip-dual-a": _ = try CLIPConfiguration(path: path)
                case "siglip-a": _ = try SiglipConfiguration(path: path)
                default: _ = try T5EncoderConfiguration(path: path)
                }
            }
            #expect(error?.code == .unsupported && error?.message.hasPrefix(name + " is not supported, only") == true)
        }
    }
}
