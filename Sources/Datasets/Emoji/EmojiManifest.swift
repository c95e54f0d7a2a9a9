internal import Platform

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// What a finished data set was made from and consists of; written last, as `manifest.json`.
struct EmojiManifest: Codable, Equatable {
    /// What the images and lists follow from.
    struct Source: Codable, Equatable {
        var style: String
        /// `fingerprint` of the font file that names the emoji.
        var fontPrint: String
        /// `fingerprint` of the pictures.
        var picturesPrint: String
        var size: Int
        var referenceCount: Int
    }

    static let fileName = "manifest.json"
    /// Raised when the same source begins to give other files.
    static let currentFormat = 3

    var format = currentFormat
    /// What the set was made from, and how.
    var source: Source
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

    init(source: Source, emojiCount: Int, files: [String: Int]) {
        self.source = source
        self.emojiCount = emojiCount
        self.files = files
    }

    /// The JSON form.
    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return Array(try encoder.encode(self))
    }

    /// Whether `folder` holds everything listed here, and it was made from this.
    func isComplete(in folder: String, from source: Source) -> Bool {
        format == Self.currentFormat && self.source == source && !files.isEmpty
            && files.allSatisfy { FileAccess.byteCount(of: "\(folder)/\($0.key)") == $0.value }
    }
}
