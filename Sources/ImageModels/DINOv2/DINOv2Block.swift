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
    /// Layer scales that are not part of the projections before them.
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
        let inner = configuration.feedForwardWidth
        up = try Linear(weights.scoped("mlp.fc1"), input: width, output: usesSwiGLU ? 2 * inner : inner)
        func branchEnd(_ name: String, input: Int, scale: String) throws -> (Linear, Tensor?) {
            try DINOv2Block.branchEnd(
                weights, projection: name, input: input, output: width,
                scale: configuration.hasLayerScale ? scale + ".gamma" : nil)
        }
        (output, scale1) = try branchEnd("attn.proj", input: width, scale: "ls1")
        (down, scale2) = try branchEnd("mlp.fc2", input: inner, scale: "ls2")
    }

    /// The projection that ends a branch, with the branch's layer scale in it, multiplied in fp32. A mapped projection would be
    /// copied by that: it stays as it is, and the scale is returned beside it.
    private static func branchEnd(
        _ weights: Weights, projection: String, input: Int, output: Int, scale: String?
    ) throws -> (Linear, Tensor?) {
        guard let scale else { return (try Linear(weights.scoped(projection), input: input, output: output), nil) }
        if weights.isMapped {
            return (
                try Linear(weights.scoped(projection), input: input, output: output),
                try weights.tensor(scale, shape: [output])
            )
        }
        let exact = weights.inPrecision(.float32)
        let layer = try Linear(exact.scoped(projection), input: input, output: output)
        return (layer.scaled(by: try exact.tensor(scale, shape: [output]), dtype: weights.dtype), nil)
    }

    private static func projection(_ weights: Weights, width: Int) throws -> Linear {
        try Linear(weights, input: width, output: width, bias: weights.contains("bias"))
    }

    /// Views of the three thirds of a fused projection; DINOv3 may store biases of queries and values beside it.
    private static func fused(
        _ weights: Weights, queryBias: Tensor?, valueBias: Tensor?, width: Int
    ) throws -> (Linear, Linear, Linear) {
        let matrix = try weights.tensor("weight", shape: [3 * width, width])
        let bias = weights.contains("bias") ? try masked(weights.tensor("bias", shape: [3 * width]), weights) : nil
        func third(_ index: Int, own: Tensor?) -> Linear {
            let rows = index * width..<(index + 1) * width
            return Linear(
                weight: matrix.rows(rows), bias: own ?? bias?.rows(rows))
        }
        return (third(0, own: queryBias), third(1, own: nil), third(2, own: valueBias))
    }

    /// Meta's DINOv3 multiplies the bias by a mask that takes the keys' third away. A mask that is NaN was never filled in.
    private static func masked(_ bias: Tensor, _ weights: Weights) throws -> Tensor {
        guard weights.contains("bias_mask") else { return bias }
        let (mask, width) = (try weights.values("bias_mask"), bias.count / 3)
        guard mask.count == bias.count else {
            throw ModelError(
                code: .wrongShape, source: weights.source,
                message: "tensor \(weights.path("bias_mask")) has \(mask.count) elements, the bias \(bias.count)")
        }
        let factors = mask.enumerated().map { index, value in
            value.isFinite ? value : (width..<2 * width).contains(index) ? 0 : 1
        }
        return bias * bias.engine.tensor(factors, shape: bias.shape, dtype: bias.dtype)
    }

    /// [B, T, D] -> [B, T, D].
    func callAsFunction(_ x: Tensor, rotary: RotaryPositions?) -> Tensor {
        let normalized = norm1(x)
        let (q, k) = (query(normalized), key(normalized))
        let attended = attention(rotary?(q) ?? q, rotary?(k) ?? k, value(normalized), headCount: headCount)
        let middle = added(output, of: attended, scale: scale1, to: x)
        return added(down, of: hidden(norm2(middle)), scale: scale2, to: middle)
    }

    /// base + scale · layer(x).
    private func added(_ layer: Linear, of x: Tensor, scale: Tensor?, to base: Tensor) -> Tensor {
        scale.map { base + layer(x) * $0 } ?? layer(x, addedTo: base)
    }

    private func hidden(_ x: Tensor) -> Tensor {
        guard usesSwiGLU else { return up(x, activation: .geluErf) }
        let both = up(x)
        let half = both.size(-1) / 2
        return both.sliced(axis: -1, 0..<half).activated(.silu) * both.sliced(axis: -1, half..<2 * half)
    }
}
