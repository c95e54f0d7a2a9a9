/// SentencePiece's unigram model: the segmentation with the largest sum of log-probabilities.
///
/// - Source: huggingface/tokenizers models/unigram/model.rs, `encode_optimized`. Differences: none.
struct UnigramModel: Sendable {
    private struct Entry {
        let id: Int32
        let score: Double
    }
    private let entries: [[UInt8]: Entry]
    private let longest: Int
    private let unknownID: Int32
    private let unknownScore: Double

    /// - Parameter pieces: text and log-probability; the position is the id.
    init(pieces: [(text: String, score: Double)], unknownID: Int32) {
        entries = Dictionary(
            pieces.enumerated().map {
                (Array($0.element.text.utf8), Entry(id: Int32($0.offset), score: $0.element.score))
            }
        ) { _, last in last }
        longest = entries.keys.reduce(0) { max($0, $1.count) }
        self.unknownID = unknownID
        largestID = Int32(pieces.count - 1)
        // A character without a piece costs ten more than the rarest piece.
        unknownScore = (pieces.map(\.score).min() ?? 0) - 10
    }

    /// The last piece's id.
    let largestID: Int32

    /// The id of a piece.
    func id(_ text: String) -> Int32? { entries[Array(text.utf8)]?.id }

    /// Ids of the best segmentation; neighbouring unknown characters become one unknown token.
    func encode(_ text: String) -> [Int32] {
        let bytes = Array(text.utf8)
        var best = [(start: Int, id: Int32, score: Double)?](repeating: nil, count: bytes.count + 1)
        var start = 0
        for scalar in text.unicodeScalars {
            let characterLength = UTF8.width(scalar)
            let scoreHere = start == 0 ? 0 : best[start]?.score ?? 0
            var hasSingle = false
            func offer(_ end: Int, _ id: Int32, _ score: Double) {
                if let present = best[end], score <= present.score { return }
                best[end] = (start, id, score)
            }
            for length in stride(from: 1, through: min(longest, bytes.count - start), by: 1) {
                guard let entry = entries[Array(bytes[start..<start + length])] else { continue }
                offer(start + length, entry.id, entry.score + scoreHere)
                if length == characterLength { hasSingle = true }
            }
            if !hasSingle { offer(start + characterLength, unknownID, unknownScore + scoreHere) }
            start += characterLength
        }
        var ids: [Int32] = []
        var end = bytes.count
        while end > 0, let node = best[end] {
            if !(node.id == unknownID && ids.last == unknownID) { ids.append(node.id) }
            end = node.start
        }
        return ids.reversed()
    }
}
