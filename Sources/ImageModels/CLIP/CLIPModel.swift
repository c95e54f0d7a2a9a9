public import NeuralNetworks
public import TensorCore

// Legend: B images, N texts, S tokens, P projection width, H image size.

/// CLIP's dual encoder: images and texts in one space, and how well they fit. PickScore is one, tuned on human choices.
///
/// - Source: transformers models/clip/modeling_clip.py `CLIPModel`. Differences: none.
public struct CLIPModel: TransformersModel {
    /// Sizes.
    public let configuration: CLIPConfiguration
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    /// Precision of weights and activations.
    public let dtype: DType
    public let engine: any Engine
    let textTower: CLIPTextTower
    let visionTower: CLIPVisionTower
    private let logitScale: Tensor

    /// Takes all its tensors from `weights`; the position numbers that old files store are left out.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: CLIPConfiguration, weights: Weights) throws {
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        textTower = try CLIPTextTower(configuration.text, weights: weights)
        visionTower = try CLIPVisionTower(
            configuration.vision, projectionWidth: configuration.projectionWidth, weights: weights)
        logitScale = try weights.tensor("logit_scale", shape: [])
        parameters = try weights.finish()
    }
}

extension CLIPModel {
    /// What the vision tower's last `layerCount` layers read: all tokens, class token first, after the layers before them.
    ///
    /// - Parameters:
    ///   - pixels_BCHW: normalised, [B, 3, H, H].
    ///   - layerCount: K, 0 to the number of the tower's layers.
    /// - Returns: fp32 [B, T, D].
    public func visionStates(_ pixels_BCHW: Tensor, beforeLast layerCount: Int) -> Tensor {
        visionTower.states(
            pixels_BCHW.converted(to: dtype), layerCount: configuration.vision.layerCount - layerCount
        ).converted(to: .float32)
    }
}

extension CLIPModel: ImageTextModel {
    public var imageSize: Int { configuration.vision.imageSize }
    public var tokenLimit: Int { configuration.text.positionCount }
    public var vocabularySize: Int { configuration.text.vocabularySize }

    /// `get_image_features`.
    public func imageFeatures(_ pixels_BCHW: Tensor) -> Tensor {
        visionTower(pixels_BCHW.converted(to: dtype)).pooled.converted(to: .float32)
    }

    /// `get_text_features`; every sequence holds the end token.
    public func textFeatures(_ tokens: [[Int32]]) -> Tensor { textTower(tokens).pooled.converted(to: .float32) }

    /// exp(logit_scale) · cos(image, text).
    public func logits(imageFeatures_BP: Tensor, textFeatures_NP: Tensor) -> Tensor {
        scaledCosines(imageFeatures_BP, textFeatures_NP, logScale: logitScale)
    }
}
