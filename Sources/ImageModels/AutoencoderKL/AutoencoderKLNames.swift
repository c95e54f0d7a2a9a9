import NeuralNetworks

/// Names of the autoencoder in the latent diffusion code -> the model's, which are diffusers'.
///
/// - Source: diffusers loaders/single_file_utils.py, `convert_ldm_vae_checkpoint`. Differences: none.
enum AutoencoderKLNames {
    /// Tensors under the model's names; those that have them keep theirs.
    static func canonical(_ tensors: [String: StoredTensor]) -> [String: StoredTensor] {
        let levels = tensors.keys.compactMap { name -> Int? in
            let words = words(name)
            return words.starts(with: ["decoder", "up"]) && words.count > 2 ? Int(words[2]) : nil
        }
        let last = levels.max() ?? 0
        return Dictionary(
            tensors.map { name, tensor in
                (canonical(name, lastLevel: last), name.contains(".attn_1.") ? tensor.pointwise : tensor)
            }, uniquingKeysWith: { first, _ in first })
    }

    private static func words(_ name: String) -> [String] { name.split(separator: ".").map(String.init) }

    /// Part by part, from the left; levels of the decoder are counted from the image there, from the latents here.
    private static func canonical(_ name: String, lastLevel: Int) -> String {
        let words = words(name)
        guard words.count > 2, let half = words.first, ["encoder", "decoder"].contains(half) else { return name }
        var (result, rest) = ([half], Array(words.dropFirst()))
        switch (rest[0], Int(rest[1])) {
        case ("down", let level?): (result, rest) = (result + ["down_blocks", "\(level)"], Array(rest.dropFirst(2)))
        case ("up", let level?):
            (result, rest) = (result + ["up_blocks", "\(lastLevel - level)"], Array(rest.dropFirst(2)))
        case ("mid", _): (result, rest) = (result + ["mid_block"], Array(rest.dropFirst()))
        case ("norm_out", _): return (result + ["conv_norm_out"] + rest.dropFirst()).joined(separator: ".")
        default: return name
        }
        if rest.first == "block" {
            (result, rest) = (result + ["resnets"], Array(rest.dropFirst()))
        }
        let isAttention = rest.first == "attn_1"
        let table = isAttention ? attention : others
        return (result + rest.map { table[$0] ?? $0 }).joined(separator: ".")
    }

    private static let attention = [
        "attn_1": "attentions.0", "norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0",
    ]
    private static let others = [
        "block_1": "resnets.0", "block_2": "resnets.1", "downsample": "downsamplers.0", "upsample": "upsamplers.0",
        "nin_shortcut": "conv_shortcut",
    ]
}
