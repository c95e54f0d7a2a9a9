import Foundation
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import ImageModels

/// The dual encoder against transformers' CLIPModel.
@Suite struct CLIPModelTests {
    static let cases = ["clip-dual-a", "clip-dual-b"]

    private func tokens(_ golden: Golden) throws -> [[Int32]] {
        let shape = try golden.shape("input_ids")
        let flat = try golden.integers("input_ids").map(Int32.init)
        return (0..<shape[0]).map { Array(flat[$0 * shape[1]..<($0 + 1) * shape[1]]) }
    }

    @Test("states, features and logits of images and texts equal the reference's", arguments: cases)
    func features(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPModel(folder: Repository.fixtures + "/" + name, engine: engine)
            let pixels = try golden.tensor("pixel_values", on: engine)
            try expectClose(model.visionTower(pixels).lastHiddenState, golden, "vision_last_hidden_state")
            try expectClose(model.textTower(tokens(golden)).lastHiddenState, golden, "text_last_hidden_state")
            let (images, texts) = (model.imageFeatures(pixels), model.textFeatures(try tokens(golden)))
            try expectClose(images, golden, "image_embeds")
            try expectClose(texts, golden, "text_embeds")
            try expectClose(
                model.logits(imageFeatures_BP: images, textFeatures_NP: texts), golden, "logits_per_image")
        }
    }

    @Test("gradients of every parameter equal the reference's", arguments: cases)
    func gradients(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let base = try CLIPModel(folder: Repository.fixtures + "/" + name, engine: engine)
            let parameters = base.parameters.tracked()
            let model = try base.replacing(parameters)
            let images = model.imageFeatures(try golden.tensor("pixel_values", on: engine))
            let logits = model.logits(
                imageFeatures_BP: images, textFeatures_NP: model.textFeatures(try tokens(golden)))
            let gradients = logits.gradients(upstream: try golden.tensor("grad_logits", on: engine))
            #expect(parameters.names == golden.names(below: "grad/"))
            for (parameter, tensor) in parameters.entries {
                // The gradient of a key's bias is zero (softmax ignores it); rounding leaves some 1e-6.
                try expectClose(gradients[tensor], golden, "grad/" + parameter, absolute: 5e-6)
            }
        }
    }

    @Test("bf16 stays within bf16's precision of the reference")
    func bfloat16() throws {
        let golden = try Golden("clip-dual-a/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPModel(
                folder: Repository.fixtures + "/clip-dual-a", engine: engine, dtype: .bfloat16)
            let logits = model.logits(
                imageFeatures_BP: model.imageFeatures(try golden.tensor("pixel_values", on: engine)),
                textFeatures_NP: model.textFeatures(try tokens(golden)))
            try expectClose(logits, golden, "logits_per_image", relative: 0.05)
        }
    }

    @Test("a configuration that cannot be, or contradicts the weights, is refused by its entry")
    func contradictions() throws {
        let folder = Repository.fixtures + "/clip-dual-b"
        let json = try String(contentsOfFile: folder + "/config.json", encoding: .utf8)
        let weights = try Parameters(path: folder + "/model.safetensors", engine: OpenBLASEngine.shared)
        try withTemporaryFolder { temporary in
            let path = temporary + "/config.json"
            for (entry, changed, message) in [
                (#""image_size": 24"#, #""image_size": 25"#, "image size 25 is no multiple of the patch size 8"),
                (#""image_size": 24"#, #""image_size": 4000000000000"#, "image size 4000000000000 is no multiple"),
                (#""num_hidden_layers": 2"#, #""num_hidden_layers": -1"#, "num_hidden_layers is -1"),
                (
                    #""hidden_size": 12"#, #""hidden_size": 4611686018427387904"#,
                    "entry \"hidden_size\" is 4611686018427387904, expected 1 to 1048576"
                ),
                (
                    #""hidden_size": 16"#, #""hidden_size": 4611686018427387904"#,
                    "entry \"hidden_size\" is 4611686018427387904, expected 1 to 1048576"
                ),
                (#""hidden_act": "gelu""#, #""hidden_act": "mish""#, "hidden_act mish is not supported"),
                (#""hidden_size": 12"#, #""hidden_size": 13"#, "2 heads do not divide width 13"),
                (#""vision_config""#, #""visions_config""#, "has no entry \"vision_config\""),
                (
                    #""hidden_size": 16"#, #""hidden_size": 20"#,
                    "tensor vision_model.embeddings.patch_embedding.weight has shape [16, 3, 8, 8], the model needs [20, 3, 8, 8]"
                ),
                (
                    #""num_hidden_layers": 2"#, #""num_hidden_layers": 3"#,
                    "tensor text_model.encoder.layers.2.layer_norm1.weight is not among the 78 tensors"
                ),
            ] {
                #expect(json.contains(entry))
                try Data(json.replacingOccurrences(of: entry, with: changed).utf8)
                    .write(to: URL(fileURLWithPath: path))
                let error = #expect(throws: ModelError.self) {
                    try CLIPModel(
                        CLIPConfiguration(path: path),
                        weights: Weights(weights, source: "weights", engine: OpenBLASEngine.shared))
                }
                #expect(error?.message.hasPrefix(message) == true, "\(error?.message ?? "nothing was thrown")")
            }
        }
    }
}
