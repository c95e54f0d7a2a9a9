import Foundation
import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

extension Golden {
    /// The rows of an integer matrix: texts as tokens.
    func tokens(_ name: String = "input_ids") throws -> [[Int32]] {
        let width = try shape(name)[1]
        let flat = try integers(name).map(Int32.init)
        return stride(from: 0, to: flat.count, by: width).map { Array(flat[$0..<$0 + width]) }
    }
}

/// Holds the gradient of every parameter to the reference's, which has no others.
///
/// - Parameters:
///   - path: before the names of the reference's gradients.
///   - absolute: the gradient of a key's bias is zero (softmax ignores it); rounding leaves some 1e-6.
func expectGradients(
    _ gradients: Gradients, of parameters: Parameters, _ golden: Golden, below path: String = "grad/",
    absolute: Float = 5e-6, sourceLocation: SourceLocation = #_sourceLocation
) throws {
    #expect(parameters.names == golden.names(below: path), sourceLocation: sourceLocation)
    for (name, tensor) in parameters.entries {
        try expectClose(
            gradients[tensor], golden, path + name, absolute: absolute, sourceLocation: sourceLocation)
    }
}

extension ImageTextModel {
    /// Logits of the reference's images and texts.
    func logits(_ golden: Golden, on engine: any Engine) throws -> Tensor {
        logits(
            imageFeatures_BP: imageFeatures(try golden.tensor("pixel_values", on: engine)),
            textFeatures_NP: textFeatures(try golden.tokens()))
    }

    /// Holds features and logits of images and texts to the reference's.
    func expectFeatures(_ golden: Golden, on engine: any Engine, relative: Float = 1e-4) throws {
        try expectClose(
            imageFeatures(try golden.tensor("pixel_values", on: engine)), golden, "image_embeds", relative: relative)
        try expectClose(textFeatures(try golden.tokens()), golden, "text_embeds", relative: relative)
        try expectClose(logits(golden, on: engine), golden, "logits_per_image", relative: relative)
    }
}

extension TransformersModel where Self: ImageTextModel {
    /// Holds the gradients of the logits to the reference's.
    func expectGradients(_ golden: Golden) throws {
        let parameters = parameters.tracked()
        let logits = try replacing(parameters).logits(golden, on: engine)
        let gradients = logits.gradients(upstream: try golden.tensor("grad_logits", on: engine))
        try ImageModelsTests.expectGradients(gradients, of: parameters, golden)
    }
}

/// One entry of a configuration changed, and how the refusal begins.
struct Contradiction {
    let entry: String
    let changed: String
    let message: String

    init(_ entry: String, _ changed: String, _ message: String) {
        (self.entry, self.changed, self.message) = (entry, changed, message)
    }
}

/// Expects every contradiction of a model's `config.json`, in itself or with the weights beside it, to be refused.
func expectRefusals<Model: TransformersModel>(
    of contradictions: [Contradiction], by model: Model.Type, folder: String
) throws {
    let json = try String(contentsOfFile: folder + "/config.json", encoding: .utf8)
    let engine = OpenBLASEngine.shared
    let weights = try Parameters(path: folder + "/model.safetensors", engine: engine)
    try withTemporaryFolder { temporary in
        let path = temporary + "/config.json"
        for contradiction in contradictions {
            #expect(json.contains(contradiction.entry), "\(contradiction.entry)")
            try Data(json.replacingOccurrences(of: contradiction.entry, with: contradiction.changed).utf8)
                .write(to: URL(fileURLWithPath: path))
            let error = #expect(throws: ModelError.self) {
                try Model(
                    Model.Configuration(path: path), weights: Weights(weights, source: "weights", engine: engine))
            }
            #expect(
                error?.message.hasPrefix(contradiction.message) == true, "\(error?.message ?? "nothing was thrown")")
        }
    }
}
