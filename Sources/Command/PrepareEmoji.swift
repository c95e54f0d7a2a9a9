public import ArgumentParser
public import Datasets

extension EmojiStyle: ExpressibleByArgument {}

/// `advgrpo prepare-emoji`: the data sets of the examples, from packages of Debian.
struct PrepareEmoji: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare-emoji",
        abstract: "Make a data set of captioned emoji from the pictures of a Debian package.")

    @Option(help: "Who drew the pictures: noto (fonts-noto-color-emoji) or emojione (ruby-gemojione).")
    var style = EmojiStyle.noto

    @Option(help: "The font that names the emoji, with Noto's pictures.", transform: expandingHome)
    var font = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"

    @Option(
        help: "Folder of another style's pictures, named 1F600.png and so on; by default where its package puts them.",
        transform: expandingHome)
    var pictures: String?

    @Option(
        help: """
            Folder for images, prompt2img.json, captions.json, train.txt, validation.txt and test.txt; by default \
            data/emoji, or data/emoji-STYLE.
            """, transform: expandingHome)
    var out: String?

    @Option(help: "Side of the images, pixels.")
    var size = 64

    @Option(help: "Reference renderings of each emoji.")
    var references = 4

    func run() throws {
        let output = out ?? (style == .noto ? "data/emoji" : "data/emoji-\(style.rawValue)")
        let summary = try EmojiDataset.prepare(
            options: EmojiDataset.Options(
                font: font, style: style, pictures: pictures, output: output, size: size, referenceCount: references))
        print("\(summary.captionCount) captions, \(summary.referenceCount) references in \(output)")
        guard let first = summary.leftOut.first, let last = summary.leftOut.last else { return }
        note("\(summary.leftOut.count) captions have no picture in this style and are left out: \(first) ... \(last)")
    }
}
