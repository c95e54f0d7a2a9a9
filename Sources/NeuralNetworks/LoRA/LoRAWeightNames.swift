/// How the tensors of adapters for SD3's transformer are named: by PEFT, diffusers, ComfyUI, OneTrainer and kohya's trainer.
enum LoRAWeightNames {
    /// What a tensor is to its layer.
    enum Role: String {
        case down = "A", up = "B", alpha
    }

    /// Endings of tensor names.
    private static let endings: [(text: String, role: Role)] = [
        (".lora_A.weight", .down), (".lora_B.weight", .up), (".lora_A.default.weight", .down),
        (".lora_B.default.weight", .up), (".lora_down.weight", .down), (".lora_up.weight", .up),
        (".lora.down.weight", .down), (".lora.up.weight", .up), (".lora_linear_layer.down.weight", .down),
        (".lora_linear_layer.up.weight", .up), (".alpha", .alpha),
    ]

    /// Beginnings of tensor names, longest first; a name may have none. `_` divides the names of those that end with it.
    private static let beginnings = [
        "base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "lora_transformer_",
        "lora_unet_",
    ]

    /// Parts of names that say that the file holds something else, and what.
    private static let others: [(parts: [String], what: String)] = [
        (
            ["text_encoder", "text_encoders.", "text_model.", "lora_te", "lora_prior_te", "conditioner."],
            "changes the text encoders, which are not adapted here; save the transformer's layers alone"
        ),
        (["lora_magnitude_vector", "dora_scale"], "is DoRA, which is not supported; merge it into the base model"),
        (
            ["lokr_", "hada_", "oft_", "lora_mid", ".diff_b", "glora_"],
            "is LoHa, LoKr or OFT, which are not supported; merge it into the base model, or train plain LoRA"
        ),
        (
            ["lora_A.bias", "lora_B.bias", "lora_up.bias", "lora_down.bias"],
            "is a bias of the adapter, which is not supported; train with lora_bias false"
        ),
        (
            ["down_blocks", "up_blocks", "mid_block", "input_blocks", "output_blocks"],
            "belongs to a U-Net (Stable Diffusion 1, 2 or XL), not to SD3's transformer"
        ),
        (["single_transformer_blocks", "double_blocks", "single_blocks"], "belongs to FLUX, not to SD3's transformer"),
    ]

    /// Every layer by every name it has, its block's number left out and dots written as `_`.
    private static let byFlatName: [String: (layers: [String], rows: LayerRows)] = {
        var table: [String: (layers: [String], rows: LayerRows)] = [:]
        func add(_ name: String, _ layers: [String], _ rows: LayerRows) { table[flat(name)] = (layers, rows) }
        for (original, layers, rows) in StabilityLayers.inBlock {
            add("joint_blocks." + original, layers, rows)
            for layer in layers { add("transformer_blocks." + layer, [layer], .whole) }
        }
        for (original, layers, rows) in StabilityLayers.outside {
            add(original, layers, rows)
            for layer in layers { add(layer, [layer], .whole) }
        }
        return table
    }()

    private static func flat(_ name: String) -> String { String(name.map { $0 == "." ? "_" : $0 }) }

    /// The layers that a tensor changes, by the model's names, and how.
    ///
    /// - Throws: `unsupported` for tensors that are no factors of a layer of SD3's transformer.
    static func resolve(
        _ name: String, source: String
    ) throws(ModelError) -> (layers: [String], role: Role, rows: LayerRows) {
        func refusal(_ what: String) -> ModelError {
            ModelError(code: .unsupported, source: source, message: "tensor \(name.prefix(200)) \(what)")
        }
        if let other = others.first(where: { $0.parts.contains { name.contains($0) } }) { throw refusal(other.what) }
        guard let ending = endings.first(where: { name.hasSuffix($0.text) }) else {
            throw refusal(
                "is none of an adapter's (lora_A and lora_B, lora_down and lora_up, alpha); name a file that holds LoRA"
            )
        }
        var layer = String(name.dropLast(ending.text.count))
        let beginning = beginnings.first(where: layer.hasPrefix) ?? ""
        layer = String(layer.dropFirst(beginning.count))
        if let known = knownLayers(layer) { return (known.layers, ending.role, known.rows) }
        // Another model's layer, by the model's own kind of name: merging says that it is not there.
        let isUnknownSpelling = beginning.hasSuffix("_") || layer.hasPrefix("joint_blocks") || layer.isEmpty
        if isUnknownSpelling {
            throw refusal("belongs to no layer of SD3's transformer; convert the adapter to diffusers' names")
        }
        return ([layer], ending.role, .whole)
    }

    private static func knownLayers(_ name: String) -> (layers: [String], rows: LayerRows)? {
        for block in ["joint_blocks", "transformer_blocks"] where name.hasPrefix(block) {
            let rest = name.dropFirst(block.count + 1)
            let number = rest.prefix { $0.isASCII && $0.isNumber }
            guard !number.isEmpty, let known = byFlatName[flat(block + "." + rest.dropFirst(number.count + 1))] else {
                return nil
            }
            return (known.layers.map { "transformer_blocks.\(number).\($0)" }, known.rows)
        }
        return byFlatName[flat(name)]
    }
}
