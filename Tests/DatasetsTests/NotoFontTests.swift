import Foundation
import Raster
import TestSupport
import Testing

@testable import Datasets

/// The whole data set from the installed font. The font is required: `make test` installs it.
@Suite("EmojiDataset from the installed Noto Color Emoji")
struct NotoFontTests {
    private struct Expected: Codable {
        var font: String
        var emojiCount: Int
        var captions: String
        var references: String
        var train: String
        var test: String
        var plainPixels: String
    }

    private func filePrint(_ path: String) throws -> String {
        fingerprint(try Data(contentsOf: URL(filePath: path)))
    }

    @Test("lists and all plain pixels equal the reference script's", .optimized, .timeLimit(.minutes(10)))
    func wholeFont() throws {
        #expect(
            FileManager.default.fileExists(atPath: EmojiFont.defaultPath),
            "\(EmojiFont.defaultPath) is missing: apt-get install fonts-noto-color-emoji")
        let expected = try JSONDecoder().decode(Expected.self, from: Data(Fixtures.text("noto.json").utf8))
        try withTemporaryFolder { folder in
            let output = folder + "/emoji"
            let summary = try EmojiDataset.prepare(options: .init(output: output, referenceCount: 1))
            guard try filePrint(EmojiFont.defaultPath) == expected.font else {
                // Another release of the font draws other pictures; the fixtures are Debian 12's.
                #expect(summary.captionCount >= 1300)
                return
            }
            #expect(summary.captionCount == expected.emojiCount)
            #expect(try filePrint(output + "/captions.json") == expected.captions)
            #expect(try filePrint(output + "/train.txt") == expected.train)
            #expect(try filePrint(output + "/test.txt") == expected.test)
            let emoji = try EmojiDataset.Source(.init(output: output)).emoji
            #expect(fingerprint(EmojiLists.references(emoji, count: 4).utf8) == expected.references)
            let images = try emoji.map { try RGBImage(path: output + "/images/" + $0.plainFile).pixels }
            #expect(fingerprint(images.joined()) == expected.plainPixels)
        }
    }

    @Test(
        "fingerprints are FNV-1a, by its published values",
        arguments: [("", "cbf29ce484222325"), ("a", "af63dc4c8601ec8c"), ("foobar", "85944171f73967e8")])
    func fingerprints(text: String, expected: String) {
        #expect(fingerprint(text.utf8) == expected)
    }
}
