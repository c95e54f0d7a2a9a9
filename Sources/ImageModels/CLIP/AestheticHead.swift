public import NeuralNetworks
public import TensorCore

// Legend: B images, P width of CLIP's common space.

/// The predictor of people's ratings, 1 to 10, over CLIP-L's image features: five linear layers without non-linearities.
///
/// - Source: christophschuhmann/improved-aesthetic-predictor, `sac+logos+ava1-l14-linearMSE` (768-1024-128-64-16-1). Differences:
///   none; its dropout acts in training only.
public struct AestheticHead: Sendable {
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    private let layers: [Linear]

    /// Name of the checkpoint, saved as safetensors.
    public static let fileName = "sac+logos+ava1-l14-linearMSE.safetensors"

    /// Takes `layers.0`, `2`, `4`, `6` and `7`; the hidden widths are the file's.
    ///
    /// - Parameters:
    ///   - weights: of the checkpoint.
    ///   - width: P.
    /// - Throws: `ModelError` unless the layers lead from P features to one number and nothing is left over.
    public init(_ weights: Weights, width: Int) throws {
        var input = width
        var layers: [Linear] = []
        // Dropout has the numbers between, and the last two layers follow each other.
        for (name, isLast) in [("0", false), ("2", false), ("4", false), ("6", false), ("7", true)] {
            let layer = weights.scoped("layers." + name)
            let output = isLast ? 1 : try layer.shape(of: "weight").first ?? 1
            layers.append(try Linear(layer, input: input, output: output))
            input = output
        }
        self.layers = layers
        parameters = try weights.finish()
    }

    /// - Parameter imageFeatures_BP: `CLIPModel.imageFeatures`, of any length; they are scaled to unit length here.
    /// - Returns: ratings, fp32 [B].
    public func callAsFunction(_ imageFeatures_BP: Tensor) -> Tensor {
        layers.reduce(imageFeatures_BP.unitNormalized()) { $1($0) }.reshaped(imageFeatures_BP.shape[0])
    }
}
