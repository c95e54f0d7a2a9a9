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

    /// The captions of each list, a line each.
    struct Split {
        /// What the base model was trained on.
        let train: String
        /// Of these, every ninth from the fifth: what fine-tuning shall not see.
        let validation: String
        /// What the base model never saw: every tenth caption, from the first.
        let test: String
    }

    /// Captions in order, divided.
    ///
    /// - Parameter drawn: the captions that are listed. Those that are not keep their places, so that a caption is in the
    ///   same list in every style.
    static func split(_ emoji: [EmojiDataset.Emoji], drawn: Set<String>) -> Split {
        // Captions are ASCII, for which this is also Python's order.
        let ordered = emoji.map(\.caption).sorted()
        func lines(_ captions: [String], _ isIncluded: (Int) -> Bool) -> String {
            captions.indices.filter { isIncluded($0) && drawn.contains(captions[$0]) }.map { captions[$0] + "\n" }
                .joined()
        }
        let train = ordered.indices.filter { $0 % 10 != 0 }.map { ordered[$0] }
        return Split(
            train: lines(train) { _ in true }, validation: lines(train) { $0 % 9 == 4 },
            test: lines(ordered) { $0 % 10 == 0 })
    }

    private static func object(_ members: [(key: String, value: String)]) -> String {
        "{\n" + members.map { quoted($0.key) + ": " + $0.value }.joined(separator: ",\n") + "\n}"
    }

    /// Unicode names and the file names have no character that JSON escapes.
    private static func quoted(_ text: String) -> String { "\"\(text)\"" }
}
