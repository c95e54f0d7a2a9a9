import Foundation
import ImageModels
import NeuralNetworks
import TestSupport
import Testing

/// Token ids against transformers' CLIPTokenizer, on texts chosen to be difficult.
@Suite struct CLIPTokenizerTests {
    private struct Document: Decodable {
        struct Entry: Decodable {
            var text: String
            var ids: [Int32], padded: [Int32]
            var ids_2: [Int32]?, padded_2: [Int32]?
        }
        var entries: [Entry]
    }

    private func entries(_ path: String) throws -> [Document.Entry] {
        let data = try Data(contentsOf: URL(fileURLWithPath: Repository.fixtures + "/" + path))
        return try JSONDecoder().decode(Document.self, from: data).entries
    }

    @Test("both tokenizers of the base model give the reference's ids")
    func baseModel() throws {
        let folder = Repository.models + "/emoji-sd3-tiny/"
        let (first, second) = (
            try CLIPTokenizer(folder: folder + "tokenizer"), try CLIPTokenizer(folder: folder + "tokenizer_2")
        )
        let entries = try entries("tokenizer.json")
        #expect(entries.count > 50)
        for entry in entries {
            #expect(first.tokens(entry.text) == entry.ids, "\(entry.text.debugDescription)")
            #expect(first.padded(entry.text) == entry.padded, "\(entry.text.debugDescription)")
            if let ids = entry.ids_2 { #expect(second.tokens(entry.text) == ids, "\(entry.text.debugDescription)") }
            if let ids = entry.padded_2 { #expect(second.padded(entry.text) == ids, "\(entry.text.debugDescription)") }
        }
    }

    @Test("a vocabulary that can be followed by hand gives the reference's ids")
    func tinyVocabulary() throws {
        let tokenizer = try CLIPTokenizer(folder: Repository.fixtures + "/tokenizer-tiny")
        for entry in try entries("tokenizer-tiny/golden.json") {
            #expect(tokenizer.tokens(entry.text) == entry.ids, "\(entry.text.debugDescription)")
            #expect(tokenizer.padded(entry.text) == entry.padded, "\(entry.text.debugDescription)")
        }
    }

    @Test("a folder of transformers 5, which holds tokenizer.json alone, gives the reference's ids of random texts")
    func wholeFile() throws {
        let tokenizer = try CLIPTokenizer(folder: Repository.fixtures + "/tokenizer-whole")
        let entries = try entries("tokenizer-whole/golden.json")
        #expect(entries.count == 150)
        for entry in entries {
            #expect(tokenizer.tokens(entry.text) == entry.ids, "\(entry.text.debugDescription)")
            #expect(tokenizer.padded(entry.text) == entry.padded, "\(entry.text.debugDescription)")
        }
    }

    @Test("merges as lines are read as pairs are, and tokenizer.json wins over merges.txt")
    func mergesAsLines() throws {
        let source = Repository.fixtures + "/tokenizer-whole"
        try withTemporaryFolder { folder in
            try FileManager.default.copyItem(
                atPath: source + "/tokenizer_config.json", toPath: folder + "/tokenizer_config.json")
            let text = try String(contentsOf: URL(fileURLWithPath: source + "/tokenizer.json"), encoding: .utf8)
            let lines = text.replacing(/\[\s*("[^"]+"),\s*("[^"]+")\s*\]/) { match in
                "\(match.output.1.dropLast()) \(match.output.2.dropFirst())"
            }
            #expect(lines != text)
            try Data(lines.utf8).write(to: URL(fileURLWithPath: folder + "/tokenizer.json"))
            try Data("#version: 0.2\n".utf8).write(to: URL(fileURLWithPath: folder + "/merges.txt"))
            try Data("{}".utf8).write(to: URL(fileURLWithPath: folder + "/vocab.json"))
            let tokenizer = try CLIPTokenizer(folder: folder)
            for entry in try entries("tokenizer-whole/golden.json") {
                #expect(tokenizer.tokens(entry.text) == entry.ids)
            }
        }
    }

    @Test(
        "a tokenizer.json of another kind is refused by name",
        arguments: [
            (#""type": "BPE""#, #""type": "Unigram""#, "model.type Unigram"),
            (#""end_of_word_suffix": "</w>""#, #""end_of_word_suffix": """#, "model.end_of_word_suffix  is"),
            (#""type": "NFC""#, #""type": "NFKC""#, "normalizer"),
            (#""type": "ByteLevel""#, #""type": "Metaspace""#, "pre_tokenizer"),
            (#"[\\p{N}]|"#, #"[\\p{N}]+|"#, "the pre_tokenizer's pattern"),
            (#""ignore_merges": false"#, #""ignore_merges": true"#, "model.ignore_merges true"),
        ])
    func otherKinds(old: String, new: String, name: String) throws {
        let source = Repository.fixtures + "/tokenizer-whole/tokenizer.json"
        let text = try String(contentsOf: URL(fileURLWithPath: source), encoding: .utf8)
        #expect(text.contains(old))
        try withTemporaryFolder { folder in
            try Data(text.replacingOccurrences(of: old, with: new).utf8).write(
                to: URL(fileURLWithPath: folder + "/tokenizer.json"))
            let error = #expect(throws: ModelError.self) { try CLIPTokenizer(folder: folder) }
            #expect(error?.message.hasPrefix(name) == true, "\(error?.message ?? "")")
            #expect((error?.message.count ?? 0) < 400)
        }
    }

    @Test(
        "line ends and a byte-order mark change no token",
        arguments: ["\r\n", "\r", "\n"], [[], [0xEF, 0xBB, 0xBF] as [UInt8]])
    func lineEnds(end: String, mark: [UInt8]) throws {
        let source = Repository.fixtures + "/tokenizer-tiny/"
        try withTemporaryFolder { folder in
            for name in ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"] {
                let text = try String(contentsOf: URL(fileURLWithPath: source + name), encoding: .utf8)
                try Data(mark + Array(text.replacingOccurrences(of: "\n", with: end).utf8)).write(
                    to: URL(fileURLWithPath: folder + "/" + name))
            }
            let tokenizer = try CLIPTokenizer(folder: folder)
            for entry in try entries("tokenizer-tiny/golden.json") {
                #expect(tokenizer.tokens(entry.text) == entry.ids, "\(entry.text.debugDescription)")
            }
        }
    }

    @Test("an error quotes the beginning of a line, not a file")
    func quotes() throws {
        let source = Repository.fixtures + "/tokenizer-tiny/"
        try withTemporaryFolder { folder in
            for name in ["vocab.json", "tokenizer_config.json"] {
                try FileManager.default.copyItem(atPath: source + name, toPath: folder + "/" + name)
            }
            for line in [String(repeating: "x", count: 5000), "a " + String(repeating: "y", count: 5000)] {
                try Data("#version: 0.2\na b\n\(line)\n".utf8).write(to: URL(fileURLWithPath: folder + "/merges.txt"))
                let error = #expect(throws: ModelError.self) { try CLIPTokenizer(folder: folder) }
                #expect(error?.source == folder + "/merges.txt" && error?.message.hasPrefix("merge") == true)
                #expect((error?.message.count ?? 5000) < 120)
            }
        }
    }

    @Test("an incomplete folder is refused by the file's name")
    func missingFile() throws {
        try withTemporaryFolder { folder in
            let error = #expect(throws: ModelError.self) { try CLIPTokenizer(folder: folder) }
            #expect(error?.source == folder + "/vocab.json")
        }
    }
}
