/// The text files of the data set, byte for byte as Python's `json.dumps(indent=0)` and the script write them.
enum EmojiLists {
    /// `{file: caption}` of the plain images.
    static func captions(_ emoji: [EmojiDataset.Emoji]) -> String {
        object(emoji.map { (key: $0.plainFile, value: quoted($0.caption)) })
    }

    /// `{caption: [file, ...]}` of the references: the paper's `prompt2img.json`.
    static func references(_ emoji: [EmojiDataset.Emoji], count: Int) -> String {
        object(
            emoji.map { emoji in
                let files = (0..<count).map { quoted(emoji.referenceFile($0)) }
                return (key: emoji.caption, value: "[\n" + files.joined(separator: ",\n") + "\n]")
            })
    }

    /// Captions in order: every tenth, from the first, is held out for the test.
    static func split(_ emoji: [EmojiDataset.Emoji]) -> (train: String, test: String) {
        // Captions are ASCII, for which this is also Python's order.
        let ordered = emoji.map(\.caption).sorted()
        func lines(_ isIncluded: (Int) -> Bool) -> String {
            ordered.indices.filter(isIncluded).map { ordered[$0] + "\n" }.joined()
        }
        return (lines { $0 % 10 != 0 }, lines { $0 % 10 == 0 })
    }

    private static func object(_ members: [(key: String, value: String)]) -> String {
        "{\n" + members.map { quoted($0.key) + ": " + $0.value }.joined(separator: ",\n") + "\n}"
    }

    /// Unicode names and the file names have no character that JSON escapes.
    private static func quoted(_ text: String) -> String { "\"\(text)\"" }
}
