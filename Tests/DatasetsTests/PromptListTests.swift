import Datasets
import TestSupport
import Testing

@Suite("PromptList")
struct PromptListTests {
    private func prompts(_ text: String, name: String = "prompts.txt") throws -> [String] {
        try withTemporaryFolder { folder in
            try write(text, to: "\(folder)/\(name)")
            return try PromptList(path: "\(folder)/\(name)").prompts
        }
    }

    private func error(_ text: String, name: String = "prompts.txt") throws -> DatasetError {
        try #require(throws: DatasetError.self) { try prompts(text, name: name) }
    }

    @Test("one prompt a line; empty lines, carriage returns and surrounding space are ignored")
    func lines() throws {
        #expect(try prompts("\na cat\r\n\n  a dog \t\nhe said: \"ok\"") == ["a cat", "a dog", "he said: \"ok\""])
    }

    @Test("the keys of a prompt2img.json, in its order")
    func keys() throws {
        #expect(try prompts(#"{"z": ["a.png"], "a": []}"#, name: "prompt2img.json") == ["z", "a"])
    }

    @Test("a repeated prompt is refused with both lines")
    func duplicates() throws {
        let lines = try error("a\nb\n\n a\n")
        #expect(lines.code == .duplicatePrompt)
        #expect(lines.description.contains("\"a\" is in line 1 and again in line 4"))
        let keys = try error("{\"a\": [],\n\"a\": []}", name: "p.json")
        #expect(keys.code == .duplicatePrompt && keys.message.contains("line 1 and again in line 2"))
    }

    @Test("prompts to measure on are never trained on; a list of nothing else is refused")
    func reserved() throws {
        try withTemporaryFolder { folder in
            try write("a\nb\nc\n", to: "\(folder)/train.txt")
            try write("c\nd\n a\n", to: "\(folder)/validation.txt")
            #expect(
                try PromptList(path: "\(folder)/train.txt", without: "\(folder)/validation.txt").prompts == ["b"])
            let error = #expect(throws: DatasetError.self) {
                try PromptList(path: "\(folder)/train.txt", without: "\(folder)/train.txt")
            }
            #expect(error?.code == .malformedList && error?.path == "\(folder)/train.txt")
        }
    }

    @Test("a list without prompts, a missing file and text that is not UTF-8 are errors naming the file")
    func unusable() throws {
        #expect(try error("\n \n").code == .malformedList)
        let missing = #expect(throws: DatasetError.self) { try PromptList(path: "/nowhere/p.txt") }
        #expect(missing?.code == .unreadable && missing?.path == "/nowhere/p.txt")
        let font = #expect(throws: DatasetError.self) { try PromptList(path: Fixtures.folder + "/six.ttf") }
        #expect(font?.code == .unreadable && font?.message == "not UTF-8 text")
    }

    @Test("rows of JSON Lines, by field; a prompt of several rows once; arrays; a byte-order mark")
    func rows() throws {
        let rows =
            "\u{FEFF}{\"tag\": [1, {}], \"prompt\": \" a \"}\r\n{\"text\": \"b\", \"score\": NaN}\n\n{\"prompt\": \"a\"}"
        #expect(try prompts(rows, name: "l.JSONL") == ["a", "b"])
        #expect(try prompts(#"["x", "y"]"#, name: "l.json") == ["x", "y"])
        #expect(try prompts(#"[{"caption": "x"}]"#, name: "l.json") == ["x"])
        let missing = try error("{\"prompt\": \"a\"}\n{\"Prompt\": \"b\"}", name: "l.jsonl").message
        #expect(missing == "line 2: no \"prompt\", \"text\" or \"caption\" among \"Prompt\"")
    }

    @Test("lines end at LF, CR LF and CR only; white space and byte-order marks at the ends go")
    func separators() throws {
        let text = "\u{FEFF}a\u{2028}b\u{B}c\u{C}d\u{85}e\r\u{3000}f\u{A0}\r\n\u{FEFF}g"
        #expect(try prompts(text) == ["a\u{2028}b\u{B}c\u{C}d\u{85}e", "f", "g"])
        #expect(try prompts("{\" a \": [], \"b\u{2028}c\": []}", name: "p.json") == ["a", "b\u{2028}c"])
        #expect(try error(#"{"a ": [], "a": []}"#, name: "p.json").code == .duplicatePrompt)
    }

    @Test("a prompt in brackets is a prompt")
    func brackets() throws {
        #expect(try prompts("[1] a cat\n{red} fox\n") == ["[1] a cat", "{red} fox"])
        #expect(try prompts("{red} fox\n") == ["{red} fox"])
    }

    @Test(
        "what is no list of prompts is refused by name",
        arguments: [
            ("a,b", "l.csv", "a table"), ("x", "l.parquet", "binary form"), ("x", "l.zip", "an archive"),
            ("x", "l.yaml", "a marked-up file"), ("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}", "l.txt", "JSON"),
            ("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}", "l.json", "JSON Lines"), ("[\"a\"]", "l.txt", "JSON"),
            ("<!DOCTYPE html>\n", "l.txt", "a web page"), ("a\u{0}b", "l.txt", "NUL"),
        ])
    func foreign(text: String, name: String, words: String) throws {
        let error = try error(text, name: name)
        #expect(error.code == .malformedList && error.message.contains(words), "\(error)")
    }
}
