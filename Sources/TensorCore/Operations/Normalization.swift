/// Layer normalisation over the last axis (biased variance), with optional affine.
///
/// - Parameters:
///   - x: [..., D].
///   - weight: [D]; nil for ones.
///   - bias: [D], where there is a weight; nil for zeros.
///   - epsilon: what is added to the variance.
public func layerNorm(_ x: Tensor, weight: Tensor? = nil, bias: Tensor? = nil, epsilon: Float) -> Tensor {
    precondition(weight == nil || weight?.shape == [x.size(-1)], "layerNorm: \(x.shape), weight \(weight?.shape ?? [])")
    let rows = x.reshaped(-1, x.size(-1))
    let inputs = [rows] + [weight, bias].compactMap { $0 }
    let result = x.engine.layerNorm(rows, weight: weight, bias: bias, epsilon: epsilon).recording(inputs) { upstream in
        let gradients = upstream.engine.layerNormBackward(upstream, input: rows, weight: weight, epsilon: epsilon)
        return [gradients.input] + (weight == nil ? [] : [gradients.weight]) + (bias == nil ? [] : [gradients.bias])
    }
    return result.reshaped(x.shape)
}

/// LN(x)(1 + scale) + shift, the adaptive layer norm of DiT: shift and scale are two rows of a sample's modulation.
///
/// - Parameters:
///   - x: [B, S, D].
///   - modulation: [B, n, D].
///   - shift: a row of the modulation, in [0, n).
///   - scale: another.
///   - epsilon: what is added to the variance.
public func modulatedLayerNorm(_ x: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float) -> Tensor {
    precondition(
        x.rank == 3 && modulation.rank == 3 && modulation.shape[0] == x.shape[0] && modulation.shape[2] == x.shape[2]
            && max(shift, scale) < modulation.shape[1],
        "modulatedLayerNorm: \(x.shape), \(modulation.shape), rows \(shift) and \(scale)")
    return x.engine.modulatedLayerNorm(x, modulation: modulation, shift: shift, scale: scale, epsilon: epsilon)
        .recording([x, modulation]) { upstream in
            let gradients = upstream.engine.modulatedLayerNormBackward(
                upstream, input: x, modulation: modulation, shift: shift, scale: scale, epsilon: epsilon)
            return [gradients.input, gradients.modulation]
        }
}

/// x / sqrt(mean(x²) + eps) · weight over rows of weight's length: the last axis, or each head of it.
///
/// - Parameters:
///   - x: [..., n·D].
///   - weight: [D].
///   - epsilon: what is added to the mean square.
public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor {
    precondition(weight.rank == 1 && x.size(-1) % weight.count == 0, "rmsNorm: \(x.shape), weight \(weight.shape)")
    let rows = x.reshaped(-1, weight.count)
    return x.engine.rmsNorm(rows, weight: weight, epsilon: epsilon).recording([rows, weight]) { upstream in
        let gradients = upstream.engine.rmsNormBackward(upstream, input: rows, weight: weight, epsilon: epsilon)
        return [gradients.input, gradients.weight]
    }.reshaped(x.shape)
}

/// Group normalisation over channels last, then SiLU when asked.
///
/// - Parameters:
///   - x: [B, ..., C].
///   - groupCount: a divisor of C.
///   - weight: [C].
///   - bias: [C].
///   - epsilon: what is added to the variance.
///   - silu: whether SiLU follows.
public func groupNorm(
    _ x: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool = false
) -> Tensor {
    precondition(
        x.rank >= 3 && x.size(-1) % groupCount == 0 && weight.shape == [x.size(-1)] && bias.shape == weight.shape,
        "groupNorm: \(x.shape), \(groupCount) groups, weight \(weight.shape)")
    return x.engine.groupNorm(x, groupCount: groupCount, weight: weight, bias: bias, epsilon: epsilon, silu: silu)
        .recording([x, weight, bias]) { upstream in
            let gradients = upstream.engine.groupNormBackward(
                upstream, input: x, groupCount: groupCount, weight: weight, bias: bias, epsilon: epsilon, silu: silu)
            return [gradients.input, gradients.weight, gradients.bias]
        }
}

extension Tensor {
    /// Softmax over the last axis.
    public func softmax() -> Tensor {
        let output = engine.softmax(self)
        return output.recording([self]) { [$0.engine.softmaxBackward($0, output: output)] }
    }

    /// x / (‖x‖ + eps) over the last axis.
    public func unitNormalized(epsilon: Float = 0) -> Tensor {
        engine.unitNorm(self, epsilon: epsilon).recording([self]) {
            [$0.engine.unitNormBackward($0, input: self, epsilon: epsilon)]
        }
    }
}
