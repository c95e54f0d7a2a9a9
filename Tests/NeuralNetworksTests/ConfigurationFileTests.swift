import Foundation
import NeuralNetworks
import TestSupport
import Testing

/// Configuration files as Python's `json` and editors leave them.
@Suite struct ConfigurationFileTests {
    private struct Entries: Decodable {
        var number: Double?, integer: Int?
        var text: String?
        var list: [Double]?
        var flag: Bool?
        var object: [String: Int]?
    }

    private func read(_ json: String, mark: Bool = false) throws -> Entries {
        try withTemporaryFolder { folder in
            try Data((mark ? [0xEF, 0xBB, 0xBF] : []) + Array(json.utf8)).write(
                to: URL(fileURLWithPath: folder + "/f.json"))
            return try ConfigurationFile.read(Entries.self, path: folder + "/f.json")
        }
    }

    @Test("Python's names of numbers are read outside of strings, and kept within")
    func constants() throws {
        let entries = try read(
            #"{"number": -Infinity, "list": [NaN,Infinity, 1], "text": "NaN \" Infinity \\", "unused": -Infinity}"#)
        #expect(entries.number == -.infinity)
        #expect(entries.list?[0].isNaN == true && entries.list?[1] == .infinity && entries.list?[2] == 1)
        #expect(entries.text == "NaN \" Infinity \\")
    }

    @Test("a byte-order mark and CR LF change nothing")
    func mark() throws {
        #expect(try read("{\r\n\"integer\": 3\r\n}", mark: true).integer == 3)
    }

    @Test(
        "an entry of another type is named in words of JSON",
        arguments: [
            (#"{"list": 3}"#, #"entry "list" is not a list"#),
            (#"{"integer": "x"}"#, #"entry "integer" is not a whole number"#),
            (#"{"number": "x"}"#, #"entry "number" is not a number"#), (#"{"text": 1}"#, #"entry "text" is not text"#),
            (#"{"flag": 1}"#, #"entry "flag" is not true or false"#),
            (#"{"object": []}"#, #"entry "object" is not an object"#),
            (#"{"list": [1, "a"]}"#, #"entry "list.1" is not a number"#),
            (#"{"integer": 1e30}"#, "has a number that is too large, or no whole number where one is expected"),
            (#"{"integer": NaN}"#, #"entry "integer" is not a whole number"#), ("[]", "the file is not an object"),
            ("{", "is not valid JSON"),
        ])
    func types(json: String, message: String) throws {
        let error = #expect(throws: ModelError.self) { try read(json) }
        #expect(error?.message == message)
    }
}
