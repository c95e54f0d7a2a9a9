public import NeuralNetworks
public import TensorCore

// Legend: B images, N texts, P width of the common space, H image size.

/// SigLIP's dual encoder: images and texts in one space, trained with a sigmoid for each pair.
///
/// - Source: transformers models/siglip/modeling_siglip.py `SiglipModel`. Differences: none.
public struct SiglipModel: TransformersModel {
    /// Sizes.
    public let configuration: SiglipConfiguration
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    /// Precision of weights and activations.
    public let dtype: DType
    public let engine: any Engine
    let textTower: SiglipTextTower
    let visionTower: SiglipVisionTower
    private let logitScale: Tensor
    private let logitBias: Tensor

    /// Takes all its tensors from `weights`; the position numbers that old files store are left out.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: SiglipConfiguration, weights: Weights) throws {
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        textTower = try SiglipTextTower(configuration, weights: weights)
        visionTower = try SiglipVisionTower(configuration, weights: weights)
        logitScale = try weights.tensor("logit_scale", shape: [1])
        logitBias = try weights.tensor("logit_bias", shape: [1])
        parameters = try weights.finish()
    }
}

extension SiglipModel: ImageTextModel {
    public var imageSize: Int { configuration.imageSize }
    public var tokenLimit: Int { configuration.positionCount }
    public var vocabularySize: Int { configuration.vocabularySize }

    /// `get_image_features`.
    public func imageFeatures(_ pixels_BCHW: Tensor) -> Tensor {
        visionTower(pixels_BCHW.converted(to: dtype)).pooled.converted(to: .float32)
    }

    /// `get_text_features`; the model was trained on texts padded to `tokenLimit`.
    public func textFeatures(_ tokens: [[Int32]]) -> Tensor { textTower(tokens).pooled.converted(to: .float32) }

    /// exp(logit_scale) · cos(image, text) + logit_bias.
    public func logits(imageFeatures_BP: Tensor, textFeatures_NP: Tensor) -> Tensor {
        scaledCosines(
            imageFeatures_BP, textFeatures_NP, logScale: logitScale, bias: logitBias.converted(to: .float32))
    }
}
