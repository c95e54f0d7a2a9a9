import ArgumentParser
import Foundation
import MethodModels
import SafeTensors

/// `advgrpo inspect`: what is in a weights file, a component folder, a pipeline or an adapter, without loading it.
struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Name architecture, precision and size of weights.",
        discussion: "Takes a safetensors file, a folder of one model, a diffusers pipeline folder or an adapter folder."
    )

    @Argument(help: "File or folder.", transform: expandingHome)
    var path: String

    @Flag(help: "Also list every tensor.")
    var tensors = false

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    func run() throws {
        let parts = try Inspection.parts(of: path, listingTensors: tensors)
        if json { return try printJSON(Inspection.Document(path: path, parts: parts)) }
        for part in parts {
            print("\(part.path)")
            print(
                "  \(part.architecture), \(part.parameterCount) parameters, \(part.tensorCount) tensors, \(part.precision)"
            )
            for (key, value) in part.metadata.sorted(by: { $0.key < $1.key }) {
                print("  metadata \(key): \(value.prefix(100))")
            }
            for tensor in part.tensors ?? [] { print("  \(tensor.name) \(tensor.dtype) \(tensor.shape)") }
        }
    }
}

/// Reads headers and configurations only; weights stay on disk.
enum Inspection {
    /// What `--json` prints.
    struct Document: Encodable {
        var path: String
        var parts: [Part]
    }

    /// One model.
    struct Part: Encodable {
        var path: String
        var architecture: String
        var precision: String
        var parameterCount: Int
        var tensorCount: Int
        var byteCount: Int
        var metadata: [String: String]
        var tensors: [Tensor]?
    }

    /// One tensor of a file.
    struct Tensor: Encodable {
        var name: String
        var dtype: String
        var shape: [Int]
    }

    /// Every model at `path`: the file itself, the folder's weights, or those of each component of a pipeline.
    ///
    /// - Throws: `SafeTensorsError` naming the file; `CommandFailure` when there are no weights.
    static func parts(of path: String, listingTensors: Bool) throws -> [Part] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw CommandFailure("\(path) does not exist; give a safetensors file or a folder that holds one.")
        }
        guard isFolder.boolValue else {
            return [try part(path: path, configuration: nil, listingTensors: listingTensors)]
        }
        let folders =
            [path]
            + ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted().map { path + "/" + $0 }
        let parts = try folders.compactMap { folder -> Part? in
            let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            guard files.contains(where: { $0.hasSuffix(".safetensors") }) else { return nil }
            let configuration = ["config.json", "adapter_config.json"].first(where: files.contains).map {
                folder + "/" + $0
            }
            return try part(path: folder, configuration: configuration, listingTensors: listingTensors)
        }
        guard !parts.isEmpty else {
            throw CommandFailure(
                "\(path) holds no .safetensors file, nor does a folder in it; point at the folder with the weights.")
        }
        return parts
    }

    private static func part(path: String, configuration: String?, listingTensors: Bool) throws -> Part {
        let weights = try SafeTensorsFolder(path: path)
        let counts = Dictionary(weights.entries.map { ($0.dtype.rawValue, $0.elementCount) }, uniquingKeysWith: +)
        let precision = counts.sorted { $0.value > $1.value }.map(\.key).joined(separator: " + ")
        return Part(
            path: path, architecture: architecture(configuration: configuration, entries: weights.entries),
            precision: precision, parameterCount: weights.entries.reduce(0) { $0 + $1.elementCount },
            tensorCount: weights.entries.count, byteCount: weights.entries.reduce(0) { $0 + $1.byteRange.count },
            metadata: weights.metadata,
            tensors: listingTensors
                ? weights.entries.map { Tensor(name: $0.name, dtype: $0.dtype.rawValue, shape: $0.shape) } : nil)
    }

    /// Ends of tensor names that tell what a file holds which says nothing itself; the first that is found decides.
    private static let adapters: [(suffix: String, architecture: String)] = [(".lora_A.weight", "LoRA adapter")]
    private static let others: [(suffix: String, architecture: String)] = [
        ("first_stage_model.decoder.conv_in.weight", "autoencoder in Stability's names"),
        ("decoder.conv_in.weight", "AutoencoderKL"),
        ("storage_tokens", "DINOv3 in Meta's names"),
        ("blocks.0.attn.qkv.weight", "timm or Meta vision transformer"),
        ("blocks.0.0.attn.qkv.weight", "Meta vision transformer"),
        ("encoder.layer.0.attention.attention.query.weight", "Dinov2Model"),
        ("layer.0.attention.q_proj.weight", "DINOv3ViTModel"),
        ("vision_model.embeddings.class_embedding", "CLIPModel"),
        ("vision_model.head.probe", "SiglipModel"),
        ("text_model.embeddings.token_embedding.weight", "CLIP text encoder"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "T5 encoder"),
        ("layers.7.weight", "aesthetic predictor"),
    ]

    /// The class its configuration names, else what its tensor names say.
    private static func architecture(configuration: String?, entries: [TensorEntry]) -> String {
        if let configuration, let data = FileManager.default.contents(atPath: configuration),
            let fields = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
        {
            if let name = fields["_class_name"] as? String { return name }
            if let name = (fields["architectures"] as? [String])?.first { return name }
            if let name = fields["architecture"] as? String { return "timm \(name)" }
            if let kind = fields["peft_type"] as? String {
                return "PEFT \(kind) adapter, rank \(fields["r"] as? Int ?? 0)"
            }
        }
        let signatures = Self.adapters + PolicyModels.rows.flatMap { $0.signatures } + Self.others
        return signatures.first { signature in entries.contains { $0.name.hasSuffix(signature.suffix) } }?
            .architecture
            ?? "unknown architecture"
    }
}
