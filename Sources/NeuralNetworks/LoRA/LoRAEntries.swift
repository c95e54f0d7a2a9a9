import Platform
import SafeTensors

/// The entries of PEFT's `LoraConfig`, as `adapter_config.json` and diffusers' `lora_adapter_metadata` hold them.
struct LoRAEntries {
    /// The file.
    let source: String
    /// Where in the file, for errors: `r` is `transformer.r` in a header.
    let prefix: String
    /// Names without the prefix, and values.
    let members: [(key: String, value: OrderedJSON)]

    /// What becomes of an entry.
    private enum Use {
        /// Changes the arithmetic, which is followed.
        case read
        /// Says how the adapter came to be; its tensors are what they are.
        case harmless
        /// Would change the arithmetic if it were set.
        case refused(remedy: String)
    }

    /// All of PEFT 0.21's `LoraConfig`.
    private static let uses: [String: Use] = {
        let other = "save an adapter that is plain LoRA, or merge it into the base model with PEFT's merge_and_unload"
        var uses: [String: Use] = [:]
        for key in ["peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights"]
        {
            uses[key] = .read
        }
        for key in [
            "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
            "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform", "lora_dropout",
            "lora_ga_config", "megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config",
            "target_modules", "task_type", "velora_config",
        ] {
            uses[key] = .harmless
        }
        for key in [
            "alora_invocation_tokens", "arrow_config", "bias", "fan_in_fan_out", "kasa_config", "layer_replication",
            "loftq_config", "lora_bias", "megatron_config", "modules_to_save", "monteclora_config", "target_parameters",
            "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora",
        ] {
            uses[key] = .refused(remedy: other)
        }
        return uses
    }()

    /// Ways to begin that leave the base model as it is. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA, MiCA) move a part of it
    /// into the adapter, or change what is trained.
    private static let harmlessInitializations = ["default", "gaussian", "eva", "orthogonal", "true", "false"]

    /// Whether an entry of this name belongs to a LoRA configuration.
    static func isKnown(_ key: String) -> Bool { uses[key] != nil }

    /// Strength of the adapter; entries that are not there have PEFT's defaults, 8 for r and alpha.
    ///
    /// - Throws: `configuration` for a value out of range, `unsupported` for what changes the arithmetic otherwise.
    func scaling() throws(ModelError) -> LoRAScaling {
        try refuseWhatIsNotRead()
        var scaling = LoRAScaling(
            rank: .init(entry: prefix + "r", common: 8), alpha: .init(entry: prefix + "lora_alpha", common: 8))
        for (key, value) in members {
            switch key {
            case "r": scaling.rank.common = try rank(value, key)
            case "lora_alpha": scaling.alpha.common = try alpha(value, key)
            case "use_rslora": scaling.isRankStabilized = try flag(value, key)
            case "rank_pattern": scaling.rank.patterns = try patterns(value, key, rank)
            case "alpha_pattern": scaling.alpha.patterns = try patterns(value, key, alpha)
            default: break
            }
        }
        return scaling
    }

    private func refuseWhatIsNotRead() throws(ModelError) {
        var seen: Set<String> = []
        for (key, value) in members {
            guard seen.insert(key).inserted else { throw invalid(key, "is there twice") }
            switch Self.uses[key] {
            case .read?:
                if key == "peft_type", value != .string("LORA"), !value.isEmpty {
                    throw unsupported(
                        key, value, "only LORA is read; merge other adapters with PEFT's merge_and_unload")
                }
                if key == "init_lora_weights" { try checkInitialization(value) }
            case .harmless?: break
            case .refused(let remedy)?:
                if !value.isEmpty, !(key == "bias" && value == .string("none")) {
                    throw unsupported(key, value, remedy)
                }
            case nil:
                if !value.isEmpty {
                    throw unsupported(
                        key, value, "the entry is not known here and may change what the adapter does; remove it if not"
                    )
                }
            }
        }
    }

    private func checkInitialization(_ value: OrderedJSON) throws(ModelError) {
        switch value {
        case .null, .bool: return
        case .string(let name) where Self.harmlessInitializations.contains(name.lowercased()): return
        default:
            throw unsupported(
                "init_lora_weights", value,
                "such an adapter belongs to a changed base model; save it with "
                    + "save_pretrained(..., path_initial_model_for_weight_conversion=...), which makes plain LoRA of it"
            )
        }
    }

    private func rank(_ value: OrderedJSON, _ key: String) throws(ModelError) -> Double {
        guard case .number(let number) = value, number == number.rounded(),
            (1...Double(ConfigurationFile.largestSize)).contains(number)
        else {
            throw invalid(key, "is \(shown(value)), expected a whole number of 1 to \(ConfigurationFile.largestSize)")
        }
        return number
    }

    private func alpha(_ value: OrderedJSON, _ key: String) throws(ModelError) -> Double {
        guard case .number(let number) = value, LoRAAdapter.alphas.contains(number) else {
            throw invalid(
                key, "is \(shown(value)), expected a number above 0 and at most \(ConfigurationFile.largestSize)")
        }
        return number
    }

    private func flag(_ value: OrderedJSON, _ key: String) throws(ModelError) -> Bool {
        switch value {
        case .null: return false
        case .bool(let flag): return flag
        default: throw invalid(key, "is \(shown(value)), expected true or false")
        }
    }

    private func patterns(
        _ value: OrderedJSON, _ key: String, _ read: (OrderedJSON, String) throws(ModelError) -> Double
    ) throws(ModelError) -> [(text: String, pattern: LayerPattern, value: Double)] {
        if value == .null { return [] }
        guard let members = value.members else { throw invalid(key, "is \(shown(value)), expected an object") }
        var patterns: [(text: String, pattern: LayerPattern, value: Double)] = []
        for (text, value) in members {
            let number = try read(value, "\(key).\(text)")
            guard let pattern = LayerPattern(text) else {
                throw unsupported(
                    key, .string(text),
                    "the expression holds more than text, ., classes, groups, |, *, + and ?; "
                        + "write the layers' names instead")
            }
            patterns.append((text, pattern, number))
        }
        return patterns
    }

    private func invalid(_ key: String, _ message: String) -> ModelError {
        ModelError(code: .configuration, source: source, message: "entry \"\(prefix)\(key)\" \(message)")
    }

    private func unsupported(_ key: String, _ value: OrderedJSON, _ remedy: String) -> ModelError {
        ModelError(
            code: .unsupported, source: source, message: "\(prefix)\(key) \(shown(value)) is not supported; \(remedy)")
    }

    /// A value as an error shows it: short.
    private func shown(_ value: OrderedJSON) -> String {
        switch value {
        case .null: "null"
        case .bool(let flag): "\(flag)"
        case .number(let number): number == number.rounded() && abs(number) < 1e15 ? "\(Int(number))" : "\(number)"
        case .string(let text): "\"\(text.prefix(60))\""
        case .array(let elements): "of \(elements.count) elements"
        case .object(let members): "with \(members.count) entries"
        }
    }
}

extension LoRAEntries {
    /// The entries of an `adapter_config.json`.
    ///
    /// - Throws: `configuration` when it is not JSON.
    init(path: String) throws(ModelError) {
        guard let members = OrderedJSON(try Files<ModelError>.readText(path, byteLimit: 1 << 24))?.members else {
            throw ModelError(
                code: .configuration, source: path, message: "is not a JSON object; save the adapter again")
        }
        self.init(source: path, prefix: "", members: members)
    }

    /// The entries for the transformer in the header of a diffusers file: `lora_adapter_metadata`, or entries of the header itself, as
    /// some trainers write them (`transformer.lora_alpha` or `lora_alpha`, values as text); nil when there are none.
    ///
    /// - Throws: `configuration` when they are not JSON, or give no alpha.
    init?(header: [String: String], source: String) throws(ModelError) {
        if let text = header["lora_adapter_metadata"], !text.isEmpty {
            guard let all = OrderedJSON(Array(text.utf8))?.members else {
                throw ModelError(
                    code: .configuration, source: source, message: "lora_adapter_metadata is not a JSON object")
            }
            for prefix in ["transformer.", "base_model.model."] {
                let members = all.filter { $0.key.hasPrefix(prefix) }
                    .map { (key: String($0.key.dropFirst(prefix.count)), value: $0.value) }
                if !members.isEmpty {
                    self.init(source: source, prefix: prefix, members: members)
                    return
                }
            }
            throw ModelError(
                code: .configuration, source: source,
                message: "lora_adapter_metadata has no entry of the transformer (transformer.r, transformer.lora_alpha)"
            )
        }
        for prefix in ["transformer.", ""] {
            let members = header.sorted { $0.key < $1.key }.filter { $0.key.hasPrefix(prefix) }
                .map { (key: String($0.key.dropFirst(prefix.count)), value: Self.parsed($0.value)) }
                .filter { Self.isKnown($0.key) }
            let keys = members.map(\.key)
            if keys.contains("lora_alpha"), keys.contains("r") {
                self.init(source: source, prefix: prefix, members: members)
                return
            }
            let strength = ["lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"]
            if let half = members.first(where: { strength.contains($0.key) && !$0.value.isEmpty }) {
                throw ModelError(
                    code: .configuration, source: source,
                    message: "the header has \(prefix)\(half.key) without both \(prefix)r and \(prefix)lora_alpha, "
                        + "so the adapter's scale is not known; add them")
            }
        }
        return nil
    }

    /// A header's text as the value it stands for: JSON, Python's words, or text.
    private static func parsed(_ text: String) -> OrderedJSON {
        switch text {
        case "True": .bool(true)
        case "False": .bool(false)
        case "None": .null
        default: OrderedJSON(Array(text.utf8)) ?? .string(text)
        }
    }
}
