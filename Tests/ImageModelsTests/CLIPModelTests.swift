import Foundation
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import ImageModels

/// The dual encoder against transformers' CLIPModel.
@Suite struct CLIPModelTests {
    static let cases = ["clip-dual-a", "clip-dual-b"]

    @Test("states, features and logits of images and texts equal the reference's", arguments: cases)
    func features(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPModel(folder: Repository.fixtures + "/" + name, engine: engine)
            let pixels = try golden.tensor("pixel_values", on: engine)
            try expectClose(model.visionTower(pixels).lastHiddenState, golden, "vision_last_hidden_state")
            try expectClose(model.textTower(golden.tokens()).lastHiddenState, golden, "text_last_hidden_state")
            try model.expectFeatures(golden, on: engine)
        }
    }

    @Test("gradients of every parameter equal the reference's", arguments: cases)
    func gradients(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            try CLIPModel(folder: Repository.fixtures + "/" + name, engine: engine).expectGradients(golden)
        }
    }

    @Test("bf16 stays within bf16's precision of the reference")
    func bfloat16() throws {
        let golden = try Golden("clip-dual-a/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPModel(
                folder: Repository.fixtures + "/clip-dual-a", engine: engine, dtype: .bfloat16)
            try expectClose(model.logits(golden, on: engine), golden, "logits_per_image", relative: 0.05)
        }
    }

    @Test("a configuration that cannot be, or contradicts the weights, is refused by its entry")
    func contradictions() throws {
        try expectRefusals(
            of: [
                Contradiction(
                    #""image_size": 24"#, #""image_size": 25"#, "image size 25 is no multiple of the patch size 8"),
                Contradiction(
                    #""image_size": 24"#, #""image_size": 4000000000000"#, "image size 4000000000000 is no multiple"),
                Contradiction(#""num_hidden_layers": 2"#, #""num_hidden_layers": -1"#, "num_hidden_layers is -1"),
                Contradiction(
                    #""hidden_size": 12"#, #""hidden_size": 4611686018427387904"#,
                    "entry \"hidden_size\" is 4611686018427387904, expected 1 to 1048576"
                ),
                Contradiction(
                    #""hidden_size": 16"#, #""hidden_size": 4611686018427387904"#,
                    "entry \"hidden_size\" is 4611686018427387904, expected 1 to 1048576"
                ),
                Contradiction(#""hidden_act": "gelu""#, #""hidden_act": "mish""#, "hidden_act mish is not supported"),
                Contradiction(#""hidden_size": 12"#, #""hidden_size": 13"#, "2 heads do not divide width 13"),
                Contradiction(#""vision_config""#, #""visions_config""#, "has no entry \"vision_config\""),
                Contradiction(
                    #""hidden_size": 16"#, #""hidden_size": 20"#,
                    "tensor vision_model.embeddings.patch_embedding.weight has shape [16, 3, 8, 8], the model needs [20, 3, 8, 8]"
                ),
                Contradiction(
                    #""num_hidden_layers": 2"#, #""num_hidden_layers": 3"#,
                    "tensor text_model.encoder.layers.2.layer_norm1.weight is not among the 78 tensors"
                ),
            ], by: CLIPModel.self, folder: Repository.fixtures + "/clip-dual-b")
    }
}
