import SafeTensors
import TensorCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension LoRAAdapter {
    /// Writes a folder for PEFT, diffusers and ComfyUI: `adapter_model.safetensors` and `adapter_config.json`, which
    /// `PeftModel.from_pretrained` reads, and `pytorch_lora_weights.safetensors` for diffusers' `load_lora_weights`.
    ///
    /// PEFT's files hold the factors and alpha as they are. In diffusers' file alpha / r is multiplied into every B, and its
    /// `lora_adapter_metadata` says alpha = r: programs that read the metadata, and those that do not and take alpha for r (ComfyUI,
    /// older diffusers), give it the same effect.
    ///
    /// - Parameters:
    ///   - folder: made if it is not there.
    ///   - baseModel: recorded as `base_model_name_or_path`.
    /// - Throws: `SafeTensorsError`, or what creating the folder throws.
    public func write(folder: String, baseModel: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        func encoded(prefix: String, isFolded: Bool) throws -> [UInt8] {
            Array(
                try encoder.encode(
                    WrittenConfiguration(adapter: self, baseModel: baseModel, prefix: prefix, isFolded: isFolded)))
        }
        try parameters.renamed { "base_model.model." + $0 }.write(to: folder + "/adapter_model.safetensors")
        try DurableFile.write(
            [SharedBytes(copying: try encoded(prefix: "", isFolded: false) + [0x0A])],
            to: folder + "/adapter_config.json")
        let metadata = String(decoding: try encoded(prefix: "transformer.", isFolded: true), as: UTF8.self)
        let folded = parameters.mapped { name, tensor in
            guard name.hasSuffix(upSuffix), let pair = pair(for: String(name.dropLast(upSuffix.count))) else {
                return tensor
            }
            return tensor * pair.scale
        }
        try folded.renamed { "transformer." + $0 }.write(
            to: folder + "/pytorch_lora_weights.safetensors",
            metadata: ["format": "pt", "lora_adapter_metadata": metadata])
    }
}

/// The entries of PEFT's `LoraConfig`, each name with a prefix.
private struct WrittenConfiguration: Encodable {
    let adapter: LoRAAdapter
    let baseModel: String
    let prefix: String
    /// Whether alpha / r is part of B already, so that alpha is r.
    let isFolded: Bool

    private struct Key: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        var entries = encoder.container(keyedBy: Key.self)
        func key(_ name: String) -> Key { Key(stringValue: prefix + name) }
        let pairs = adapter.layers.compactMap { layer in
            adapter.pair(for: layer).map {
                (layer: layer, rank: $0.rank, alpha: isFolded ? Double($0.rank) : $0.alpha)
            }
        }
        let (rank, alpha) = (pairs.first?.rank ?? 1, pairs.first?.alpha ?? 1)
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
        let ranks = pairs.filter { $0.rank != rank }.map { ("^" + $0.layer, $0.rank) }
        let alphas = pairs.filter { $0.alpha != alpha }.map { ("^" + $0.layer, $0.alpha) }
        try entries.encode(Dictionary(uniqueKeysWithValues: ranks), forKey: key("rank_pattern"))
        try entries.encode(Dictionary(uniqueKeysWithValues: alphas), forKey: key("alpha_pattern"))
    }
}
