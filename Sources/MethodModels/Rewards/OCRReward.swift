import AdvGRPO
import NeuralNetworks
import Raster
import TensorCore

/// Whether images show the text that their prompts have between double quotes, as Tesseract reads it.
///
/// - Source: Adv-GRPO `adv_grpo/ocr.py` `OcrScorer` (method.md 1.6), which reads with PaddleOCR.
extension OCRReward: FrozenRewardLoader {
    static func check(prompt: String) throws { _ = try WantedText(of: prompt) }

    static func load(_ sources: RewardSources) throws -> LoadedReward {
        let reader = try Tesseract(language: "eng")
        return LoadedReward { images, prompts, lanes in
            let wanted = try prompts.map { try WantedText(of: $0) }
            return try lanes.map(images.count) { wanted[$0].score(of: try reader.text(of: images[$0])) }
        }
    }
}

/// The text that an image is to show.
struct WantedText {
    private let text: [Unicode.Scalar]

    /// What stands between the first two double quotes of a prompt, or behind the only one.
    ///
    /// - Throws: `ModelError` for a prompt without any.
    init(of prompt: String) throws {
        let parts = prompt.split(separator: "\"", omittingEmptySubsequences: false)
        text = parts.count > 1 ? Self.compared(String(parts[1])) : []
        guard !text.isEmpty else {
            throw ModelError(
                code: .unsupported, source: "reward ocr",
                message:
                    "the prompt '\(prompt.prefix(80))' does not say what the image shows; write that text between double quotes"
            )
        }
    }

    /// 1 where the text is part of what was read; otherwise 1 - edit distance / length, at least 0.
    func score(of read: String) -> Float {
        let read = Self.compared(read)
        let distance = Self.contains(read, text) ? 0 : min(Self.editDistance(read, text), text.count)
        return 1 - Float(distance) / Float(text.count)
    }

    /// Case and spaces do not count.
    private static func compared(_ text: String) -> [Unicode.Scalar] {
        text.lowercased().unicodeScalars.filter { !$0.properties.isWhitespace }
    }

    private static func contains(_ whole: [Unicode.Scalar], _ part: [Unicode.Scalar]) -> Bool {
        whole.count >= part.count
            && (0...whole.count - part.count).contains { whole[$0..<$0 + part.count].elementsEqual(part) }
    }

    /// Levenshtein's: insertions, deletions and exchanges of a character.
    static func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                (diagonal, row[j + 1]) = (row[j + 1], min(row[j] + 1, row[j + 1] + 1, diagonal + (x == y ? 0 : 1)))
            }
        }
        return row[b.count]
    }
}
