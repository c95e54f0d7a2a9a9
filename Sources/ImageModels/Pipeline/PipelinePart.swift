import NeuralNetworks
import SafeTensors

/// A part of a Stable Diffusion 3 that has weights: its folder in a diffusers pipeline, and its names in a single-file checkpoint.
public enum PipelinePart: String, Sendable, CaseIterable {
    /// The velocity network.
    case transformer
    /// The autoencoder.
    case autoencoder = "vae"
    /// CLIP-L.
    case firstTextEncoder = "text_encoder"
    /// CLIP-G.
    case secondTextEncoder = "text_encoder_2"
    /// T5.
    case thirdTextEncoder = "text_encoder_3"

    /// What its names begin with in a checkpoint of several parts.
    var prefixes: [String] {
        switch self {
        case .transformer: ["model.diffusion_model.", "diffusion_model."]
        case .autoencoder: ["first_stage_model.", "vae."]
        case .firstTextEncoder: ["text_encoders.clip_l.transformer."]
        case .secondTextEncoder: ["text_encoders.clip_g.transformer."]
        case .thirdTextEncoder: ["text_encoders.t5xxl.transformer."]
        }
    }

    /// The part's tensors in a checkpoint of several parts, by the model's names; nil where it has none of them.
    func tensors(inCheckpoint file: SafeTensorsFolder) -> [String: StoredTensor]? {
        for prefix in prefixes {
            let entries = file.entries.filter { $0.name.hasPrefix(prefix) }
            if !entries.isEmpty { return translated(entries, prefix: prefix) }
        }
        // A file of the transformer alone, as ComfyUI's folder diffusion_models has them.
        let isAlone = self == .transformer && file.entries.contains { $0.name.hasPrefix("joint_blocks.0.") }
        return isAlone ? translated(file.entries, prefix: "") : nil
    }

    /// The tensors of the part's own file, by the model's names, whoever wrote it.
    func tensors(inOwn file: SafeTensorsFolder) -> [String: StoredTensor] {
        let prefix = prefixes.first { prefix in file.entries.allSatisfy { $0.name.hasPrefix(prefix) } } ?? ""
        return translated(file.entries, prefix: prefix)
    }

    private func translated(_ entries: [TensorEntry], prefix: String) -> [String: StoredTensor] {
        let named = Dictionary(
            uniqueKeysWithValues: entries.map { (String($0.name.dropFirst(prefix.count)), StoredTensor($0)) })
        switch self {
        case .transformer: return MMDiTNames.canonical(named)
        case .autoencoder: return AutoencoderKLNames.canonical(named)
        case .firstTextEncoder where !prefix.isEmpty:
            // SD3 pools CLIP-L without a projection; diffusers' class has the identity in its place, whatever the file holds.
            guard let norm = named["text_model.final_layer_norm.weight"], let width = norm.shape.first else {
                return named
            }
            return named.merging(["text_projection.weight": .identity(width)]) { $1 }
        default: return named
        }
    }
}
