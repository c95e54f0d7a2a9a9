public import NeuralNetworks

/// SigLIP's tokenizer, from `spiece.model`.
///
/// Text is lower-cased, loses ASCII punctuation and keeps single blanks; SentencePiece's rules normalise its characters; each word,
/// marked with a leading `▁`, is segmented by the unigram model; `</s>` ends the sequence and fills it up.
///
/// - Source: transformers models/siglip/tokenization_siglip.py over google/sentencepiece. Differences: `</s>` and `<unk>` written
///   in a text are words like others.
public struct SiglipTokenizer: Sendable {
    /// Last token of every sequence, which also fills it up.
    public let endTokenID: Int32
    private let model: UnigramModel
    private let characterMap: PrecompiledCharacterMap?

    /// Loads a folder with `spiece.model`.
    ///
    /// - Throws: `configuration`, `unsupported`.
    public init(folder: String) throws(ModelError) {
        let path = folder + "/spiece.model"
        let file = try SentencePieceFile(path: path)
        model = UnigramModel(pieces: file.pieces, unknownID: file.unknownID)
        characterMap = file.characterMap
        guard let end = model.id("</s>") else {
            throw ModelError(code: .configuration, source: path, message: "has no </s>")
        }
        endTokenID = end
    }

    /// Token ids of a text and the end token, neither padded nor cut.
    public func tokens(_ text: String) -> [Int32] { content(text) + [endTokenID] }

    /// Token ids and the end token, cut and padded to `length`.
    public func padded(_ text: String, length: Int) -> [Int32] {
        precondition(length >= 1, "SiglipTokenizer: length \(length)")
        let ids = content(text).prefix(length - 1)
        return ids + [Int32](repeating: endTokenID, count: length - ids.count)
    }

    private func content(_ text: String) -> [Int32] {
        // As the reference: a mark before the text, marks in it are blanks. Most files' rules make a blank of a mark; the one at the
        // beginning stays a mark, because the reference normalises something before it.
        let canonical = canonicalized([mark] + text.unicodeScalars.map { $0 == mark ? " " : $0 })
        let mapped = (characterMap?(canonical) ?? canonical).unicodeScalars
        let beginning = mapped.first?.properties.isWhitespace == true ? [mark] : []
        let normalized = beginning + canonicalBlanks(mapped)
        var words: [String] = []
        for scalar in normalized.map({ $0 == " " ? mark : $0 }) {
            if scalar == mark || words.isEmpty { words.append("") }
            words[words.count - 1].unicodeScalars.append(scalar)
        }
        // SentencePiece drops blanks at the end, which marks are by now.
        while words.last == String(mark) { words.removeLast() }
        return words.flatMap(model.encode)
    }

    /// `canonicalize_text`: lower case, no ASCII punctuation, single blanks, none at the ends.
    private func canonicalized(_ scalars: [Unicode.Scalar]) -> String {
        let kept = scalars.flatMap { Array($0.properties.lowercaseMapping.unicodeScalars) }.filter { scalar in
            !(scalar.isASCII && (33...126).contains(scalar.value)) || scalar.properties.isAlphabetic
                || scalar.properties.numericType != nil
        }
        var text = ""
        text.unicodeScalars.append(contentsOf: canonicalBlanks(kept))
        return text
    }

    /// White space as single blanks, none at the ends.
    private func canonicalBlanks(_ scalars: some Sequence<Unicode.Scalar>) -> [Unicode.Scalar] {
        Array(Array(scalars).split(whereSeparator: \.properties.isWhitespace).joined(separator: [" "]))
    }
}

/// SentencePiece's mark of a word's beginning.
private let mark: Unicode.Scalar = "\u{2581}"
