import NeuralNetworks

/// Tokens and merges of a CLIP tokenizer, from `tokenizer.json` where a folder has one, as transformers 5 does, else from `vocab.json`
/// and `merges.txt`.
///
/// - Source: transformers tokenization_utils_tokenizers.py, `convert_to_native_format`: vocabulary, merges and added tokens are the
///   file's, normalisation and cuts are CLIP's own. Differences: files that describe others are refused.
struct CLIPVocabulary {
    /// The file that holds the tokens.
    let path: String
    /// Ids by text.
    private(set) var ids: [String: Int32]
    /// Pairs of tokens, the first merged first.
    let merges: [(left: Substring, right: Substring)]
    /// Where the merges stand.
    let mergesPath: String
    /// Tokens that are taken out of the raw text whatever `tokenizer_config.json` says.
    private(set) var added: [String] = []

    /// - Throws: `configuration`, `unsupported`, naming the file.
    init(folder: String) throws(ModelError) {
        let whole = folder + "/tokenizer.json"
        if ConfigurationFile.exists(whole) {
            let file = try ConfigurationFile.read(TokenizerFile.self, path: whole)
            (path, mergesPath) = (whole, whole)
            try file.requireCLIP(path: whole)
            ids = file.model.vocab ?? [:]
            merges = try file.model.pairs(path: whole)
            try add(file.added_tokens ?? [])
        } else {
            path = folder + "/vocab.json"
            mergesPath = folder + "/merges.txt"
            ids = try ConfigurationFile.read([String: Int32].self, path: path)
            merges = try Self.pairs(path: mergesPath)
        }
        if let (token, id) = ids.first(where: { $0.value < 0 }) {
            throw ModelError(
                code: .configuration, source: path,
                message: "token \"\(ConfigurationFile.abbreviated(token))\" has the id \(id), which is below 0")
        }
    }

    private mutating func add(_ tokens: [TokenizerFile.AddedToken]) throws(ModelError) {
        for token in tokens where !token.content.isEmpty {
            let name = "added token \"\(ConfigurationFile.abbreviated(token.content))\""
            let next = (ids.values.max() ?? -1).addingReportingOverflow(1).partialValue
            guard ids[token.content] ?? next == token.id else {
                throw ModelError(
                    code: .configuration, source: path, message: "\(name) has the id \(token.id), which is not its own")
            }
            if ids[token.content] == nil || token.special != true {
                // The library finds such tokens in the normalised text, or only between certain neighbours.
                for (key, value) in [
                    ("normalized", token.normalized), ("lstrip", token.lstrip), ("rstrip", token.rstrip),
                    ("single_word", token.single_word),
                ] where value == true {
                    throw ModelError(
                        code: .unsupported, source: path, message: "\(name) with \(key) true is not supported")
                }
            }
            ids[token.content] = token.id
            added.append(token.content)
        }
    }

    /// The pairs of `merges.txt`. Lines end at LF, CR or CR LF; the first one may state a version.
    private static func pairs(path: String) throws(ModelError) -> [(left: Substring, right: Substring)] {
        let text = try ConfigurationFile.text(path: path)
        var pairs: [(left: Substring, right: Substring)] = []
        // Bytes, because CR LF is one `Character`.
        let lines = text.utf8.split { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }
        for (number, line) in lines.enumerated() {
            let line = Substring(line)
            if number == 0, line.hasPrefix("#version") { continue }
            pairs.append(try pair(line, number: number + 1, path: path))
        }
        return pairs
    }

    /// The two tokens of a line.
    fileprivate static func pair(
        _ line: Substring, number: Int, path: String
    ) throws(ModelError) -> (left: Substring, right: Substring) {
        let parts = line.utf8.split(separator: UInt8(ascii: " ")).map { Substring($0) }
        guard parts.count == 2 else {
            throw ModelError(
                code: .configuration, source: path,
                message: "merge \(number), \"\(ConfigurationFile.abbreviated(String(line)))\", is not a pair of tokens")
        }
        return (parts[0], parts[1])
    }
}

/// The entries of a `tokenizer.json` that CLIP uses.
private struct TokenizerFile: Decodable {
    struct AddedToken: Decodable {
        var id: Int32
        var content: String
        var special: Bool?, normalized: Bool?, lstrip: Bool?, rstrip: Bool?, single_word: Bool?
    }
    struct Step: Decodable {
        struct Pattern: Decodable { var Regex: String? }
        var type: String
        var normalizers: [Step]?, pretokenizers: [Step]?
        var pattern: Pattern?
        var add_prefix_space: Bool?

        /// The steps of a sequence, or the step itself.
        var parts: [Step] { normalizers ?? pretokenizers ?? [self] }
    }
    /// "left right", or as a list of two since tokenizers 0.20.
    enum Merge: Decodable {
        case line(String)
        case pair([String])

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let line = try? container.decode(String.self) {
                self = .line(line)
            } else {
                self = .pair(try container.decode([String].self))
            }
        }
    }
    struct Model: Decodable {
        var type: String?
        var vocab: [String: Int32]?
        var merges: [Merge]?
        var end_of_word_suffix: String?, continuing_subword_prefix: String?
        var dropout: Double?
        var byte_fallback: Bool?, ignore_merges: Bool?

        private enum CodingKeys: String, CodingKey {
            case type, vocab, merges, end_of_word_suffix, continuing_subword_prefix, dropout, byte_fallback,
                ignore_merges
        }

        /// Leaves out the vocabulary of other kinds of models, which is no object, so that they are refused by their kind.
        init(from decoder: any Decoder) throws {
            let values = try decoder.container(keyedBy: CodingKeys.self)
            type = try values.decodeIfPresent(String.self, forKey: .type)
            guard type ?? "BPE" == "BPE" else { return }
            vocab = try values.decode([String: Int32].self, forKey: .vocab)
            merges = try values.decode([Merge].self, forKey: .merges)
            end_of_word_suffix = try values.decodeIfPresent(String.self, forKey: .end_of_word_suffix)
            continuing_subword_prefix = try values.decodeIfPresent(String.self, forKey: .continuing_subword_prefix)
            dropout = try values.decodeIfPresent(Double.self, forKey: .dropout)
            byte_fallback = try values.decodeIfPresent(Bool.self, forKey: .byte_fallback)
            ignore_merges = try values.decodeIfPresent(Bool.self, forKey: .ignore_merges)
        }

        func pairs(path: String) throws(ModelError) -> [(left: Substring, right: Substring)] {
            var pairs: [(left: Substring, right: Substring)] = []
            for (number, merge) in (merges ?? []).enumerated() {
                switch merge {
                case .line(let line): pairs.append(try CLIPVocabulary.pair(line[...], number: number + 1, path: path))
                case .pair(let pair) where pair.count == 2: pairs.append((pair[0][...], pair[1][...]))
                case .pair:
                    throw ModelError(
                        code: .configuration, source: path, message: "merge \(number + 1) is not a pair of tokens")
                }
            }
            return pairs
        }
    }
    var model: Model
    var added_tokens: [AddedToken]?
    var normalizer: Step?
    var pre_tokenizer: Step?

    /// - Throws: `unsupported` unless the file describes the tokenizer of the CLIP models.
    func requireCLIP(path: String) throws(ModelError) {
        try ConfigurationFile.requireSupported(
            [
                "model.type": (model.type, ["BPE"]),
                "model.end_of_word_suffix": (model.end_of_word_suffix ?? "none", ["</w>"]),
                "model.continuing_subword_prefix": (model.continuing_subword_prefix, [""]),
            ], path: path)
        try ConfigurationFile.requireSupported(["model.dropout": (model.dropout, [0])], path: path)
        try ConfigurationFile.requireSupported(
            [
                "model.byte_fallback": (model.byte_fallback, [false]),
                "model.ignore_merges": (model.ignore_merges, [false]),
            ], path: path)
        let normalizers = normalizer?.parts.map(\.type) ?? []
        let cuts = pre_tokenizer?.parts ?? []
        try ConfigurationFile.requireSupported(
            [
                "normalizer": (normalizers, [["NFC", "Replace", "Lowercase"]]),
                "pre_tokenizer": (cuts.map(\.type), [["Split", "ByteLevel"]]),
            ], path: path)
        try ConfigurationFile.requireSupported(
            ["the pre_tokenizer's pattern": (cuts.first?.pattern?.Regex, Self.patterns)], path: path)
        try ConfigurationFile.requireSupported(
            ["the pre_tokenizer's add_prefix_space": (cuts.last?.add_prefix_space, [false])], path: path)
    }

    private static let patterns = [
        #"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#,
        #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#,
    ]
}
