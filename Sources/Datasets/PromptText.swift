/// What belongs to a prompt, in lists, in keys and on the command line alike.
public enum PromptText {
    /// The prompt without white space (Unicode's property) and byte-order marks, which concatenated files hold, at its ends.
    public static func trimmed(_ text: String) -> String {
        func isOutside(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isWhitespace || scalar == "\u{FEFF}" }
        let scalars = text.unicodeScalars
        guard let start = scalars.firstIndex(where: { !isOutside($0) }),
            let end = scalars.lastIndex(where: { !isOutside($0) })
        else { return "" }
        return String(scalars[start...end])
    }

    /// The first prompts of a list in quotes, for messages.
    public static func list(_ prompts: [String]) -> String {
        prompts.prefix(4).map { "\"\($0.count > 80 ? $0.prefix(80) + "..." : $0[...])\"" }.joined(separator: ", ")
            + (prompts.count > 4 ? ", ..." : "")
    }

    /// Lines with their numbers from 1. They end at LF, CR LF and CR, and nowhere else: U+2028 and the like belong to a prompt.
    static func lines(_ bytes: [UInt8]) -> [(text: ArraySlice<UInt8>, number: Int)] {
        var lines: [(text: ArraySlice<UInt8>, number: Int)] = []
        var start = 0
        for (index, byte) in bytes.enumerated() where byte == 0x0A || byte == 0x0D {
            if byte == 0x0A, index > 0, bytes[index - 1] == 0x0D {
                start = index + 1
                continue
            }
            lines.append((bytes[start..<index], lines.count + 1))
            start = index + 1
        }
        lines.append((bytes[start...], lines.count + 1))
        return lines
    }
}
