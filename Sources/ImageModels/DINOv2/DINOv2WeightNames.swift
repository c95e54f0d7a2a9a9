import Foundation
import NeuralNetworks

/// Names of other releases in timm's scheme, as data.
struct DINOv2WeightNames {
    /// Name in the file -> name in the model; tensors that inference does not need are not there.
    private(set) var canonical: [String: String] = [:]
    /// Names in the file that belong to heads behind the features, or to another network than the teacher.
    private(set) var leftOut: [String] = []

    /// Sorts out the names of a file, whoever wrote it.
    ///
    /// timm and Meta: nearly unchanged. transformers: prefixes and separate query, key and value, under the names of its files and,
    /// for DINOv3, also of its modules. Where a file holds teacher and student of a pretraining, the teacher is the model.
    ///
    /// - Throws: `unsupported` where the features would not be normalised as the model's are.
    init(of names: [String], source: String) throws(ModelError) {
        let isPretraining = names.contains { Self.stripped($0).wrappers.contains("teacher") }
        for name in names {
            let (wrappers, rest) = Self.stripped(name)
            if Self.unneeded.contains(where: { rest.hasSuffix($0) }) { continue }
            if Self.heads.contains(Self.root(rest)) || isPretraining && !wrappers.contains("teacher") {
                leftOut.append(name)
            } else {
                canonical[name] = Self.canonical(rest)
            }
        }
        leftOut.sort()
        // Averaged patches are normalised by the head instead; what the final norm would have been is not known.
        let hasNorm = canonical.values.contains("norm.weight")
        if !hasNorm, leftOut.contains(where: { Self.root(Self.stripped($0).rest) == "fc_norm" }) {
            throw ModelError(
                code: .unsupported, source: source,
                message:
                    "has fc_norm, for averaged features, and no final norm of its tokens, which the features need; "
                    + "take the backbone it was tuned from")
        }
    }

    private static func root(_ name: String) -> String { String(name.prefix { $0 != "." }) }

    /// A name without what wraps the network.
    private static func stripped(_ name: String) -> (wrappers: Set<String>, rest: String) {
        var wrappers: Set<String> = []
        var rest = name[...]
        while let dot = rest.firstIndex(of: "."), Self.wrappers.contains(String(rest[..<dot])) {
            wrappers.insert(String(rest[..<dot]))
            rest = rest[rest.index(after: dot)...]
        }
        return (wrappers, String(rest))
    }

    /// The model's name for a tensor.
    private static func canonical(_ stripped: String) -> String {
        var name = stripped
        for (from, to) in prefixes where name.hasPrefix(from) {
            name = to + name.dropFirst(from.count)
            break
        }
        guard name.hasPrefix("blocks.") else { return name }
        // Chunks of blocks, as trained in shards: blocks.CHUNK.BLOCK, where blocks are numbered through.
        let words = name.split(separator: ".", omittingEmptySubsequences: false)
        if words.count > 3, Int(words[1]) != nil, Int(words[2]) != nil {
            name = (words[..<1] + words[2...]).joined(separator: ".")
        }
        for (from, to) in parts {
            guard let range = name.range(of: "." + from) else { continue }
            return name.replacingCharacters(in: range, with: "." + to)
        }
        return name
    }

    /// Modules that hold the network.
    private static let wrappers: Set = [
        "module", "_orig_mod", "teacher", "student", "backbone", "model", "dinov2", "dinov2_with_registers",
        "dinov3_vit",
    ]

    /// Modules behind the features.
    private static let heads: Set = [
        "head", "head_dist", "fc", "fc_norm", "classifier", "linear", "linear_head", "cls_head", "decode_head",
        "dino_head", "ibot_head", "dino_loss", "ibot_patch_loss", "koleo_loss", "projectors", "attn_pool",
        "local_cls_norm",
    ]

    private static let unneeded = ["mask_token"]

    private static let prefixes = [
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.register_tokens", "reg_token"),
        ("register_tokens", "reg_token"),
        ("storage_tokens", "reg_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("embeddings.patch_embeddings.", "patch_embed.proj."),
        ("encoder.layer.", "blocks."),
        ("layer.", "blocks."),
        ("layernorm.", "norm."),
    ]

    private static let parts = [
        ("attention.attention.query.", "attn.q."),
        ("attention.attention.key.", "attn.k."),
        ("attention.attention.value.", "attn.v."),
        ("attention.output.dense.", "attn.proj."),
        ("attention.q_proj.", "attn.q."),
        ("attention.k_proj.", "attn.k."),
        ("attention.v_proj.", "attn.v."),
        ("attention.o_proj.", "attn.proj."),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("gamma_1", "ls1.gamma"),
        ("gamma_2", "ls2.gamma"),
        ("mlp.weights_in.", "mlp.fc1."),
        ("mlp.weights_out.", "mlp.fc2."),
        ("mlp.up_proj.", "mlp.fc1."),
        ("mlp.down_proj.", "mlp.fc2."),
        ("mlp.w12.", "mlp.fc1."),
        ("mlp.w3.", "mlp.fc2."),
    ]
}
