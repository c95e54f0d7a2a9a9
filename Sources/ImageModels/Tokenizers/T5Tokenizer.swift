import Foundation
public import NeuralNetworks

/// T5's unigram tokenizer, from `tokenizer.json` or `spiece.model`.
///
/// Special tokens are taken out of the raw text; the rest is normalised by the file's rules and cut at white space; each
/// word, marked with a leading `▁`, is segmented by the unigram model; `</s>` ends the sequence.
///
/// - Source: transformers models/t5/tokenization_t5.py over huggingface/tokenizers. Differences: none known.
public struct T5Tokenizer: Sendable {
    /// Last token of every sequence.
    public let endTokenID: Int32
    /// Fills a sequence up to its length.
    public let padTokenID: Int32
    /// Largest token that a text can give; a model must know it.
    public var largestTokenID: Int32 { special.reduce(model.largestID) { max($0, $1.id) } }
    private let special: [(text: [Unicode.Scalar], id: Int32)]
    private let normalization: [Normalization]
    private let cuts: [Cut]
    private let model: UnigramModel

    private enum Normalization {
        case characterMap(PrecompiledCharacterMap)
        case strip(left: Bool, right: Bool)
        /// Two or more blanks become `with`.
        case collapseBlanks(with: String)
    }

    private enum Cut {
        case whitespace
        /// `▁` for blanks and at the beginning; a word starts at each.
        case mark(Unicode.Scalar, isAlwaysPrepended: Bool)
    }

    /// Loads a folder with `tokenizer.json` or, where there is none, `spiece.model`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(folder: String) throws(ModelError) {
        let path = folder + "/tokenizer.json"
        if FileManager.default.fileExists(atPath: path) {
            try self.init(tokenizerFile: path)
        } else {
            try self.init(sentencePieceFile: folder + "/spiece.model")
        }
    }

    /// The pieces, then the sentinels in descending order; T5's own cuts, which the file does not hold.
    private init(sentencePieceFile path: String) throws(ModelError) {
        let file = try SentencePieceFile(path: path)
        let sentinels = (0..<100).reversed().map { (text: "<extra_id_\($0)>", score: 0.0) }
        let pieces = file.pieces + sentinels
        let model = UnigramModel(pieces: pieces, unknownID: file.unknownID)
        guard let end = model.id("</s>"), let pad = model.id("<pad>") else {
            throw ModelError(code: .configuration, source: path, message: "has no </s> or no <pad>")
        }
        let written = ["<pad>", "</s>", pieces[Int(file.unknownID)].text] + sentinels.map(\.text)
        special = written.compactMap { text in model.id(text).map { (Array(text.unicodeScalars), $0) } }
            .sorted { $0.text.count > $1.text.count }
        normalization = file.characterMap.map { [.characterMap($0)] } ?? []
        cuts = [.whitespace, .mark("\u{2581}", isAlwaysPrepended: true)]
        self.model = model
        endTokenID = end
        padTokenID = pad
    }

    private init(tokenizerFile path: String) throws(ModelError) {
        let file = try ConfigurationFile.read(TokenizerFile.self, path: path)
        guard file.model.type ?? "Unigram" == "Unigram", let pieces = file.model.vocab, let unknown = file.model.unk_id
        else {
            throw ModelError(code: .unsupported, source: path, message: "is not a Unigram model with an unknown token")
        }
        guard pieces.indices.contains(Int(unknown)), file.added_tokens.allSatisfy({ $0.id >= 0 }),
            pieces.allSatisfy({ $0.score.isFinite })
        else {
            throw ModelError(
                code: .configuration, source: path,
                message:
                    "has unk_id \(unknown) beyond its \(pieces.count) pieces, an added token with an id below 0, or a score that "
                    + "is not finite")
        }
        model = UnigramModel(pieces: pieces.map { ($0.text, $0.score) }, unknownID: unknown)
        // An empty token would be found everywhere; the reference library ignores it too.
        special = file.added_tokens.filter { !$0.content.isEmpty }.map { (Array($0.content.unicodeScalars), $0.id) }
            .sorted { $0.text.count > $1.text.count }
        normalization = try T5Tokenizer.flattened(file.normalizer) { $0.normalizers }
            .map { step throws(ModelError) in try T5Tokenizer.normalization(step, path: path) }
        cuts = try T5Tokenizer.flattened(file.pre_tokenizer) { $0.pretokenizers }
            .map { step throws(ModelError) in try T5Tokenizer.cut(step, path: path) }
        let ids = Dictionary(file.added_tokens.map { ($0.content, $0.id) }) { first, _ in first }
        guard let end = ids["</s>"] ?? model.id("</s>"), let pad = ids["<pad>"] ?? model.id("<pad>") else {
            throw ModelError(code: .configuration, source: path, message: "has no </s> or no <pad>")
        }
        endTokenID = end
        padTokenID = pad
    }

    /// Token ids of a text and the end token, neither padded nor cut.
    public func tokens(_ text: String) -> [Int32] { content(text) + [endTokenID] }

    /// Token ids and the end token, cut and padded to `length`.
    public func padded(_ text: String, length: Int) -> [Int32] {
        precondition(length >= 1, "T5Tokenizer: length \(length)")
        let ids = content(text).prefix(length - 1) + [endTokenID]
        return ids + [Int32](repeating: padTokenID, count: length - ids.count)
    }

    private func content(_ text: String) -> [Int32] {
        var ids: [Int32] = []
        var segment = ""
        var position = 0
        let scalars = Array(text.unicodeScalars)
        func flush() {
            for word in words(segment) { ids += model.encode(word) }
            segment = ""
        }
        while position < scalars.count {
            if let token = special.first(where: { scalars[position...].starts(with: $0.text) }) {
                flush()
                ids.append(token.id)
                position += token.text.count
            } else {
                segment.unicodeScalars.append(scalars[position])
                position += 1
            }
        }
        flush()
        return ids
    }

    private func words(_ segment: String) -> [String] {
        let normalized = normalization.reduce(segment) { text, step in
            switch step {
            case .characterMap(let map): return map(text)
            case .strip(let left, let right): return stripped(text, left: left, right: right)
            case .collapseBlanks(let replacement): return collapsed(text, with: replacement)
            }
        }
        return cuts.reduce(normalized.isEmpty ? [] : [normalized]) { words, cut in
            switch cut {
            case .whitespace:
                return words.flatMap { word in
                    word.unicodeScalars.split(whereSeparator: \.properties.isWhitespace).map { String($0) }
                }
            case .mark(let mark, let isAlwaysPrepended):
                return words.enumerated().flatMap { number, word in
                    marked(word, mark, isPrepended: isAlwaysPrepended || number == 0)
                }
            }
        }
    }

    private func marked(_ word: String, _ mark: Unicode.Scalar, isPrepended: Bool) -> [String] {
        var scalars = word.unicodeScalars.map { $0 == " " ? mark : $0 }
        if isPrepended, scalars.first != mark { scalars.insert(mark, at: 0) }
        var parts: [String] = []
        for scalar in scalars {
            if scalar == mark || parts.isEmpty { parts.append("") }
            parts[parts.count - 1].unicodeScalars.append(scalar)
        }
        return parts
    }

    private func stripped(_ text: String, left: Bool, right: Bool) -> String {
        var scalars = text.unicodeScalars[...]
        while left, let first = scalars.first, first.properties.isWhitespace { scalars.removeFirst() }
        while right, let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
        return String(scalars)
    }

    private func collapsed(_ text: String, with replacement: String) -> String {
        var result = ""
        var blanks = 0
        func flush() {
            result += blanks > 1 ? replacement : blanks == 1 ? " " : ""
            blanks = 0
        }
        for scalar in text.unicodeScalars {
            if scalar == " " {
                blanks += 1
            } else {
                flush()
                result.unicodeScalars.append(scalar)
            }
        }
        flush()
        return result
    }

    private static func flattened(
        _ step: TokenizerFile.Step?, _ children: (TokenizerFile.Step) -> [TokenizerFile.Step]?
    ) -> [TokenizerFile.Step] {
        guard let step else { return [] }
        return step.type == "Sequence" ? children(step) ?? [] : [step]
    }

    private static func normalization(
        _ step: TokenizerFile.Step, path: String
    ) throws(ModelError) -> Normalization {
        switch step.type {
        case "Precompiled":
            guard let map = step.precompiled_charsmap.flatMap(PrecompiledCharacterMap.init(base64:)) else {
                throw ModelError(
                    code: .configuration, source: path, message: "precompiled_charsmap is not a character map")
            }
            return .characterMap(map)
        case "Strip": return .strip(left: step.strip_left ?? true, right: step.strip_right ?? true)
        case "Replace" where step.pattern?.Regex == " {2,}": return .collapseBlanks(with: step.content ?? "")
        default: throw ModelError(code: .unsupported, source: path, message: "normalizer \(step.type) is not supported")
        }
    }

    private static func cut(_ step: TokenizerFile.Step, path: String) throws(ModelError) -> Cut {
        switch step.type {
        case "WhitespaceSplit": return .whitespace
        case "Metaspace":
            let scheme = step.prepend_scheme ?? "always"
            guard let mark = step.replacement?.unicodeScalars.first, ["always", "first"].contains(scheme),
                step.split ?? true
            else {
                throw ModelError(code: .unsupported, source: path, message: "Metaspace \(scheme) is not supported")
            }
            return .mark(mark, isAlwaysPrepended: scheme == "always")
        default:
            throw ModelError(code: .unsupported, source: path, message: "pre-tokenizer \(step.type) is not supported")
        }
    }
}

/// The entries of a `tokenizer.json` that T5 uses.
private struct TokenizerFile: Decodable {
    struct AddedToken: Decodable {
        var id: Int32
        var content: String
    }
    struct Step: Decodable {
        struct Pattern: Decodable { var Regex: String? }
        var type: String
        var normalizers: [Step]?, pretokenizers: [Step]?
        var precompiled_charsmap: String?, content: String?, replacement: String?, prepend_scheme: String?
        var pattern: Pattern?
        var strip_left: Bool?, strip_right: Bool?, split: Bool?
    }
    /// `[text, log-probability]`.
    struct Piece: Decodable {
        let text: String
        let score: Double

        init(from decoder: any Decoder) throws {
            var pair = try decoder.unkeyedContainer()
            text = try pair.decode(String.self)
            score = try pair.decode(Double.self)
        }
    }
    struct Model: Decodable {
        var type: String?
        var unk_id: Int32?
        var vocab: [Piece]?
    }
    var added_tokens: [AddedToken]
    var normalizer: Step?
    var pre_tokenizer: Step?
    var model: Model
}
