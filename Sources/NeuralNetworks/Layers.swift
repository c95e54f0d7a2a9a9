public import TensorCore

// Legend: B batch, S tokens, D width, N output features, K input features.

/// y = act(x Wᵀ + b).
public struct Linear: Sendable {
    /// [N, K].
    public let weight: Tensor
    /// [N] or nil.
    public let bias: Tensor?

    /// Takes `weight` and, when `bias` is true, `bias`.
    public init(_ weights: Weights, input: Int, output: Int, bias: Bool = true) throws {
        weight = try weights.tensor("weight", shape: [output, input])
        self.bias = bias ? try weights.tensor("bias", shape: [output]) : nil
    }

    /// A layer over tensors that were taken already, rows of a fused projection for example.
    public init(weight: Tensor, bias: Tensor?) {
        self.weight = weight
        self.bias = bias
    }

    /// [..., K] -> [..., N].
    public func callAsFunction(_ x: Tensor, activation: Activation? = nil) -> Tensor {
        linear(x, weight: weight, bias: bias, activation: activation)
    }
}

extension Linear {
    /// base + the layer's output: [..., K] and base [..., N] -> [..., N].
    public func callAsFunction(_ x: Tensor, addedTo base: Tensor) -> Tensor {
        linear(x, weight: weight, bias: bias, addedTo: base)
    }

    /// The layer whose outputs are this one's times `factors` [N], in `dtype`: γ (W x + b) = (γ W) x + γ b.
    public func scaled(by factors: Tensor, dtype: DType) -> Linear {
        Linear(
            weight: weight.scaledRows(by: factors).converted(to: dtype),
            bias: bias.map { ($0 * factors).converted(to: dtype) })
    }
}

/// Layer normalisation over the last axis with weight and bias.
public struct LayerNorm: Sendable {
    let weight: Tensor
    let bias: Tensor
    let epsilon: Float

    /// Takes `weight` and `bias` of the given width.
    public init(_ weights: Weights, width: Int, epsilon: Float) throws {
        weight = try weights.tensor("weight", shape: [width])
        bias = try weights.tensor("bias", shape: [width])
        self.epsilon = epsilon
    }

    /// [..., D] -> [..., D].
    public func callAsFunction(_ x: Tensor) -> Tensor { layerNorm(x, weight: weight, bias: bias, epsilon: epsilon) }
}

/// Root-mean-square normalisation over the last axis, or over each head of it, with weight.
public struct RMSNorm: Sendable {
    let weight: Tensor
    let epsilon: Float

    /// Takes `weight` of the given width.
    public init(_ weights: Weights, width: Int, epsilon: Float) throws {
        weight = try weights.tensor("weight", shape: [width])
        self.epsilon = epsilon
    }

    /// [..., n · D] -> [..., n · D].
    public func callAsFunction(_ x: Tensor) -> Tensor { rmsNorm(x, weight: weight, epsilon: epsilon) }
}

/// Group normalisation over channels last, then SiLU when asked.
public struct GroupNorm: Sendable {
    let groupCount: Int
    let weight: Tensor
    let bias: Tensor
    let epsilon: Float

    /// Takes `weight` and `bias` of the given number of channels.
    public init(_ weights: Weights, groupCount: Int, channels: Int, epsilon: Float) throws {
        self.groupCount = groupCount
        weight = try weights.tensor("weight", shape: [channels])
        bias = try weights.tensor("bias", shape: [channels])
        self.epsilon = epsilon
    }

    /// [B, ..., C] -> [B, ..., C].
    public func callAsFunction(_ x: Tensor, silu: Bool = false) -> Tensor {
        groupNorm(x, groupCount: groupCount, weight: weight, bias: bias, epsilon: epsilon, silu: silu)
    }
}

/// Two-dimensional convolution over channels-last images.
public struct Convolution: Sendable {
    let weight: Tensor
    let bias: Tensor
    let geometry: ConvolutionGeometry

    /// Takes `weight` [output, input, kernel, kernel] and `bias`.
    public init(_ weights: Weights, input: Int, output: Int, kernel: Int, geometry: ConvolutionGeometry) throws {
        weight = try weights.tensor("weight", shape: [output, input, kernel, kernel])
        bias = try weights.tensor("bias", shape: [output])
        self.geometry = geometry
    }

    /// [B, H, W, input] -> [B, H', W', output].
    public func callAsFunction(_ x: Tensor) -> Tensor { convolution(x, weight: weight, bias: bias, geometry: geometry) }
}

/// A table of vectors, one a token.
public struct Embedding: Sendable {
    let table: Tensor

    /// Takes `weight` [count, width].
    public init(_ weights: Weights, count: Int, width: Int) throws {
        table = try weights.tensor("weight", shape: [count, width])
    }

    /// Rows of the table: -> [indices.count, D].
    public func callAsFunction(_ indices: [Int32]) -> Tensor { table.gatheredRows(indices) }
}
