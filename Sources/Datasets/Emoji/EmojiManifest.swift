internal import Platform

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// What a finished data set was made from and consists of; written last, as `manifest.json`.
struct EmojiManifest: Codable, Equatable {
    static let fileName = "manifest.json"
    /// Raised when the same font and options begin to give other files.
    static let currentFormat = 2

    var format = currentFormat
    /// `fingerprint` of the font file.
    var fontPrint: String
    var size: Int
    var referenceCount: Int
    var emojiCount: Int
    /// Length of every other file of the folder, by its name within.
    var files: [String: Int]

    /// Reads a folder's manifest; nil when there is none, or not one of ours.
    init?(folder: String) {
        guard let bytes = try? FileAccess.read("\(folder)/\(Self.fileName)", byteLimit: 1 << 24),
            let manifest = try? JSONDecoder().decode(Self.self, from: Data(bytes))
        else { return nil }
        self = manifest
    }

    init(fontPrint: String, size: Int, referenceCount: Int, emojiCount: Int, files: [String: Int]) {
        self.fontPrint = fontPrint
        self.size = size
        self.referenceCount = referenceCount
        self.emojiCount = emojiCount
        self.files = files
    }

    /// The JSON form.
    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return Array(try encoder.encode(self))
    }

    /// Whether `folder` holds everything listed here, and it was made from this font with these options.
    func isComplete(in folder: String, fontPrint: String, size: Int, referenceCount: Int) -> Bool {
        format == Self.currentFormat && self.fontPrint == fontPrint && self.size == size
            && self.referenceCount == referenceCount && !files.isEmpty
            && files.allSatisfy { FileAccess.byteCount(of: "\(folder)/\($0.key)") == $0.value }
    }
}
