/// Which file of a folder is the model: the names that libraries give to weights, as rules.
///
/// - Source: diffusers utils/hub_utils.py `_add_variant`, transformers utils/hub.py. Differences: a variant is read without being
///   named where it is the only one.
struct WeightsName {
    /// Before the first dot of a variant or ending: `model` of `model.fp16.safetensors`.
    let stem: String
    /// `fp16` of `model.fp16.safetensors` and `model.safetensors.index.fp16.json`; empty for the plain file.
    let variant: String
    let isIndex: Bool

    /// nil for a name that is no model by itself: a shard, a hidden file, something else.
    init?(_ name: String) {
        guard !name.hasPrefix("."), !Self.isShard(name) else { return nil }
        if let end = name.firstRange(of: ".safetensors.index."), name.hasSuffix(".json") {
            stem = String(name[..<end.lowerBound])
            variant = String(name[end.upperBound...].dropLast("json".count).dropLast())
            isIndex = true
        } else if name.hasSuffix(".safetensors") {
            let base = name.dropLast(".safetensors".count)
            let dot = base.firstIndex(of: ".") ?? base.endIndex
            stem = String(base[..<dot])
            variant = String(base[dot...].dropFirst())
            isIndex = false
        } else {
            return nil
        }
    }

    private static let wellKnown = ["model", "diffusion_pytorch_model", "adapter_model", "pytorch_lora_weights"]

    /// The file or index that a path means: itself, or the one model of a folder.
    ///
    /// Well-known stems win over others, the plain file over variants, a file over an index.
    ///
    /// - Throws: `missing` where a folder holds none, or several that nothing tells apart; `wrongFormat` for pickles alone.
    static func resolve(_ path: String) throws(SafeTensorsError) -> String {
        guard let names = folderContents(path) else { return path }
        let models = names.compactMap { file in WeightsName(file).map { (file: file, name: $0) } }
        let groups = wellKnown.map { stem in models.filter { $0.name.stem == stem } } + [models]
        for group in groups {
            let plain = group.filter { $0.name.variant.isEmpty }
            let candidates = plain.isEmpty ? group : plain
            let kinds = Set(candidates.map { "\($0.name.stem).\($0.name.variant)" })
            if kinds.count == 1, let one = candidates.first(where: { !$0.name.isIndex }) ?? candidates.first {
                return path + "/" + one.file
            }
            if kinds.count > 1 {
                throw SafeTensorsError(
                    code: .missing, source: path,
                    message: "holds several models: "
                        + candidates.prefix(4).map { quoted($0.file) }.joined(separator: ", "),
                    remedy: "keep one of them in the folder and move the others out of it")
            }
        }
        if let shard = names.first(where: isShard) {
            throw SafeTensorsError(
                code: .missing, source: path,
                message: "holds shards, \(quoted(shard)) for example, without their .safetensors.index.json",
                remedy: "download the index into the folder")
        }
        if let pickle = names.first(where: isPickle) { try refusePickle(path + "/" + pickle) }
        throw SafeTensorsError(
            code: .missing, source: path, message: "holds no .safetensors file", remedy: "check the path")
    }

    /// Whether a name is that of a part, `model-00001-of-00002.safetensors` or `model.fp16-00001-of-00002.safetensors`.
    private static func isShard(_ name: String) -> Bool {
        guard name.hasSuffix(".safetensors") else { return false }
        let words = name.dropLast(".safetensors".count).split(separator: ".").flatMap { $0.split(separator: "-") }
        return words.indices.contains { position in
            words[position] == "of" && position > 0 && position + 1 < words.count
                && Int(words[position - 1]) != nil && Int(words[position + 1]) != nil
        }
    }
}
