public import TensorCore

// Legend: B images, N texts, H image size, P width of the common space.

/// A dual encoder: images and texts in one space, and how well they fit.
public protocol ImageTextModel: Sendable {
    /// Side H of the images in pixels.
    var imageSize: Int { get }
    /// Most tokens of a text.
    var tokenLimit: Int { get }
    /// Number of tokens known.
    var vocabularySize: Int { get }

    /// Where images lie in the common space, of any length.
    ///
    /// - Parameter pixels_BCHW: normalised, [B, 3, H, H].
    /// - Returns: fp32 [B, P].
    func imageFeatures(_ pixels_BCHW: Tensor) -> Tensor

    /// Where texts lie in the common space, of any length.
    ///
    /// - Parameter tokens: N padded sequences of one length, as the model's tokenizer makes them.
    /// - Returns: fp32 [N, P].
    func textFeatures(_ tokens: [[Int32]]) -> Tensor

    /// How well each image fits each text: transformers' `logits_per_image`.
    ///
    /// - Returns: fp32 [B, N].
    func logits(imageFeatures_BP: Tensor, textFeatures_NP: Tensor) -> Tensor
}

/// exp(scale) · cos(image, text) + bias: fp32 [B, P], [N, P] -> fp32 [B, N].
///
/// - Parameters:
///   - logScale: one number, as `logit_scale` is stored.
///   - bias: fp32, one number; nil adds none.
/// - Source: transformers models/clip/modeling_clip.py `CLIPModel.forward`, models/siglip/modeling_siglip.py `SiglipModel.forward`.
func scaledCosines(_ images_BP: Tensor, _ texts_NP: Tensor, logScale: Tensor, bias: Tensor? = nil) -> Tensor {
    let cosines = linear(images_BP.unitNormalized(), weight: texts_NP.unitNormalized())
    let scale = logScale.converted(to: .float32).activated(.exp).reshaped(1, 1)
    return linear(cosines.reshaped(-1, 1), weight: scale, bias: bias).reshaped(cosines.shape[0], cosines.shape[1])
}
