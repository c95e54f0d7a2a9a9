/// What an emoji is called in the data set.
enum EmojiCaption {
    /// Names that are not pictures of their own.
    private static let skippedPrefixes = [
        "regional indicator", "emoji modifier", "variation selector", "tag ", "keycap",
    ]

    /// The Unicode name in lower case, or nil for what the data set leaves out.
    ///
    /// Left out, as in `prepare_emoji.py`: everything below U+2000, unnamed code points, parts of sequences. Names are taken from Unicode 14
    /// at most, the version of Python 3.11, so that the set is the one that the base model was trained on.
    static func caption(of scalar: Unicode.Scalar) -> String? {
        guard scalar.value >= 0x2000, let name = scalar.properties.name,
            let age = scalar.properties.age, (age.major, age.minor) <= (14, 0)
        else { return nil }
        let caption = name.lowercased()
        return skippedPrefixes.contains { caption.hasPrefix($0) } ? nil : caption
    }
}
