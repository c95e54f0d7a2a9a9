import Foundation
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import ImageModels

/// SigLIP's dual encoder and tokenizer against transformers' SiglipModel and SiglipTokenizer.
@Suite struct SiglipTests {
    private let folder = Repository.fixtures + "/siglip-a"

    @Test("states, features and logits of images and texts equal the reference's, in bf16 to bf16's precision")
    func features() throws {
        let golden = try Golden("siglip-a/golden.safetensors")
        for engine in testEngines {
            for dtype in DType.allCases {
                let bound: Float = dtype == .float32 ? 1e-4 : 0.05
                let model = try SiglipModel(folder: folder, engine: engine, dtype: dtype)
                let pixels = try golden.tensor("pixel_values", on: engine)
                try expectClose(
                    model.visionTower(pixels.converted(to: dtype)).lastHiddenState.converted(to: .float32), golden,
                    "vision_last_hidden_state", relative: bound)
                try expectClose(
                    model.textTower(golden.tokens()).lastHiddenState.converted(to: .float32), golden,
                    "text_last_hidden_state", relative: bound)
                try model.expectFeatures(golden, on: engine, relative: bound)
            }
        }
    }

    @Test("gradients of every parameter equal the reference's")
    func gradients() throws {
        let golden = try Golden("siglip-a/golden.safetensors")
        for engine in testEngines {
            try SiglipModel(folder: folder, engine: engine).expectGradients(golden)
        }
    }

    @Test("token ids equal the reference's")
    func tokenizer() throws {
        struct Document: Decodable {
            struct Entry: Decodable {
                var text: String
                var ids: [Int32]
            }
            var entries: [Entry]
        }
        let tokenizer = try SiglipTokenizer(folder: folder)
        let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/tokens.json"))
        let entries = try JSONDecoder().decode(Document.self, from: data).entries
        #expect(entries.count > 20)
        for entry in entries {
            #expect(tokenizer.padded(entry.text, length: 40) == entry.ids, "\(entry.text.debugDescription)")
        }
    }

    @Test("a tokenizer file that is cut, altered or of another kind is refused and never crashes")
    func damagedTokenizer() throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: folder + "/spiece.model"))
        try withTemporaryFolder { temporary in
            let path = temporary + "/spiece.model"
            func read(_ bytes: Data) throws -> ModelError? {
                try bytes.write(to: URL(fileURLWithPath: path))
                do {
                    _ = try SiglipTokenizer(folder: temporary)
                    return nil
                } catch {
                    return error
                }
            }
            #expect(throws: ModelError.self) { try SiglipTokenizer(folder: temporary) }
            let whole = try read(bytes)
            #expect(whole == nil)
            let (empty, text) = (try read(Data()), try read(Data("{}".utf8)))
            #expect(empty?.message == "is not a SentencePiece model" && text?.source == path)
            for length in stride(from: 1, to: 1000, by: 7) {
                let cut = try read(bytes.prefix(length))
                #expect(cut != nil, "\(length) bytes")
            }
            for position in 0..<150 {
                var altered = bytes
                altered[position] ^= 0x80
                // Some bytes are free text; what counts is that reading ends.
                _ = try read(altered)
            }
        }
    }

    @Test("a configuration that cannot be, or contradicts the weights, is refused by its entry")
    func contradictions() throws {
        try expectRefusals(
            of: [
                Contradiction(
                    #""image_size": 24"#, #""image_size": 25"#, "image size 25 is no multiple of the patch size 8"),
                Contradiction(
                    #""projection_size": 16"#, #""projection_size": 8"#,
                    "texts are projected to 8 features, images to 16"
                ),
                Contradiction(
                    #""vision_use_head": true"#, #""vision_use_head": false"#,
                    "vision_use_head false is not supported, only true"
                ),
                Contradiction(#""text_config""#, #""texts_config""#, "has no entry \"text_config\""),
                Contradiction(
                    #""vocab_size": 56"#, #""vocab_size": 57"#,
                    "tensor text_model.embeddings.token_embedding.weight has shape [56, 12], the model needs [57, 12]"
                ),
            ], by: SiglipModel.self, folder: folder)
    }
}
