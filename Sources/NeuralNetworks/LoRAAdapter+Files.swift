import SafeTensors
public import TensorCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension LoRAAdapter {
    /// Writes a PEFT folder, `adapter_model.safetensors` and `adapter_config.json`, which `PeftModel.from_pretrained` and
    /// diffusers' `load_lora_adapter` read.
    ///
    /// - Parameter baseModel: recorded as `base_model_name_or_path`.
    /// - Throws: `SafeTensorsError`, or what creating the folder throws.
    public func writePEFT(folder: String, baseModel: String) throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try parameters.renamed { peftPrefix + $0 }.write(to: folder + "/adapter_model.safetensors")
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let file = PEFTConfiguration(configuration, baseModel: baseModel)
        try DurableFile.write(
            [SharedBytes(copying: Array(try encoder.encode(file)) + [0x0A])], to: folder + "/adapter_config.json")
    }

    /// Writes `pytorch_lora_weights.safetensors` for diffusers' `load_lora_weights`.
    ///
    /// That loader takes alpha = r when a file says nothing, and only newer versions read alpha from the metadata, so
    /// alpha / r is multiplied into every B: the file means the same to all of them.
    ///
    /// - Throws: `SafeTensorsError`.
    public func writeDiffusers(path: String) throws {
        let scale = configuration.scale
        let folded = parameters.mapped { name, tensor in name.hasSuffix(".lora_B.weight") ? tensor * scale : tensor }
        try folded.renamed { diffusersPrefix + $0 }.write(to: path)
    }

    /// Reads a PEFT folder, or a diffusers file or folder with `pytorch_lora_weights.safetensors`.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(path: String, engine: any Engine) throws {
        let configurationPath = path + "/adapter_config.json"
        if FileManager.default.fileExists(atPath: configurationPath) {
            let configuration = try PEFTConfiguration.read(configurationPath)
            let file = try Parameters(path: path + "/adapter_model.safetensors", engine: engine)
            let parameters = try LoRAAdapter.stripped(file, prefix: peftPrefix, source: path)
            try self.init(configuration: configuration, parameters: parameters, source: path)
        } else {
            let parameters = try LoRAAdapter.stripped(
                Parameters(path: path, engine: engine), prefix: diffusersPrefix, source: path)
            let metadata = try SafeTensorsFolder(path: path).metadata["lora_adapter_metadata"]
            let configuration = try LoRAAdapter.diffusersConfiguration(parameters, metadata: metadata, source: path)
            try self.init(configuration: configuration, parameters: parameters, source: path)
        }
    }

    private static func stripped(_ file: Parameters, prefix: String, source: String) throws -> Parameters {
        for name in file.names where !name.hasPrefix(prefix) {
            throw ModelError(
                code: .unusedTensors, source: source,
                message: "tensor \(name) does not start with \(prefix), so no model has it")
        }
        return file.renamed { String($0.dropFirst(prefix.count)) }
    }

    private static func diffusersConfiguration(
        _ parameters: Parameters, metadata: String?, source: String
    ) throws -> LoRAConfiguration {
        let layers = Set(parameters.names.compactMap(layer(of:)))
        let targets = Set(layers.map(target(of:))).sorted()
        if let metadata {
            guard let stored = try? JSONDecoder().decode(DiffusersMetadata.self, from: Data(metadata.utf8)) else {
                throw ModelError(
                    code: .configuration, source: source,
                    message: "lora_adapter_metadata has no transformer.r and .lora_alpha")
            }
            return LoRAConfiguration(rank: stored.rank, alpha: stored.alpha, targets: targets)
        }
        guard let rank = parameters.entries.first(where: { $0.name.hasSuffix(".lora_A.weight") })?.tensor.shape.first
        else {
            throw ModelError(code: .missing, source: source, message: "the file has no lora_A")
        }
        return LoRAConfiguration(rank: rank, alpha: Double(rank), targets: targets)
    }

    /// The part of a layer's name that repeats in every block: what follows the last block number that is not the end.
    private static func target(of layer: String) -> String {
        let parts = layer.split(separator: ".")
        guard let number = parts.dropLast().firstIndex(where: { Int($0) != nil }) else { return layer }
        return parts[(number + 1)...].joined(separator: ".")
    }
}

private let peftPrefix = "base_model.model."
private let diffusersPrefix = "transformer."

/// The entries of diffusers' `lora_adapter_metadata` that change the arithmetic.
private struct DiffusersMetadata: Decodable {
    let rank: Int
    let alpha: Double

    enum CodingKeys: String, CodingKey {
        case rank = "transformer.r"
        case alpha = "transformer.lora_alpha"
    }
}

/// PEFT's `adapter_config.json`: the entries its loader needs, and those that would change the arithmetic.
struct PEFTConfiguration: Codable {
    var peftType = "LORA"
    var rank: Int
    var alpha: Double
    var dropout: Double? = 0
    var targetModules: [String]
    var initialization: Bool? = nil
    var bias: String? = "none"
    var taskType: String? = nil
    var isTransposed: Bool? = false
    var usesRankStabilizedScale: Bool? = false
    var usesDoRA: Bool? = false
    var isForInference: Bool? = true
    var baseModel: String?
    var rankPattern: [String: Int]? = nil
    var alphaPattern: [String: Double]? = nil

    enum CodingKeys: String, CodingKey {
        case peftType = "peft_type"
        case rank = "r"
        case alpha = "lora_alpha"
        case dropout = "lora_dropout"
        case targetModules = "target_modules"
        case initialization = "init_lora_weights"
        case bias
        case taskType = "task_type"
        case isTransposed = "fan_in_fan_out"
        case usesRankStabilizedScale = "use_rslora"
        case usesDoRA = "use_dora"
        case isForInference = "inference_mode"
        case baseModel = "base_model_name_or_path"
        case rankPattern = "rank_pattern"
        case alphaPattern = "alpha_pattern"
    }

    init(_ configuration: LoRAConfiguration, baseModel: String) {
        rank = configuration.rank
        alpha = configuration.alpha
        targetModules = configuration.targets
        initialization = true
        self.baseModel = baseModel
    }

    init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        peftType = try values.decode(String.self, forKey: .peftType)
        rank = try values.decode(Int.self, forKey: .rank)
        alpha = try values.decode(Double.self, forKey: .alpha)
        targetModules = try values.decode([String].self, forKey: .targetModules)
        bias = try values.decodeIfPresent(String.self, forKey: .bias)
        isTransposed = try values.decodeIfPresent(Bool.self, forKey: .isTransposed)
        usesRankStabilizedScale = try values.decodeIfPresent(Bool.self, forKey: .usesRankStabilizedScale)
        usesDoRA = try values.decodeIfPresent(Bool.self, forKey: .usesDoRA)
        rankPattern = try values.decodeIfPresent([String: Int].self, forKey: .rankPattern)
        alphaPattern = try values.decodeIfPresent([String: Double].self, forKey: .alphaPattern)
    }

    /// Reads and refuses what this adapter cannot represent.
    static func read(_ path: String) throws -> LoRAConfiguration {
        let file = try ConfigurationFile.read(PEFTConfiguration.self, path: path)
        let unsupported: [(String, Bool)] = [
            ("peft_type \(file.peftType)", file.peftType != "LORA"), ("bias", (file.bias ?? "none") != "none"),
            ("fan_in_fan_out", file.isTransposed == true), ("use_rslora", file.usesRankStabilizedScale == true),
            ("use_dora", file.usesDoRA == true), ("rank_pattern", file.rankPattern?.isEmpty == false),
            ("alpha_pattern", file.alphaPattern?.isEmpty == false),
        ]
        if let first = unsupported.first(where: \.1) {
            throw ModelError(code: .unsupported, source: path, message: "\(first.0) is not supported")
        }
        return LoRAConfiguration(rank: file.rank, alpha: file.alpha, targets: file.targetModules)
    }
}
