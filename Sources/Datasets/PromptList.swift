/// The prompts of a run, in file order, each once.
public struct PromptList: Sendable, Hashable {
    /// Not empty; no prompt is empty or occurs twice.
    public let prompts: [String]

    /// Reads a file of prompts, by its name's ending: `.json` (the keys of a `prompt2img.json`, or an array of strings or objects),
    /// `.jsonl` (an object a line with `prompt`, `text` or `caption`, such as a `metadata.jsonl`), else text with one prompt a line.
    ///
    /// White space around a prompt and empty lines are ignored. A repeated prompt is a mistake in a list of prompts; rows are records
    /// of something else as well, and a prompt of several of them is kept once.
    ///
    /// - Throws: `DatasetError` naming the line of the first mistake.
    public init(path: String) throws(DatasetError) {
        switch try ListFormat.read(path) {
        case (.lines, let text):
            let lines = PromptText.lines(text).map { (String(decoding: $0.text, as: UTF8.self), $0.number) }
            try self.init(lines: lines.filter { !PromptText.trimmed($0.0).isEmpty }, path: path)
        case (.rows, let text): try self.init(rows: try PromptRow.rows(text, path: path), path: path)
        case (.json, let text):
            var reader = JSONReader(bytes: text, path: path)
            guard reader.next == "[" else {
                let entries = try PromptReferences(json: text, path: path).entries
                try self.init(lines: entries.map { ($0.prompt, $0.line) }, path: path)
                return
            }
            let values = try reader.values()
            try reader.expectEnd()
            var texts: [(text: String, number: Int)] = []
            for case (.string(let text), let line) in values { texts.append((text, line)) }
            if texts.count == values.count {
                try self.init(lines: texts, path: path)
            } else {
                var rows: [PromptRow] = []
                for (value, line) in values { rows.append(try PromptRow(value, line: line, path: path)) }
                try self.init(rows: rows, path: path)
            }
        }
    }

    /// The prompts of one list that are not in another: what is left to train on when the other is for measuring.
    ///
    /// - Throws: `DatasetError` of either file, or when nothing is left.
    public init(path: String, without reserved: String) throws(DatasetError) {
        let taken = Set(try PromptList(path: reserved).prompts)
        prompts = try PromptList(path: path).prompts.filter { !taken.contains($0) }
        guard !prompts.isEmpty else {
            throw DatasetError(
                code: .malformedList, path: path, message: "every prompt is also in \(reserved)",
                remedy: "keep the prompts to measure on out of those to train on")
        }
    }

    private init(rows: [PromptRow], path: String) throws(DatasetError) {
        var index = PromptIndex()
        var firsts: [(text: String, number: Int)] = []
        for row in rows where try index.place(row.prompt, line: row.line, path: path) == nil {
            firsts.append((row.prompt, row.line))
        }
        try self.init(lines: firsts, path: path)
    }

    private init(lines: [(text: String, number: Int)], path: String) throws(DatasetError) {
        func malformed(_ message: String, _ remedy: String) -> DatasetError {
            DatasetError(code: .malformedList, path: path, message: message, remedy: remedy)
        }
        var index = PromptIndex()
        var prompts: [String] = []
        for (text, number) in lines {
            let prompt = PromptText.trimmed(text)
            guard !prompt.isEmpty, !prompt.utf8.contains(0) else {
                throw malformed(
                    "line \(number): a prompt is empty or holds a NUL character", "correct it or take it out")
            }
            if let first = try index.place(prompt, line: number, path: path) {
                throw DatasetError(
                    code: .duplicatePrompt, path: path,
                    message: "\"\(prompt)\" is in line \(first) and again in line \(number)",
                    remedy: "keep one of them")
            }
            prompts.append(prompt)
        }
        guard !prompts.isEmpty else { throw malformed("no prompts", "write one prompt a line") }
        self.prompts = prompts
    }
}
