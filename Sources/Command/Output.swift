import Datasets
import Foundation

/// A failure that ends the program: one sentence that names the file, key or peer and says what to do.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Prints one JSON document to standard output.
func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// Prints a line to standard error.
func note(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

/// Prompt files as `sample` and `evaluate` take them.
enum PromptFile {
    /// The prompts of a list: one a line, or rows of `.jsonl`, or keys of JSON.
    static func read(_ path: String) throws -> [String] { try PromptList(path: path).prompts }

    /// Whether a file or folder is there.
    static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
}
