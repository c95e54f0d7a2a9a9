import Configuration
import Platform
import RunFiles

/// Where a policy lies: a pipeline and what was trained on it.
struct PolicyFolders {
    /// The pipeline.
    var model: String
    /// An adapter; nil for none.
    var lora: String?
    /// A transformer in place of the pipeline's own.
    var transformer: String?

    /// The newest snapshot of a run: its adapter, or the transformer that was trained whole.
    ///
    /// - Throws: `CommandFailure` for a run without a snapshot; what reading its settings throws.
    init(run folder: String) throws {
        self.init(
            snapshot: folder + "/checkpoints/latest", model: try RunDirectory.storedSettings(in: folder).model)
        guard lora != nil || transformer != nil else {
            throw CommandFailure(
                "\(folder) has nothing trained in checkpoints/latest; name a run that has taken a snapshot.")
        }
    }

    /// What a snapshot holds: an adapter, or the transformer that was trained whole.
    init(snapshot folder: String, model: String) {
        self.init(
            model: model, lora: [folder + "/adapter"].first(where: PromptFile.exists),
            transformer: [folder + "/transformer"].first(where: PromptFile.exists))
    }

    init(model: String, lora: String? = nil, transformer: String? = nil) {
        self.model = model
        self.lora = lora
        self.transformer = transformer
    }

    /// A policy by the word that `--against` takes: a run's folder, an adapter, a transformer's folder, or `base`.
    ///
    /// - Parameter model: the pipeline that adapters and transformers belong to, and what `base` is.
    init(_ word: String, model: String) throws {
        if word == "base" {
            self.init(model: model)
        } else if RunDirectory.holdsRun(word) {
            try self.init(run: word)
        } else {
            let isNetwork =
                PromptFile.exists(word + "/config.json") && !PromptFile.exists(word + "/adapter_config.json")
            self.init(model: model, lora: isNetwork ? nil : word, transformer: isNetwork ? word : nil)
        }
    }

    /// The run that one of these lies in; nil where none does.
    var run: String? { [lora, transformer].compactMap { $0.flatMap(Self.run(around:)) }.first }

    /// The nearest folder above a path that holds a run.
    private static func run(around path: String) -> String? {
        var folder = path
        while let slash = folder.lastIndex(of: "/") {
            folder = String(folder[..<slash])
            if RunDirectory.holdsRun(folder) { return folder }
        }
        return nil
    }
}
