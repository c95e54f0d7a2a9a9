import SafeTensors

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension LoRAAdapter {
    /// Writes a folder for PEFT, diffusers and ComfyUI: `adapter_model.safetensors` and `adapter_config.json`, which
    /// `PeftModel.from_pretrained` reads, and `pytorch_lora_weights.safetensors` for diffusers' `load_lora_weights`.
    ///
    /// All files hold the same factors; rank and alpha stand beside them, in the diffusers file as its `lora_adapter_metadata`.
    ///
    /// - Parameter baseModel: recorded as `base_model_name_or_path`.
    /// - Throws: `SafeTensorsError`, or what creating the folder throws.
    public func write(folder: String, baseModel: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        func encoded(prefix: String) throws -> [UInt8] {
            Array(try encoder.encode(WrittenConfiguration(adapter: self, baseModel: baseModel, prefix: prefix)))
        }
        try parameters.renamed { "base_model.model." + $0 }.write(to: folder + "/adapter_model.safetensors")
        try DurableFile.write(
            [SharedBytes(copying: try encoded(prefix: "") + [0x0A])], to: folder + "/adapter_config.json")
        let metadata = String(decoding: try encoded(prefix: "transformer."), as: UTF8.self)
        try parameters.renamed { "transformer." + $0 }.write(
            to: folder + "/pytorch_lora_weights.safetensors",
            metadata: ["format": "pt", "lora_adapter_metadata": metadata])
    }
}

/// The entries of PEFT's `LoraConfig`, each name with a prefix.
private struct WrittenConfiguration: Encodable {
    let adapter: LoRAAdapter
    let baseModel: String
    let prefix: String

    private struct Key: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        var entries = encoder.container(keyedBy: Key.self)
        func key(_ name: String) -> Key { Key(stringValue: prefix + name) }
        let pairs = adapter.layers.compactMap { layer in adapter.pair(for: layer).map { (layer: layer, pair: $0) } }
        let (rank, alpha) = (pairs.first?.pair.rank ?? 1, pairs.first?.pair.alpha ?? 1)
        try entries.encode("LORA", forKey: key("peft_type"))
        try entries.encode(rank, forKey: key("r"))
        try entries.encode(alpha, forKey: key("lora_alpha"))
        try entries.encode(adapter.targets, forKey: key("target_modules"))
        try entries.encode(baseModel, forKey: key("base_model_name_or_path"))
        try entries.encode("none", forKey: key("bias"))
        try entries.encode(0.0, forKey: key("lora_dropout"))
        try entries.encode(true, forKey: key("init_lora_weights"))
        try entries.encode(true, forKey: key("inference_mode"))
        for name in ["fan_in_fan_out", "use_dora", "use_rslora"] { try entries.encode(false, forKey: key(name)) }
        // A layer's whole name is the pattern that matches it alone.
        let ranks = pairs.filter { $0.pair.rank != rank }.map { ("^" + $0.layer, $0.pair.rank) }
        let alphas = pairs.filter { $0.pair.alpha != alpha }.map { ("^" + $0.layer, $0.pair.alpha) }
        try entries.encode(Dictionary(uniqueKeysWithValues: ranks), forKey: key("rank_pattern"))
        try entries.encode(Dictionary(uniqueKeysWithValues: alphas), forKey: key("alpha_pattern"))
    }
}
