/// One object of a list of records: a line of `.jsonl` (Flow-GRPO's lists, Hugging Face's `metadata.jsonl`) or of a JSON array.
struct PromptRow {
    let prompt: String
    /// Where the object begins, from 1.
    let line: Int
    private let fields: [(name: String, value: JSONValue)]
    private let path: String

    /// The fields that hold the prompt; the first that is there counts.
    static let promptFields = ["prompt", "text", "caption"]

    /// Reads every row of a `.jsonl` file. Empty lines are ignored.
    static func rows(_ text: [UInt8], path: String) throws(DatasetError) -> [PromptRow] {
        var rows: [PromptRow] = []
        for (line, number) in PromptText.lines(text)
        where !PromptText.trimmed(String(decoding: line, as: UTF8.self)).isEmpty {
            let form = #"each line must be a JSON object, as {"prompt": "a red fox"}"#
            var reader = JSONReader(bytes: Array(line), path: path, line: number, form: form)
            let value = try reader.value()
            try reader.expectEnd()
            rows.append(try PromptRow(value, line: number, path: path))
        }
        return rows
    }

    init(_ value: JSONValue, line: Int, path: String) throws(DatasetError) {
        guard case .object(let fields) = value else {
            throw Self.malformed(
                "line \(line): not a JSON object", #"write {"prompt": ...}"#, path)
        }
        self.fields = fields
        self.line = line
        self.path = path
        guard let field = Self.promptFields.first(where: { name in fields.contains { $0.name == name } }) else {
            let names = fields.prefix(8).map { "\"\($0.name.prefix(40))\"" }.joined(separator: ", ")
            throw Self.malformed(
                "line \(line): no \"prompt\", \"text\" or \"caption\""
                    + (names.isEmpty ? "" : " among \(names)"), "name the field with the prompt \"prompt\"", path)
        }
        prompt = PromptText.trimmed(try Self.string(field, of: fields, line: line, path: path))
        guard !prompt.isEmpty, !prompt.utf8.contains(0) else {
            throw Self.malformed(
                "line \(line): \"\(field)\" is empty or holds a NUL character", "correct it or take the line out", path)
        }
    }

    /// The image that the row describes.
    var file: String {
        get throws(DatasetError) {
            guard fields.contains(where: { $0.name == "file_name" }) else {
                throw Self.malformed("line \(line): no \"file_name\"", "name the image of each line", path)
            }
            return try Self.string("file_name", of: fields, line: line, path: path)
        }
    }

    private static func string(
        _ name: String, of fields: [(name: String, value: JSONValue)], line: Int, path: String
    ) throws(DatasetError) -> String {
        let values = fields.filter { $0.name == name }
        guard values.count == 1, case .string(let text) = values[0].value else {
            throw malformed("line \(line): \"\(name)\" is not one string", "write it once, as a string", path)
        }
        return text
    }

    private static func malformed(_ message: String, _ remedy: String, _ path: String) -> DatasetError {
        DatasetError(code: .malformedList, path: path, message: message, remedy: remedy)
    }
}
