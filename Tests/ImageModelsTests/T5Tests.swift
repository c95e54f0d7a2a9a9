import Foundation
import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// SD3's third text encoder against transformers' T5EncoderModel and T5Tokenizer.
@Suite struct T5Tests {
    private struct Document: Decodable {
        struct Entry: Decodable {
            var text: String
            var ids: [Int32], padded: [Int32]
        }
        var entries: [Entry]
    }

    @Test("token ids equal the reference's", arguments: ["t5-tokenizer", "t5-spiece"])
    func tokenizer(name: String) throws {
        let golden = Repository.fixtures + "/ImageModels/" + name
        // The folder without a tokenizer.json is made of SigLIP's file.
        let folder = name == "t5-spiece" ? Repository.fixtures + "/siglip-a" : golden
        let tokenizer = try T5Tokenizer(folder: folder)
        let data = try Data(contentsOf: URL(fileURLWithPath: golden + "/golden.json"))
        let entries = try JSONDecoder().decode(Document.self, from: data).entries
        #expect(entries.count > 20)
        for entry in entries {
            #expect(tokenizer.tokens(entry.text) == entry.ids, "\(entry.text.debugDescription)")
            #expect(tokenizer.padded(entry.text, length: 12) == entry.padded, "\(entry.text.debugDescription)")
        }
    }

    @Test("states equal the reference's, in bf16 to bf16's precision")
    func states() throws {
        let golden = try Golden("ImageModels/t5/golden.safetensors")
        let tokens = try golden.tokens()
        for engine in testEngines {
            for dtype in DType.allCases {
                // The reference's golden file lies beside the weights, so the file is named.
                let folder = Repository.fixtures + "/ImageModels/t5"
                let model = try T5Encoder(
                    T5EncoderConfiguration(path: folder + "/config.json"),
                    weights: Weights(path: folder + "/model.safetensors", engine: engine, dtype: dtype))
                // T5 does not scale its scores: the fixture's reach tens, and softmax amplifies bf16's rounding of them.
                try expectClose(
                    model(tokens).converted(to: .float32), golden, "last_hidden_state",
                    relative: dtype == .float32 ? 1e-4 : 0.1)
            }
        }
    }
}
