internal import Platform

/// How a file of prompts is written: by its name's ending, and by content where that says that it is something else.
enum ListFormat {
    case lines, json, rows

    /// The format and the text of the file at `path`, without a byte-order mark.
    ///
    /// - Throws: `malformedList` naming what it is instead of a list of prompts, and what to do.
    static func read(_ path: String) throws(DatasetError) -> (format: ListFormat, text: [UInt8]) {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        let ending = name.contains(".") ? name.split(separator: ".").last?.lowercased() ?? "" : ""
        func refusal(_ message: String, _ remedy: String) -> DatasetError {
            DatasetError(code: .malformedList, path: path, message: message, remedy: remedy)
        }
        if let (_, what, remedy) = foreign.first(where: { $0.endings.contains(ending) }) {
            throw refusal("\(what), not a list of prompts", remedy)
        }
        let text = try FileAccess.readText(path, byteLimit: 1 << 28)
        let start = String(decoding: text.prefix(512).drop { $0 <= 0x20 }, as: UTF8.self).lowercased()
        if let (_, what, remedy) = impostors.first(where: { start.hasPrefix($0.beginning) }) {
            throw refusal("\(what), not a list of prompts", remedy)
        }
        if text.contains(0) {
            throw refusal("holds NUL characters, as UTF-16 does", "save the file as UTF-8")
        }
        switch (ending, content(text, path: path)) {
        case ("jsonl", _), ("ndjson", _): return (.rows, text)
        case ("json", .rows): throw refusal("JSON Lines", "rename the file so that it ends in .jsonl")
        case ("json", _): return (.json, text)
        case (_, .rows), (_, .json):
            throw refusal("JSON instead of one prompt a line", "rename the file so that it ends in .json or .jsonl")
        case (_, .lines): return (.lines, text)
        }
    }

    /// What a text looks like, by the JSON value that it begins with, if any. A prompt may begin with a list: `[1] a fox`.
    private static func content(_ text: [UInt8], path: String) -> ListFormat {
        var reader = JSONReader(bytes: text, path: path)
        let beginsWithObject = reader.next == "{"
        guard beginsWithObject || reader.next == "[", (try? reader.value()) != nil else { return .lines }
        if reader.next == "{" || reader.next == "[" { return .rows }
        return beginsWithObject || reader.isAtEnd ? .json : .lines
    }

    private static let plainly =
        #"write its prompts one a line into a .txt file, or as {"prompt": ...} one a line into a .jsonl file"#

    /// Files that other programs keep prompts in, by the endings of their names.
    private static let foreign: [(endings: [String], what: String, remedy: String)] = [
        (["csv", "tsv", "xlsx", "xls", "ods"], "a table", plainly),
        (["parquet", "arrow", "feather"], "a table in binary form", plainly),
        (["yaml", "yml", "toml", "xml", "html", "htm"], "a marked-up file", plainly),
        (["doc", "docx", "odt", "rtf", "pdf"], "a document", plainly),
        (["pkl", "pt", "npy", "npz", "safetensors"], "a file of data", plainly),
        (["zip", "gz", "tgz", "tar", "bz2", "xz", "zst", "7z"], "an archive", "unpack it and name the list in it"),
    ]

    /// Other things under a list's name, by their first characters in lower case.
    private static let impostors = [
        (beginning: "<!doctype html", what: "a web page", remedy: "download the file itself"),
        (beginning: "<html", what: "a web page", remedy: "download the file itself"),
        (beginning: "version https://git-lfs", what: "a Git LFS pointer", remedy: "fetch the file with `git lfs pull`"),
        (beginning: "{\\rtf", what: "a rich-text document", remedy: "save it as plain text"),
    ]
}
