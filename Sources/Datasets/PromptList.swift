internal import Platform

/// The prompts of a run, in file order, each once.
public struct PromptList: Sendable, Hashable {
    /// Not empty; no prompt is empty or occurs twice.
    public let prompts: [String]

    /// Reads a text file with one prompt a line, or the keys of a `prompt2img.json` (by the name's ending).
    ///
    /// White space around a prompt and empty lines are ignored.
    ///
    /// - Throws: `DatasetError` naming the line of the first mistake.
    public init(path: String) throws(DatasetError) {
        let bytes = try readList(path)
        if path.hasSuffix(".json") {
            let entries = try PromptReferences(json: bytes, path: path).entries
            try self.init(lines: entries.map { ($0.prompt, $0.line) }, path: path)
        } else {
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw DatasetError(
                    code: .malformedList, path: path, message: "not UTF-8 text", remedy: "save the file as UTF-8")
            }
            let lines = text.split(omittingEmptySubsequences: false) { $0.isNewline }
            try self.init(lines: lines.enumerated().map { (String($1), $0 + 1) }, path: path)
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

    private init(lines: [(text: String, number: Int)], path: String) throws(DatasetError) {
        var firstLines: [String: Int] = [:]
        var prompts: [String] = []
        for (text, number) in lines {
            let prompt = trimmed(text)
            if prompt.isEmpty { continue }
            if let first = firstLines.updateValue(number, forKey: prompt) {
                throw DatasetError(
                    code: .duplicatePrompt, path: path,
                    message: "\"\(prompt)\" is in line \(first) and again in line \(number)",
                    remedy: "keep one of them")
            }
            prompts.append(prompt)
        }
        guard !prompts.isEmpty else {
            throw DatasetError(
                code: .malformedList, path: path, message: "no prompts", remedy: "write one prompt a line")
        }
        self.prompts = prompts
    }
}

/// The bytes of a prompt list or prompt2img.json.
func readList(_ path: String) throws(DatasetError) -> [UInt8] {
    try FileAccess.read(path, byteLimit: 1 << 28)
}

private func trimmed(_ text: String) -> String {
    let start = text.drop { $0.isWhitespace }
    let end = start.lastIndex { !$0.isWhitespace }
    return end.map { String(start[...$0]) } ?? ""
}
