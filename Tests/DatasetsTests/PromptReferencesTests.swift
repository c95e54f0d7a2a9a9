import Foundation
import Testing

@testable import Datasets

@Suite("prompt2img.json")
struct PromptReferencesTests {
    private func parse(_ text: String) throws -> [PromptReferences.Entry] {
        try PromptReferences(json: Array(text.utf8), path: "p.json").entries
    }

    @Test("order, escapes, surrogate pairs and space are read as JSON says")
    func reading() throws {
        let text = "\n{ \"b\\n\\u00e9\\ud83d\\uDE00\\/\" : [ \"x.png\",\"y.png\" ] ,\n\"a\":[]}\n"
        #expect(
            try parse(text) == [
                .init(prompt: "b\n\u{E9}\u{1F600}/", files: ["x.png", "y.png"], line: 2),
                .init(prompt: "a", files: [], line: 3),
            ])
        #expect(try parse("{}").isEmpty)
    }

    @Test("strings are decoded as Foundation decodes them")
    func strings() throws {
        let strings = ["plain", "\u{0}\u{1F}\"\\/", "\u{7F}\u{2028}\u{1F9CC}", "e\u{301}"]
        let data = try JSONEncoder().encode(strings)
        let text = "{\"p\": " + String(decoding: data, as: UTF8.self) + "}"
        #expect(try parse(text).first?.files == strings)
    }

    @Test(
        "what is not a map of lists of strings names the line",
        arguments: [
            ("", 1, "'{'"), ("[]", 1, "'{'"), ("{\n\"a\" 3}", 2, "':'"), ("{\"a\": 3}", 1, "'['"),
            ("{\"a\": [3]}", 1, "a string"), ("{\"a\": []\n\"b\": []}", 2, "'}'"), ("{\"a\": [],}", 1, "a string"),
            ("{\"a\": [\"x\"", 1, "']'"), ("{\"a", 1, "the end of a string"),
            ("{\"a\n\": []}", 1, "the end of a string"),
            ("{\"\\x\": []}", 1, "a valid escape"), ("{\"\\u12g4\": []}", 1, "four hexadecimal digits"),
            ("{\"\\ud800\": []}", 1, "a surrogate pair"), ("{\"\\ud800\\u0041\": []}", 1, "a surrogate pair"),
            ("{}x", 1, "the end of the file"), ("{\"a\\", 1, "a valid escape"),
        ])
    func malformed(text: String, line: Int, expected: String) throws {
        let error = try #require(throws: DatasetError.self) { try parse(text) }
        #expect(error.code == .malformedList)
        #expect(error.message == "line \(line): expected \(expected)")
    }

    @Test("bytes that are not UTF-8 are refused")
    func encoding() throws {
        let bytes = Array("{\"a".utf8) + [0xFF] + Array("\": []}".utf8)
        let error = try #require(throws: DatasetError.self) { try PromptReferences(json: bytes, path: "p.json") }
        #expect(error.message == "line 1: expected UTF-8 text")
    }
}
