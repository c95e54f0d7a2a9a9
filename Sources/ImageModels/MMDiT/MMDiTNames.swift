import NeuralNetworks

/// Names of SD3's transformer in Stability's own code -> the model's, which are diffusers'.
///
/// - Source: diffusers loaders/single_file_utils.py, `convert_sd3_transformer_checkpoint_to_diffusers`. Differences: none.
enum MMDiTNames {
    /// Tensors under the model's names; those that have them, or that are of no layer there, keep theirs.
    static func canonical(_ tensors: [String: StoredTensor]) -> [String: StoredTensor] {
        var canonical: [String: StoredTensor] = [:]
        for (name, tensor) in tensors {
            guard name != "pos_embed" else {
                canonical["pos_embed.pos_embed"] = tensor
                continue
            }
            let dot = name.lastIndex(of: ".") ?? name.startIndex
            let (layer, ending) = (String(name[..<dot]), String(name[dot...]))
            guard let place = place(of: layer) else {
                canonical[name] = tensor
                continue
            }
            for (index, target) in place.layers.enumerated() {
                canonical[target + ending] =
                    switch place.rows {
                    case .whole: tensor
                    case .thirds: tensor.part(index, of: place.layers.count)
                    // Two rows for each input: scale and shift are in the other order; more: the order is the model's.
                    case .modulation: isPair(tensors[layer + ".weight"]) ? tensor.exchanged : tensor
                    }
            }
        }
        return canonical
    }

    private static func isPair(_ weight: StoredTensor?) -> Bool {
        guard let shape = weight?.shape, shape.count == 2 else { return false }
        return shape[0] == 2 * shape[1]
    }

    private static func place(of layer: String) -> (layers: [String], rows: LayerRows)? {
        let block = "joint_blocks."
        guard layer.hasPrefix(block) else { return outside[layer] }
        let rest = layer.dropFirst(block.count)
        let number = rest.prefix { $0 != "." }
        return inBlock[String(rest.dropFirst(number.count + 1))].map { place in
            (place.layers.map { "transformer_blocks.\(number).\($0)" }, place.rows)
        }
    }

    private static let inBlock = table(StabilityLayers.inBlock + StabilityLayers.norms)
    private static let outside = table(StabilityLayers.outside)

    private static func table(_ rows: [StabilityLayers.Row]) -> [String: (layers: [String], rows: LayerRows)] {
        rows.reduce(into: [:]) { $0[$1.original] = ($1.layers, $1.rows) }
    }
}
