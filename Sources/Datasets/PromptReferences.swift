/// The content of a `prompt2img.json`, `{prompt: [file, ...]}`, in the file's order, or of a `metadata.jsonl`, whose rows name a prompt and
/// a `file_name` each.
///
/// Read by hand rather than by `JSONDecoder`, which drops repeated keys and the order, and cannot say in which line a mistake is.
struct PromptReferences {
    struct Entry: Equatable {
        var prompt: String
        var files: [String]
        /// The line of the prompt, from 1.
        var line: Int
    }

    let entries: [Entry]

    /// Reads a library's file. Files of a prompt that several rows name come together, where it is named first.
    init(path: String) throws(DatasetError) {
        switch try ListFormat.read(path) {
        case (.json, let text): try self.init(json: text, path: path)
        case (.rows, let text):
            var entries: [Entry] = []
            var index = PromptIndex()
            var places: [String: Int] = [:]
            for row in try PromptRow.rows(text, path: path) {
                _ = try index.place(row.prompt, line: row.line, path: path)
                if let place = places[row.prompt] {
                    entries[place].files.append(try row.file)
                } else {
                    places[row.prompt] = entries.count
                    entries.append(Entry(prompt: row.prompt, files: [try row.file], line: row.line))
                }
            }
            self.init(entries: entries)
        case (.lines, _):
            throw DatasetError(
                code: .malformedList, path: path, message: "lines of text, not prompts with their images",
                remedy: "name a prompt2img.json or metadata.jsonl")
        }
    }

    private init(entries: [Entry]) { self.entries = entries }

    /// Parses the bytes of the file at `path`.
    init(json bytes: [UInt8], path: String) throws(DatasetError) {
        var reader = JSONReader(bytes: bytes, path: path)
        var entries: [Entry] = []
        try reader.list(from: "{", to: "}") { (reader) throws(DatasetError) in
            let line = reader.line
            let prompt = try reader.string()
            try reader.expect(":")
            var files: [String] = []
            try reader.list(from: "[", to: "]") { (reader) throws(DatasetError) in
                files.append(try reader.string())
            }
            entries.append(Entry(prompt: PromptText.trimmed(prompt), files: files, line: line))
        }
        try reader.expectEnd()
        self.entries = entries
    }
}
