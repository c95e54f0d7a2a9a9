/// How the rows of a layer in another program's files are those of the model's layers.
public enum LayerRows: Sendable, Equatable {
    /// One layer, all rows.
    case whole
    /// Three layers, a third each: fused projections.
    case thirds
    /// One layer; where it makes two rows for each input, shift and scale, the halves are exchanged.
    case modulation
}

/// The layers of SD3's transformer in Stability's own code, which single-file checkpoints, ComfyUI and kohya's trainer keep to, beside the
/// model's.
///
/// - Source: diffusers loaders/single_file_utils.py, `convert_sd3_transformer_checkpoint_to_diffusers`.
public enum StabilityLayers {
    /// A layer there, and the model's layers it makes.
    public typealias Row = (original: String, layers: [String], rows: LayerRows)

    /// Below `joint_blocks.N` and `transformer_blocks.N`.
    public static let inBlock: [Row] = [
        ("x_block.attn.qkv", ["attn.to_q", "attn.to_k", "attn.to_v"], .thirds),
        ("x_block.attn.proj", ["attn.to_out.0"], .whole),
        ("x_block.attn2.qkv", ["attn2.to_q", "attn2.to_k", "attn2.to_v"], .thirds),
        ("x_block.attn2.proj", ["attn2.to_out.0"], .whole),
        ("x_block.mlp.fc1", ["ff.net.0.proj"], .whole),
        ("x_block.mlp.fc2", ["ff.net.2"], .whole),
        ("x_block.adaLN_modulation.1", ["norm1.linear"], .whole),
        ("context_block.attn.qkv", ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], .thirds),
        ("context_block.attn.proj", ["attn.to_add_out"], .whole),
        ("context_block.mlp.fc1", ["ff_context.net.0.proj"], .whole),
        ("context_block.mlp.fc2", ["ff_context.net.2"], .whole),
        ("context_block.adaLN_modulation.1", ["norm1_context.linear"], .modulation),
    ]

    /// Outside of blocks.
    public static let outside: [Row] = [
        ("x_embedder.proj", ["pos_embed.proj"], .whole),
        ("context_embedder", ["context_embedder"], .whole),
        ("t_embedder.mlp.0", ["time_text_embed.timestep_embedder.linear_1"], .whole),
        ("t_embedder.mlp.2", ["time_text_embed.timestep_embedder.linear_2"], .whole),
        ("y_embedder.mlp.0", ["time_text_embed.text_embedder.linear_1"], .whole),
        ("y_embedder.mlp.2", ["time_text_embed.text_embedder.linear_2"], .whole),
        ("final_layer.adaLN_modulation.1", ["norm_out.linear"], .modulation),
        ("final_layer.linear", ["proj_out"], .whole),
    ]

    /// Normalisations of a block, which adapters do not change.
    public static let norms: [Row] = [
        ("x_block.attn.ln_q", ["attn.norm_q"], .whole),
        ("x_block.attn.ln_k", ["attn.norm_k"], .whole),
        ("x_block.attn2.ln_q", ["attn2.norm_q"], .whole),
        ("x_block.attn2.ln_k", ["attn2.norm_k"], .whole),
        ("context_block.attn.ln_q", ["attn.norm_added_q"], .whole),
        ("context_block.attn.ln_k", ["attn.norm_added_k"], .whole),
    ]
}
