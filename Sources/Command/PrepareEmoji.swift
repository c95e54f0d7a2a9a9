import ArgumentParser
import Datasets

/// `advgrpo prepare-emoji`: the default data set, from Debian's Noto colour emoji font.
struct PrepareEmoji: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare-emoji",
        abstract: "Make the default data set from the font of Debian's fonts-noto-color-emoji.")

    @Option(help: "The font.", transform: expandingHome)
    var font = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"

    @Option(
        help: "Folder for images, prompt2img.json, captions.json, train.txt, validation.txt and test.txt.",
        transform: expandingHome)
    var out = "data/emoji"

    @Option(help: "Side of the images, pixels.")
    var size = 64

    @Option(help: "Reference renderings of each emoji.")
    var references = 4

    func run() throws {
        let summary = try EmojiDataset.prepare(
            options: EmojiDataset.Options(font: font, output: out, size: size, referenceCount: references))
        print("\(summary.captionCount) captions, \(summary.referenceCount) references in \(out)")
    }
}
