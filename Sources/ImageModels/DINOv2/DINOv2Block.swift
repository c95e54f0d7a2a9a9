import NeuralNetworks
import TensorCore

/// x += ls1 · attention(norm1(x)), then x += ls2 · mlp(norm2(x)).
///
/// - Source: timm models/vision_transformer.py, `Block`, `Attention`, `LayerScale`; layers/mlp.py, `GluMlp` with gate last
///   false. Differences: none.
struct DINOv2Block {
    let headCount: Int
    let usesSwiGLU: Bool
    let norm1: LayerNorm, norm2: LayerNorm
    let query: Linear, key: Linear, value: Linear, output: Linear
    let up: Linear, down: Linear
    let scale1: Tensor?, scale2: Tensor?

    init(_ weights: Weights, _ configuration: DINOv2Configuration) throws {
        let width = configuration.width
        headCount = configuration.headCount
        usesSwiGLU = configuration.usesSwiGLU
        norm1 = try LayerNorm(weights.scoped("norm1"), width: width, epsilon: configuration.normEpsilon)
        norm2 = try LayerNorm(weights.scoped("norm2"), width: width, epsilon: configuration.normEpsilon)
        let attention = weights.scoped("attn")
        if attention.contains("qkv.weight") {
            func bias(_ name: String) throws -> Tensor? {
                attention.contains(name) ? try attention.tensor(name, shape: [width]) : nil
            }
            (query, key, value) = try DINOv2Block.fused(
                attention.scoped("qkv"), queryBias: bias("q_bias"), valueBias: bias("v_bias"), width: width)
        } else {
            query = try DINOv2Block.projection(attention.scoped("q"), width: width)
            key = try DINOv2Block.projection(attention.scoped("k"), width: width)
            value = try DINOv2Block.projection(attention.scoped("v"), width: width)
        }
        output = try Linear(attention.scoped("proj"), input: width, output: width)
        let inner = configuration.feedForwardWidth
        up = try Linear(weights.scoped("mlp.fc1"), input: width, output: usesSwiGLU ? 2 * inner : inner)
        down = try Linear(weights.scoped("mlp.fc2"), input: inner, output: width)
        scale1 = configuration.hasLayerScale ? try weights.tensor("ls1.gamma", shape: [width]) : nil
        scale2 = configuration.hasLayerScale ? try weights.tensor("ls2.gamma", shape: [width]) : nil
    }

    private static func projection(_ weights: Weights, width: Int) throws -> Linear {
        try Linear(weights, input: width, output: width, bias: weights.contains("bias"))
    }

    /// Views of the three thirds of a fused projection; DINOv3 may store biases of queries and values beside it.
    private static func fused(
        _ weights: Weights, queryBias: Tensor?, valueBias: Tensor?, width: Int
    ) throws -> (Linear, Linear, Linear) {
        let matrix = try weights.tensor("weight", shape: [3 * width, width])
        let bias = weights.contains("bias") ? try weights.tensor("bias", shape: [3 * width]) : nil
        func third(_ index: Int, own: Tensor?) -> Linear {
            let rows = index * width..<(index + 1) * width
            return Linear(
                name: weights.scope + ".\(index)", weight: matrix.rows(rows), bias: own ?? bias?.rows(rows))
        }
        return (third(0, own: queryBias), third(1, own: nil), third(2, own: valueBias))
    }

    /// [B, T, D] -> [B, T, D].
    func callAsFunction(_ x: Tensor, rotary: RotaryPositions?) -> Tensor {
        let normalized = norm1(x)
        let (q, k) = (query(normalized), key(normalized))
        let attended = output(
            attention(rotary?(q) ?? q, rotary?(k) ?? k, value(normalized), headCount: headCount))
        let middle = x + (scale1.map { attended * $0 } ?? attended)
        let fed = down(hidden(norm2(middle)))
        return middle + (scale2.map { fed * $0 } ?? fed)
    }

    private func hidden(_ x: Tensor) -> Tensor {
        guard usesSwiGLU else { return up(x, activation: .geluErf) }
        let both = up(x)
        let half = both.size(-1) / 2
        return both.sliced(axis: -1, 0..<half).activated(.silu) * both.sliced(axis: -1, half..<2 * half)
    }
}
