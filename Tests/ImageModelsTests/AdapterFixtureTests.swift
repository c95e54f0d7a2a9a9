import ImageModels
import NeuralNetworks
import SafeTensors
import TensorCore
import TestSupport
import Testing

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Adapters as PEFT, diffusers and kohya's trainer write them, against what those compute with them (`make_adapters.py`).
@Suite struct AdapterFixtureTests {
    static let expected = "adapters/expected.safetensors"
    static let names = (try? Golden(expected).names()) ?? []
    let engine = OpenBLASEngine.shared

    private func velocity(_ path: String) throws -> Tensor {
        let model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine)
        let inputs = try MMDiTTests.Inputs(Golden("mmdit-a/golden.safetensors"), on: engine)
        return inputs.velocity(try model.merged(LoRAAdapter(path: path, engine: engine)))
    }

    @Test("the fixture has every form")
    func forms() {
        for form in ["peft-", "diffusers-", "kohya-"] {
            #expect(Self.names.count { $0.hasPrefix(form) } >= 3, "\(form)")
        }
    }

    @Test("an adapter has the effect it has in the library that wrote it", arguments: names)
    func effect(name: String) throws {
        try expectClose(velocity(Repository.fixtures + "/adapters/" + name), Golden(Self.expected), name)
    }

    @Test("written again, it has the same effect for PEFT's and for diffusers' readers", arguments: names)
    func writtenAgain(name: String) throws {
        let adapter = try LoRAAdapter(path: Repository.fixtures + "/adapters/" + name, engine: engine)
        try withTemporaryFolder { folder in
            try adapter.write(folder: folder, baseModel: "mmdit-a")
            for path in [folder, folder + "/pytorch_lora_weights.safetensors", folder + "/adapter_model.safetensors"] {
                try expectClose(velocity(path), Golden(Self.expected), name)
            }
        }
    }

    @Test("ComfyUI's, OneTrainer's and old diffusers' names are read")
    func spellings() throws {
        let source = Repository.fixtures + "/mmdit-a-lora/pytorch_lora_weights.safetensors"
        let tensors = try Parameters(path: source, engine: engine)
        let expected = try Golden("mmdit-a-lora/golden.safetensors")
        let spellings: [(String, (String) -> String)] = [
            ("ComfyUI", { "diffusion_model." + $0 }), ("no prefix", { $0 }),
            (
                "old diffusers",
                {
                    "transformer."
                        + $0.replacing(".lora_A.", with: ".lora.down.").replacing(".lora_B.", with: ".lora.up.")
                }
            ),
            (
                "OneTrainer",
                { name in
                    let isDown = name.hasSuffix(".lora_A.weight")
                    return "lora_transformer_" + name.dropLast(".lora_A.weight".count).replacing(".", with: "_")
                        + (isDown ? ".lora_down.weight" : ".lora_up.weight")
                }
            ),
        ]
        for (kind, spelled) in spellings {
            try withTemporaryFolder { folder in
                let renamed = tensors.renamed { spelled(String($0.dropFirst("transformer.".count))) }
                // alpha 8, which makes the scale 2 in every layer.
                let alphas = renamed.names.filter { $0.contains(".lora_A.") || $0.contains("down.weight") }.map {
                    name in
                    let layer = [".lora_A.weight", ".lora.down.weight", ".lora_down.weight"]
                        .first(where: name.hasSuffix).map { String(name.dropLast($0.count)) }
                    return (layer ?? name) + ".alpha"
                }
                let all = renamed.merging(
                    Parameters(Dictionary(uniqueKeysWithValues: alphas.map { ($0, engine.tensor([8], shape: [1])) })))
                try all.write(to: folder + "/lora.safetensors")
                expectClose(
                    try velocity(folder + "/lora.safetensors"), try expected.tensor("output", on: engine),
                    relative: 1e-4,
                    kind)
            }
        }
    }

    @Test("a written folder holds diffusers' tensors, alpha / r within them, and its metadata with alpha = r")
    func metadata() throws {
        let source = Repository.fixtures + "/mmdit-a-lora/pytorch_lora_weights.safetensors"
        let theirs = try SafeTensorsFile(path: source)
        try withTemporaryFolder { folder in
            let adapter = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
            try adapter.write(folder: folder, baseModel: "mmdit-a")
            let ours = try SafeTensorsFile(path: folder + "/pytorch_lora_weights.safetensors")
            #expect(ours.entries.map(\.name).sorted() == theirs.entries.map(\.name).sorted())
            let folded = try SafeTensorsFile(
                path: Repository.fixtures + "/mmdit-a-lora/pytorch_lora_weights.folded.safetensors")
            for entry in folded.entries { #expect(try ours.floats(of: entry.name) == folded.floats(of: entry.name)) }
            func entries(_ file: SafeTensorsFile) throws -> [String: Entry] {
                let text = try #require(file.metadata["lora_adapter_metadata"])
                return try JSONDecoder().decode([String: Entry].self, from: Data(text.utf8))
            }
            let (mine, reference) = (try entries(ours), try entries(theirs))
            // How the factors began and which way layers are named does not change what is computed.
            for (key, value) in reference
            where !["init_lora_weights", "target_modules", "lora_alpha"].contains(key.dropFirst("transformer.".count)) {
                #expect(mine[key] == value, "\(key)")
            }
            #expect(mine["transformer.lora_alpha"] == .number(4) && reference["transformer.lora_alpha"] == .number(8))
        }
    }

    private enum Entry: Decodable, Equatable {
        case number(Double)
        case flag(Bool)
        case text(String)
        case other

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let flag = try? container.decode(Bool.self) {
                self = .flag(flag)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else {
                self = (try? container.decode(String.self)).map(Entry.text) ?? .other
            }
        }
    }
}
