/// Where each prompt of a file comes first.
///
/// Swift takes strings for equal that show the same characters: an é may be one scalar or an e with an accent. They are other text to a
/// tokenizer, so that neither is taken for the other.
struct PromptIndex {
    private var firsts: [String: (prompt: String, line: Int)] = [:]

    /// The line where the prompt came before, or nil when this is the first.
    ///
    /// - Throws: when one came before that differs only in how its characters are composed.
    mutating func place(_ prompt: String, line: Int, path: String) throws(DatasetError) -> Int? {
        guard let first = firsts[prompt] else {
            firsts[prompt] = (prompt, line)
            return nil
        }
        guard first.prompt.utf8.elementsEqual(prompt.utf8) else {
            throw DatasetError(
                code: .duplicatePrompt, path: path,
                message: "\"\(prompt)\" is in line \(first.line) and again in line \(line), with accents composed "
                    + "differently",
                remedy: "keep one of them")
        }
        return first.line
    }
}
