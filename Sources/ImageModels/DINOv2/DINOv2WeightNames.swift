import Foundation

/// Names of other releases in timm's scheme, as data.
enum DINOv2WeightNames {
    /// The model's name for a tensor of a file, whoever wrote it; nil for what inference does not need.
    ///
    /// timm and Meta: unchanged, but DINOv3's `gamma_1`. transformers: prefixes and separate query, key and value, under the
    /// names of its files and, for DINOv3, also of its modules.
    static func canonical(_ name: String) -> String? {
        if unneeded.contains(name) { return nil }
        var name = name.hasPrefix("dinov2.") ? String(name.dropFirst("dinov2.".count)) : name
        for (from, to) in prefixes where name.hasPrefix(from) {
            name = to + name.dropFirst(from.count)
            break
        }
        guard name.hasPrefix("blocks.") else { return name }
        for (from, to) in parts {
            guard let range = name.range(of: "." + from) else { continue }
            return name.replacingCharacters(in: range, with: "." + to)
        }
        return name
    }

    private static let unneeded: Set = ["mask_token", "embeddings.mask_token", "dinov2.embeddings.mask_token"]

    private static let prefixes = [
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.register_tokens", "reg_token"),
        ("register_tokens", "reg_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("embeddings.patch_embeddings.", "patch_embed.proj."),
        ("encoder.layer.", "blocks."),
        ("model.layer.", "blocks."),
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
