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

/// What cannot be read faithfully is refused by name, and what cannot matter is not.
@Suite struct AdapterRefusalTests {
    let engine = OpenBLASEngine.shared
    static let layer = "transformer_blocks.0.attn.to_q"

    /// A PEFT folder of rank 2 whose configuration has further entries, written as JSON.
    private func read(configuration: String, _ body: (LoRAAdapter) throws -> Void = { _ in }) throws {
        try withTemporaryFolder { folder in
            try write(["base_model.model.\(Self.layer)": (2, 2)], to: folder + "/adapter_model.safetensors")
            try Data(configuration.utf8).write(to: URL(fileURLWithPath: folder + "/adapter_config.json"))
            try body(LoRAAdapter(path: folder, engine: engine))
        }
    }

    private func write(
        _ layers: [String: (down: Int, up: Int)], metadata: [String: String] = [:], to path: String
    ) throws {
        var tensors: [String: Tensor] = [:]
        for (layer, rank) in layers {
            tensors[layer + ".lora_A.weight"] = engine.tensor(
                [Float](repeating: 1, count: rank.down * 3), shape: [rank.down, 3])
            tensors[layer + ".lora_B.weight"] = engine.tensor(
                [Float](repeating: 1, count: rank.up * 4), shape: [4, rank.up])
        }
        try Parameters(tensors).write(to: path, metadata: metadata)
    }

    @Test(
        "entries that would change the arithmetic, and values out of range, are refused by name",
        arguments: [
            "use_dora: true", "bias: \"all\"", "lora_bias: true", "fan_in_fan_out: true",
            "modules_to_save: [\"proj_out\"]",
            "init_lora_weights: \"pissa\"", "init_lora_weights: \"pissa_niter_16\"", "init_lora_weights: \"olora\"",
            "init_lora_weights: \"corda\"", "init_lora_weights: \"loftq\"", "init_lora_weights: \"lora_ga\"",
            "loftq_config: {\"loftq_bits\": 4}", "layer_replication: [[0, 1]]", "megatron_config: {\"a\": 1}",
            "trainable_token_indices: [1]", "target_parameters: [\"a\"]", "use_qalora: true",
            "use_bdlora: {\"nblocks\": 2}",
            "arrow_config: {\"top_k\": 3}", "alora_invocation_tokens: [1]", "kasa_config: {\"beta\": 1}",
            "something_new: 3", "peft_type: \"LOHA\"", "r: 0", "r: -2", "r: NaN", "r: 2.5", "r: 1e300", "r: \"2\"",
            "lora_alpha: 0", "lora_alpha: -1", "lora_alpha: NaN", "lora_alpha: Infinity", "lora_alpha: 1e30",
            "lora_alpha: \"8\"", "lora_alpha: null", "use_rslora: 1", "rank_pattern: {\"to_q\": 0}",
            "rank_pattern: {\"to_q\": 3}", "alpha_pattern: {\"to_q\": NaN}", "alpha_pattern: {\"to_q(?=x)\": 2}",
            "alpha_pattern: [1]",
        ])
    func refused(entry: String) throws {
        let key = String(entry.prefix { $0 != ":" })
        let value = entry.dropFirst(key.count + 1)
        let defaults = ["r": "2", "lora_alpha": "4"].filter { $0.key != key }
        let members = (defaults.map { "\"\($0.key)\": \($0.value)" } + ["\"\(key)\": \(value)"]).joined(separator: ", ")
        let error = #expect(throws: ModelError.self) { try read(configuration: "{\(members)}") }
        let text = error?.description ?? ""
        #expect(text.contains("adapter_"), "\(text)")
        #expect(text.contains(key) || text.contains("rank"), "\(text)")
    }

    @Test(
        "entries that do not change it are read past",
        arguments: [
            "target_modules: null", "target_modules: \"all-linear\"", "target_modules: \".*\\\\.attn\\\\.(to_q|to_k)\"",
            "init_lora_weights: \"gaussian\"", "init_lora_weights: false", "exclude_modules: [\"a\"]",
            "lora_dropout: 0.1",
            "something_new: null", "something_new: []", "something_new: 0", "use_dora: false", "bias: \"none\"",
            "corda_config: {\"a\": 1}", "layers_to_transform: [0]",
        ])
    func harmless(entry: String) throws {
        let key = String(entry.prefix { $0 != ":" })
        try read(configuration: "{\"r\": 2, \"lora_alpha\": 8, \"\(key)\": \(entry.dropFirst(key.count + 1))}") {
            #expect($0.pair(for: Self.layer)?.scale == 4)
        }
    }

    @Test(
        "the scale is PEFT's",
        arguments: [
            ("{\"r\": 2, \"lora_alpha\": 16, \"use_rslora\": true}", Float(16 / 2.0.squareRoot())),
            ("{\"r\": 8, \"rank_pattern\": {\"attn.to_q\": 2}, \"lora_alpha\": 5}", 2.5),
            // The first pattern that matches counts, in the order of the file.
            ("{\"r\": 2, \"alpha_pattern\": {\"to_q\": 6, \"attn.to_q\": 2}}", 3),
            ("{\"r\": 2, \"alpha_pattern\": {\"attn.to_q\": 2, \"to_q\": 6}}", 1),
            (
                "{\"r\": 2, \"alpha_pattern\": {\"^attn.to_q\": 6, \"o_q\": 6, \"blocks.0.attn.to_q\": 6}, \"lora_alpha\": 4}",
                2
            ),
            ("{\"r\": 2, \"alpha_pattern\": {\"^transformer_blocks\\\\.[0-3]\\\\..*\": 6}}", 3),
            ("{\"r\": 2}", 4),
        ])
    func scale(configuration: String, expected: Float) throws {
        try read(configuration: configuration) { #expect($0.pair(for: Self.layer)?.scale == expected) }
    }

    @Test(
        "the header of a file gives the scale, and half of one is refused",
        arguments: [
            ([:], Float(1)),
            (["transformer.r": "2", "transformer.lora_alpha": "16"], 8),
            (["r": "2", "lora_alpha": "16", "use_rslora": "False"], 8),
            (
                ["transformer.r": "2", "transformer.lora_alpha": "2", "transformer.use_rslora": "true"],
                Float(2.0.squareRoot())
            ),
            (["lora_adapter_metadata": "{\"transformer.r\": 2, \"transformer.lora_alpha\": 6}"], 3),
            (["transformer.lora_alpha": "16"], nil), (["transformer.r": "2", "transformer.lora_alpha": "x"], nil),
            (["lora_adapter_metadata": "{}"], nil), (["lora_adapter_metadata": "[1"], nil),
            (["lora_adapter_metadata": "{\"transformer.r\": 2, \"transformer.use_dora\": true}"], nil),
        ] as [([String: String], Float?)])
    func header(metadata: [String: String], expected: Float?) throws {
        try withTemporaryFolder { folder in
            let path = folder + "/pytorch_lora_weights.safetensors"
            try write(["transformer.\(Self.layer)": (2, 2)], metadata: metadata, to: path)
            guard let expected else {
                let error = #expect(throws: ModelError.self) { try LoRAAdapter(path: path, engine: engine) }
                #expect(error?.description.contains(path) == true)
                return
            }
            for path in [path, folder] {
                #expect(try LoRAAdapter(path: path, engine: engine).pair(for: Self.layer)?.scale == expected)
            }
        }
    }

    @Test(
        "tensors that are no plain LoRA of SD3's transformer are refused, and the sentence says what they are",
        arguments: [
            ("text_encoder.text_model.encoder.layers.0.q_proj.lora_A.weight", "text encoders"),
            ("lora_te1_text_model_encoder_layers_0_q_proj.lora_down.weight", "text encoders"),
            ("transformer.proj_out.lora_magnitude_vector", "DoRA"), ("transformer.proj_out.lora_B.bias", "bias"),
            ("lora_unet_joint_blocks_0_x_block_attn_qkv.lokr_w1", "LoKr"),
            ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "U-Net"),
            ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "FLUX"),
            ("lora_unet_joint_blocks_0_x_block_other.lora_down.weight", "no layer"),
            ("a.weight", "none of an adapter's"),
            ("diffusion_model.transformer_blocks.0.attn.to_q.lora_A.weight", "both"),
            ("transformer.proj_out.lora_A.weight", "pair"),
        ])
    func names(tensor: String, words: String) throws {
        try withTemporaryFolder { folder in
            let path = folder + "/lora.safetensors"
            try write(["transformer.\(Self.layer)": (2, 2)], to: path)
            let added = try Parameters(path: path, engine: engine).merging(
                Parameters([tensor: engine.tensor([1, 1, 1, 1, 1, 1], shape: [2, 3])]))
            try added.write(to: path)
            let error = #expect(throws: ModelError.self) { try LoRAAdapter(path: path, engine: engine) }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
    }

    @Test("files without weights, of unequal ranks, or without their configuration are refused by name")
    func files() throws {
        func expectRefusal(_ words: String, _ fill: (String) throws -> Void) throws {
            try withTemporaryFolder { folder in
                try fill(folder)
                // A ModelError, or of values that are not finite a SafeTensorsError.
                let error = #expect(throws: (any Error).self) {
                    try LoRAAdapter(path: folder + "/adapter_model.safetensors", engine: engine)
                }
                #expect(error.map { "\($0)".contains(words) } == true, "\(String(describing: error))")
            }
        }
        let file = "/adapter_model.safetensors"
        try expectRefusal("holds no tensors; it was saved without its weights") {
            try Parameters().write(to: $0 + file)
        }
        try expectRefusal("saved without its weights") {
            let empty = SafeTensor(name: "transformer.\(Self.layer).lora_A.weight", shape: [0], floats: [])
            try SafeTensorsWriter.write([empty], to: $0 + file)
        }
        try expectRefusal("expected [r, inputs] and [outputs, r]") {
            try write(["transformer.\(Self.layer)": (2, 3)], to: $0 + file)
        }
        try expectRefusal("adapter_config.json") {
            try write(["base_model.model.\(Self.layer)": (2, 2)], to: $0 + file)
        }
        for alpha: Float in [0, -1, .nan, .infinity] {
            try expectRefusal("alpha") {
                try write(["transformer.\(Self.layer)": (2, 2)], to: $0 + file)
                let added = try Parameters(path: $0 + file, engine: engine).merging(
                    Parameters(["transformer.\(Self.layer).alpha": engine.tensor([alpha], shape: [1])]))
                try added.write(to: $0 + file)
            }
        }
    }
}
