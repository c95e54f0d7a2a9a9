import ImageModels
import NeuralNetworks
import TestSupport
import Testing

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

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

    @Test("an incomplete folder is refused by the file's name")
    func missingFile() throws {
        try withTemporaryFolder { folder in
            let error = #expect(throws: ModelError.self) { try CLIPTokenizer(folder: folder) }
            #expect(error?.source == folder + "/vocab.json")
        }
    }
}
