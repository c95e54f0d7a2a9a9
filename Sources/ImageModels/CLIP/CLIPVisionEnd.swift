public import NeuralNetworks
public import TensorCore

// Legend: B images, T tokens, D width, P projection width.

/// The end of CLIP's vision tower, from the input of its last K layers to the logit of image and text. Only the layers are trained:
/// final norm, projection and scale stay as they are.
///
/// - Source: transformers models/clip/modeling_clip.py; Adv-GRPO@8287f90 `pick_score_training.py` (method.md 1.13). Differences:
///   weights are fp32, of which the code's bf16 lose nine tenths of the steps.
public struct CLIPVisionEnd: Sendable {
    /// The layers' tensors as the files have them, fp32, by their names there.
    public let layers: Parameters
    private let configuration: CLIPConfiguration
    private let layerNumbers: Range<Int>
    /// Tensors of the final norm and the projection, fp32.
    private let frozen: Parameters
    private let logitScale: Tensor
    private let engine: any Engine

    /// Reads the tensors of the end from a folder of transformers' `CLIPModel`; those before it are left in the file.
    ///
    /// - Parameters:
    ///   - configuration: of the folder.
    ///   - folder: of the model.
    ///   - layerCount: K, 1 to the number of the tower's layers.
    ///   - engine: what computes.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(_ configuration: CLIPConfiguration, folder: String, layerCount: Int, engine: any Engine) throws {
        let depth = configuration.vision.layerCount
        precondition((1...depth).contains(layerCount), "CLIP: the last \(layerCount) of \(depth) layers")
        self.configuration = configuration
        self.engine = engine
        layerNumbers = depth - layerCount..<depth
        let weights = try Weights(path: folder, engine: engine, dtype: .float32)
        _ = try End(configuration, layers: layerNumbers, weights: weights)
        logitScale = try weights.tensor("logit_scale", shape: [])
        for scope in ["text_model", "text_projection", "vision_model"] { weights.ignore(scope: scope) }
        let taken = try weights.finish().filtered { $0 != "logit_scale" }
        layers = taken.filtered { $0.contains(".encoder.layers.") }
        frozen = taken.filtered { !$0.contains(".encoder.layers.") }
    }

    /// exp(logit_scale) · cos(image, its own text): [B, T, D], [B, P] -> fp32 [B].
    ///
    /// - Parameters:
    ///   - states_BTD: what the layers read, as `CLIPModel.visionStates` gives it.
    ///   - texts_BP: text features of unit length, one an image.
    ///   - layers: of the names of `self.layers`, tracked ones for example.
    ///   - dtype: precision of the layers, the norm and the projection.
    /// - Precondition: names and shapes of `layers` are those of `self.layers`.
    public func logits(states_BTD: Tensor, texts_BP: Tensor, layers: Parameters, dtype: DType) -> Tensor {
        let weights = Weights(
            frozen.merging(layers), source: "the end of CLIP's vision tower", engine: engine, dtype: dtype)
        guard let end = try? End(configuration, layers: layerNumbers, weights: weights) else {
            preconditionFailure("CLIP: tensors \(layers.names) are not the layers \(layerNumbers)")
        }
        let images_BP = end(states_BTD.converted(to: dtype)).converted(to: .float32)
        let P = texts_BP.shape[1]
        let cosines = (images_BP.unitNormalized() * texts_BP).meanOverLastAxis() * Float(P)
        return (cosines.reshaped(-1, 1) * logitScale.activated(.exp).reshaped(1)).reshaped(-1)
    }
}

/// Layers, final norm, projection.
private struct End {
    private let layers: [CLIPLayer]
    private let output: CLIPVisionOutputLayers

    init(_ configuration: CLIPConfiguration, layers numbers: Range<Int>, weights: Weights) throws {
        layers = try numbers.map {
            try CLIPLayer(
                weights.scoped("vision_model.encoder.layers.\($0)"), configuration.vision, mask: .none)
        }
        output = try CLIPVisionOutputLayers(
            configuration.vision, projectionWidth: configuration.projectionWidth, weights: weights)
    }

    func callAsFunction(_ states: Tensor) -> Tensor { output(layers.reduce(states) { $1($0) }) }
}
