public import NeuralNetworks

/// CLIP's byte-pair encoding, from `tokenizer.json` or from `vocab.json` and `merges.txt`.
///
/// Text is composed (NFC), its white space collapsed and its letters lower-cased; it is cut into words, single digits and
/// runs of symbols; each piece becomes bytes, written as printable characters, whose last one carries `</w>`; then the
/// pair with the lowest rank is merged until none is left. Special tokens are taken out of the raw text first.
///
/// - Source: transformers models/clip/tokenization_clip.py over huggingface/tokenizers. Differences: none known.
public struct CLIPTokenizer: Sendable {
    /// Length of a padded sequence.
    public let maximumLength: Int
    /// First token of every sequence.
    public let startTokenID: Int32
    /// Last token of every sequence.
    public let endTokenID: Int32
    /// Fills a sequence up to its length.
    public let padTokenID: Int32
    /// Largest token of the vocabulary; a model must know it.
    public let largestTokenID: Int32
    private let unknownTokenID: Int32
    private let specialTokens: [(text: [Unicode.Scalar], id: Int32)]
    private let bytes: [(inside: Int32, atEnd: Int32)]
    private let merges: [UInt64: Merge]

    private struct Merge {
        let rank: Int
        let result: Int32
    }

    /// Loads a folder with `tokenizer.json`, or else `vocab.json` and `merges.txt`, with `tokenizer_config.json` and, where present,
    /// `special_tokens_map.json`.
    ///
    /// - Throws: `configuration`, `unsupported`, naming the file.
    public init(folder: String) throws(ModelError) {
        let vocabulary = try CLIPVocabulary(folder: folder)
        let settings = try TokenizerSettings(folder: folder)
        func id(_ token: String) throws(ModelError) -> Int32 {
            guard let id = vocabulary.ids[token] else {
                throw ModelError(
                    code: .configuration, source: vocabulary.path,
                    message: "has no entry for \(ConfigurationFile.abbreviated(token))")
            }
            return id
        }
        maximumLength = settings.maximumLength
        startTokenID = try id(settings.start)
        endTokenID = try id(settings.end)
        padTokenID = try id(settings.pad)
        largestTokenID = vocabulary.ids.values.max() ?? 0
        unknownTokenID = try id(settings.unknown)
        var special: [(text: [Unicode.Scalar], id: Int32)] = []
        let named = [settings.start, settings.end, settings.pad, settings.unknown] + vocabulary.added
        for token in Set(named).sorted() where !token.isEmpty {
            special.append((Array(token.unicodeScalars), try id(token)))
        }
        specialTokens = special.sorted { $0.text.count > $1.text.count }
        bytes = ByteAlphabet.characters.map { character in
            let text = String(Character(character))
            return (vocabulary.ids[text] ?? -1, vocabulary.ids[text + "</w>"] ?? -1)
        }
        merges = try CLIPTokenizer.ranked(vocabulary)
    }

    private static func ranked(_ vocabulary: CLIPVocabulary) throws(ModelError) -> [UInt64: Merge] {
        var merges: [UInt64: Merge] = [:]
        for (rank, tokens) in vocabulary.merges.enumerated() {
            guard let left = vocabulary.ids[String(tokens.left)], let right = vocabulary.ids[String(tokens.right)],
                let result = vocabulary.ids[String(tokens.left + tokens.right)]
            else {
                let line = ConfigurationFile.abbreviated("\(tokens.left) \(tokens.right)")
                throw ModelError(
                    code: .configuration, source: vocabulary.mergesPath,
                    message: "merge \(rank + 1), \"\(line)\", is not a pair of tokens of the vocabulary")
            }
            merges[pair(left, right)] = Merge(rank: rank, result: result)
        }
        return merges
    }

    /// Token ids of a text between start and end token, neither padded nor cut.
    public func tokens(_ text: String) -> [Int32] { [startTokenID] + content(text) + [endTokenID] }

    /// Token ids between start and end token, cut and padded to `length` (nil: `maximumLength`).
    public func padded(_ text: String, length: Int? = nil) -> [Int32] {
        let length = length ?? maximumLength
        precondition(length >= 2, "CLIPTokenizer: length \(length)")
        let ids = [startTokenID] + content(text).prefix(length - 2) + [endTokenID]
        return ids + [Int32](repeating: padTokenID, count: length - ids.count)
    }

    private func content(_ text: String) -> [Int32] {
        var ids: [Int32] = []
        var segment: [Unicode.Scalar] = []
        let scalars = Array(text.unicodeScalars)
        var position = 0
        func flush() {
            for piece in TextPieces.split(segment) { ids += encode(piece) }
            segment = []
        }
        while position < scalars.count {
            if let special = specialTokens.first(where: { scalars[position...].starts(with: $0.text) }) {
                flush()
                ids.append(special.id)
                position += special.text.count
            } else {
                segment.append(scalars[position])
                position += 1
            }
        }
        flush()
        return ids
    }

    /// Merges the bytes of one piece.
    private func encode(_ piece: [Unicode.Scalar]) -> [Int32] {
        var text = ""
        text.unicodeScalars.append(contentsOf: piece)
        let utf8 = Array(text.utf8)
        var symbols = utf8.enumerated().map {
            $0.offset == utf8.count - 1 ? bytes[Int($0.element)].atEnd : bytes[Int($0.element)].inside
        }
        while symbols.count > 1 {
            var best: (position: Int, merge: Merge)?
            for position in 0..<symbols.count - 1 {
                guard let merge = merges[CLIPTokenizer.pair(symbols[position], symbols[position + 1])] else { continue }
                if best.map({ merge.rank < $0.merge.rank }) ?? true { best = (position, merge) }
            }
            guard let best else { break }
            symbols[best.position] = best.merge.result
            symbols.remove(at: best.position + 1)
        }
        return symbols.map { $0 < 0 ? unknownTokenID : $0 }
    }

    private static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }
}

/// Names of the special tokens and the sequence length.
private struct TokenizerSettings {
    var start = "<|startoftext|>"
    var end = "<|endoftext|>"
    var unknown = "<|endoftext|>"
    var pad = "<|endoftext|>"
    var maximumLength = 77

    /// A token is written as a string or as an object with `content`.
    private struct Token: Decodable {
        let text: String

        init(from decoder: any Decoder) throws {
            if let text = try? decoder.singleValueContainer().decode(String.self) {
                self.text = text
            } else {
                text = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .content)
            }
        }

        enum CodingKeys: String, CodingKey { case content }
    }

    private struct File: Decodable {
        var bos_token: Token?, eos_token: Token?, unk_token: Token?, pad_token: Token?
        var model_max_length: Double?
    }

    init(folder: String) throws(ModelError) {
        var files = [try ConfigurationFile.read(File.self, path: folder + "/tokenizer_config.json")]
        let special = folder + "/special_tokens_map.json"
        if ConfigurationFile.exists(special) { files.append(try ConfigurationFile.read(File.self, path: special)) }
        for file in files {
            start = file.bos_token?.text ?? start
            end = file.eos_token?.text ?? end
            unknown = file.unk_token?.text ?? unknown
            pad = file.pad_token?.text ?? pad
            // Transformers writes 1e30 for no limit.
            guard let length = file.model_max_length, !(length >= 1e6) else { continue }
            try ConfigurationFile.requireNumbers(
                ["model_max_length": length], in: 2...1e6, path: folder + "/tokenizer_config.json")
            maximumLength = Int(length)
        }
    }
}
