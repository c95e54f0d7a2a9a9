public import TensorCore

/// A convolution whose kernel is its stride, as one product over flattened patches.
public struct PatchEmbedding: Sendable {
    let weight: Tensor
    let bias: Tensor?
    let patch: Int

    /// Takes `weight` [width, channels, patch, patch] and, when `bias` is true, `bias`.
    public init(_ weights: Weights, channels: Int, patch: Int, width: Int, bias: Bool = true) throws {
        weight = try weights.tensor("weight", shape: [width, channels, patch, patch])
        self.bias = bias ? try weights.tensor("bias", shape: [width]) : nil
        self.patch = patch
    }

    /// [B, C, H, W] -> [B, (H/p)(W/p), width], row by row.
    public func callAsFunction(_ x_BCHW: Tensor) -> Tensor {
        linear(patchified(x_BCHW, patch: patch), weight: weight.reshaped(weight.shape[0], -1), bias: bias)
    }
}
