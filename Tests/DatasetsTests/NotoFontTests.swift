import Crypto
import Foundation
import Raster
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

    private func digest(_ bytes: some DataProtocol) -> String {
        SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
    }

    @Test("lists and all plain pixels equal the reference script's", .timeLimit(.minutes(10)))
    func wholeFont() throws {
        #expect(
            FileManager.default.fileExists(atPath: EmojiFont.defaultPath),
            "\(EmojiFont.defaultPath) is missing: apt-get install fonts-noto-color-emoji")
        let expected = try JSONDecoder().decode(Expected.self, from: Data(Fixtures.text("noto.json").utf8))
        try withTemporaryFolder { folder in
            let output = folder + "/emoji"
            let summary = try EmojiDataset.prepare(options: .init(output: output, referenceCount: 1))
            let captions = try Data(contentsOf: URL(filePath: output + "/captions.json"))
            let font = try Data(contentsOf: URL(filePath: EmojiFont.defaultPath))
            guard digest(font) == expected.font else {
                // Another release of the font draws other pictures; the fixtures are Debian 12's.
                #expect(summary.emojiCount >= 1300)
                return
            }
            #expect(summary.emojiCount == expected.emojiCount)
            #expect(digest(captions) == expected.captions)
            #expect(digest(try Data(contentsOf: URL(filePath: output + "/train.txt"))) == expected.train)
            #expect(digest(try Data(contentsOf: URL(filePath: output + "/test.txt"))) == expected.test)
            let emoji = EmojiDataset.emoji(of: try EmojiFont())
            #expect(digest(Data(EmojiLists.references(emoji, count: 4).utf8)) == expected.references)
            var pixels = SHA256()
            for emoji in emoji {
                pixels.update(data: try RGBImage(pngAt: output + "/images/" + emoji.plainFile).pixels)
            }
            #expect(pixels.finalize().map { String(format: "%02x", $0) }.joined() == expected.plainPixels)
        }
    }
}
