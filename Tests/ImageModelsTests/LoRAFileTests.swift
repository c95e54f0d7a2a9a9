import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Adapter files of PEFT and diffusers, in and out.
@Suite struct LoRAFileTests {
    let engine = OpenBLASEngine.shared
    let folder = Repository.fixtures + "/mmdit-a-lora"

    private func updates(_ adapter: LoRAAdapter) -> [String: [Float]] {
        Dictionary(
            uniqueKeysWithValues: adapter.layers.compactMap { layer in
                adapter.pair(for: layer).map { pair in
                    let nothing = engine.zeros([pair.up.shape[0], pair.down.shape[1]])
                    return (layer, updated(nothing, up: pair.up, down: pair.down, scale: pair.scale).values)
                }
            })
    }

    @Test("PEFT's folder, diffusers' file with metadata and the folded file mean the same update")
    func reading() throws {
        let expected = updates(try LoRAAdapter(path: folder, engine: engine))
        #expect(!expected.isEmpty)
        for file in ["pytorch_lora_weights.safetensors", "pytorch_lora_weights.folded.safetensors"] {
            let actual = updates(try LoRAAdapter(path: folder + "/" + file, engine: engine))
            #expect(actual.keys.sorted() == expected.keys.sorted())
            for (layer, update) in actual {
                expectClose(update, expected[layer] ?? [], relative: 1e-6, "\(file) \(layer)")
            }
        }
    }

    @Test("what we write reads back, with PEFT's names, config and format entry")
    func writing() throws {
        let adapter = try LoRAAdapter(path: folder, engine: engine)
        let expected = updates(adapter)
        try withTemporaryFolder { temporary in
            try adapter.write(folder: temporary, baseModel: "mmdit-a")
            let peft = try LoRAAdapter(path: temporary, engine: engine)
            #expect(peft.layers == adapter.layers)
            #expect(updates(peft) == expected)
            let theirs = try Parameters(path: folder + "/adapter_model.safetensors", engine: engine)
            let ours = try Parameters(path: temporary + "/adapter_model.safetensors", engine: engine)
            #expect(ours.names == theirs.names)
            let data = try Data(contentsOf: URL(fileURLWithPath: temporary + "/adapter_config.json"))
            let json = String(decoding: data, as: UTF8.self)
            for entry in ["\"peft_type\" : \"LORA\"", "\"r\" : 4", "\"lora_alpha\" : 8", "attn.to_out.0\""] {
                #expect(json.contains(entry), "\(entry)")
            }

            let path = temporary + "/pytorch_lora_weights.safetensors"
            let diffusers = try LoRAAdapter(path: path, engine: engine)
            for (layer, update) in updates(diffusers) {
                expectClose(update, expected[layer] ?? [], relative: 1e-6, "diffusers \(layer)")
            }
        }
    }

    @Test("an adapter of another model is refused by name")
    func otherModel() throws {
        let model = try MMDiT(folder: Repository.fixtures + "/mmdit-b", engine: engine)
        let adapter = try LoRAAdapter(
            configuration: LoRAConfiguration(rank: 1, alpha: 1),
            parameters: Parameters([
                "transformer_blocks.9.attn.to_q.lora_A.weight": engine.zeros([1, 32]),
                "transformer_blocks.9.attn.to_q.lora_B.weight": engine.zeros([32, 1]),
            ]))
        let error = #expect(throws: ModelError.self) { try model.merged(adapter) }
        #expect(error?.code == .missing)
        #expect(error?.message.contains("transformer_blocks.9.attn.to_q") == true)
    }
}
