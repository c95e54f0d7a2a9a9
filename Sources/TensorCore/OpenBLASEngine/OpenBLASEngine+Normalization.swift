extension OpenBLASEngine {
    /// Mean and 1 / sqrt(variance + eps) of a run of values.
    private func moments(_ x: ArraySlice<Float>, _ epsilon: Float) -> (mean: Float, scale: Float) {
        let mean = x.reduce(0, +) / Float(x.count)
        let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(x.count)
        return (mean, 1 / (variance + epsilon).squareRoot())
    }

    public func layerNorm(_ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float) -> Tensor {
        let (M, D) = (x.shape[0], x.shape[1])
        var y = x.values
        let (gain, offset) = (weight?.values, bias?.values)
        for row in 0..<M {
            let (mean, scale) = moments(y[row * D..<(row + 1) * D], epsilon)
            for column in 0..<D {
                let normal = (y[row * D + column] - mean) * scale
                y[row * D + column] = normal * (gain?[column] ?? 1) + (offset?[column] ?? 0)
            }
        }
        return result(y, x.shape, like: x)
    }

    /// dx of y = normalised(x) given g = dL/d(normalised), for one row: scale (g - mean(g) - n mean(g n)).
    private func normalizedGradient(_ x: ArraySlice<Float>, _ g: [Float], _ epsilon: Float) -> (
        dx: [Float], normal: [Float]
    ) {
        let (mean, scale) = moments(x, epsilon)
        let normal = x.map { ($0 - mean) * scale }
        let count = Float(normal.count)
        let meanG = g.reduce(0, +) / count
        let meanGN = zip(g, normal).reduce(0) { $0 + $1.0 * $1.1 } / count
        return (zip(g, normal).map { scale * ($0 - meanG - $1 * meanGN) }, normal)
    }

    public func layerNormBackward(
        _ upstream: Tensor, input: Tensor, weight: Tensor?, epsilon: Float
    ) -> (input: Tensor, weight: Tensor?, bias: Tensor?) {
        let (M, D) = (input.shape[0], input.shape[1])
        let (up, x, gain) = (upstream.values, input.values, weight?.values)
        var dx = [Float](repeating: 0, count: x.count)
        var (dWeight, dBias) = ([Float](repeating: 0, count: D), [Float](repeating: 0, count: D))
        for row in 0..<M {
            let range = row * D..<(row + 1) * D
            let g = (0..<D).map { up[row * D + $0] * (gain?[$0] ?? 1) }
            let (rowGradient, normal) = normalizedGradient(x[range], g, epsilon)
            dx.replaceSubrange(range, with: rowGradient)
            for column in 0..<D {
                dWeight[column] += up[row * D + column] * normal[column]
                dBias[column] += up[row * D + column]
            }
        }
        let affine = weight != nil
        return (
            result(dx, input.shape, like: input), affine ? result(dWeight, [D]) : nil, affine ? result(dBias, [D]) : nil
        )
    }

    public func modulatedLayerNorm(_ x: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float) -> Tensor {
        let (B, S, D, n) = (x.shape[0], x.shape[1], x.shape[2], modulation.shape[1])
        var y = x.values
        let rows = modulation.values
        for line in 0..<B * S {
            let (mean, inverse) = moments(y[line * D..<(line + 1) * D], epsilon)
            let sample = line / S
            for column in 0..<D {
                let normal = (y[line * D + column] - mean) * inverse
                y[line * D + column] =
                    normal * (1 + rows[(sample * n + scale) * D + column]) + rows[(sample * n + shift) * D + column]
            }
        }
        return result(y, x.shape, like: x)
    }

    public func modulatedLayerNormBackward(
        _ upstream: Tensor, input: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float
    ) -> (input: Tensor, modulation: Tensor) {
        let (B, S, D, n) = (input.shape[0], input.shape[1], input.shape[2], modulation.shape[1])
        let (up, x, rows) = (upstream.values, input.values, modulation.values)
        var dx = [Float](repeating: 0, count: x.count)
        var dModulation = [Float](repeating: 0, count: rows.count)
        for line in 0..<B * S {
            let (range, sample) = (line * D..<(line + 1) * D, line / S)
            let g = (0..<D).map { up[line * D + $0] * (1 + rows[(sample * n + scale) * D + $0]) }
            let (rowGradient, normal) = normalizedGradient(x[range], g, epsilon)
            dx.replaceSubrange(range, with: rowGradient)
            for column in 0..<D {
                dModulation[(sample * n + scale) * D + column] += up[line * D + column] * normal[column]
                dModulation[(sample * n + shift) * D + column] += up[line * D + column]
            }
        }
        return (result(dx, input.shape, like: input), result(dModulation, modulation.shape, like: modulation))
    }

    public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor {
        let (M, D) = (x.shape[0], x.shape[1])
        var y = x.values
        let gain = weight.values
        for row in 0..<M {
            let mean = y[row * D..<(row + 1) * D].reduce(0) { $0 + $1 * $1 } / Float(D)
            let scale = 1 / (mean + epsilon).squareRoot()
            for column in 0..<D { y[row * D + column] *= scale * gain[column] }
        }
        return result(y, x.shape, like: x)
    }

    public func rmsNormBackward(
        _ upstream: Tensor, input: Tensor, weight: Tensor, epsilon: Float
    ) -> (input: Tensor, weight: Tensor) {
        let (M, D) = (input.shape[0], input.shape[1])
        let (up, x, gain) = (upstream.values, input.values, weight.values)
        var dx = [Float](repeating: 0, count: x.count)
        var dWeight = [Float](repeating: 0, count: D)
        for row in 0..<M {
            let mean = x[row * D..<(row + 1) * D].reduce(0) { $0 + $1 * $1 } / Float(D)
            let scale = 1 / (mean + epsilon).squareRoot()
            var inner: Float = 0
            for column in 0..<D {
                let index = row * D + column
                inner += up[index] * gain[column] * x[index]
                dWeight[column] += up[index] * x[index] * scale
            }
            inner *= scale * scale / Float(D)
            for column in 0..<D {
                let index = row * D + column
                dx[index] = scale * (up[index] * gain[column] - x[index] * inner)
            }
        }
        return (result(dx, input.shape, like: input), result(dWeight, [D]))
    }

    public func groupNorm(
        _ x: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> Tensor {
        let groups = ChannelGroups(x.shape, groupCount)
        var y = x.values
        let (source, gain, offset) = (y, weight.values, bias.values)
        for block in 0..<groups.blockCount {
            let indices = groups.indices(block)
            let (mean, scale) = moments(indices.map { source[$0] }[...], epsilon)
            for index in indices {
                let channel = index % groups.C
                let value = (source[index] - mean) * scale * gain[channel] + offset[channel]
                y[index] = silu ? Activation.silu.value(value) : value
            }
        }
        return result(y, x.shape, like: x)
    }

    public func groupNormBackward(
        _ upstream: Tensor, input: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> (input: Tensor, weight: Tensor, bias: Tensor) {
        let groups = ChannelGroups(input.shape, groupCount)
        let (up, x, gain, offset) = (upstream.values, input.values, weight.values, bias.values)
        var dx = [Float](repeating: 0, count: x.count)
        var (dWeight, dBias) = ([Float](repeating: 0, count: groups.C), [Float](repeating: 0, count: groups.C))
        for block in 0..<groups.blockCount {
            let indices = groups.indices(block)
            let values = indices.map { x[$0] }
            let (mean, scale) = moments(values[...], epsilon)
            let before = indices.map { index in
                guard silu else { return up[index] }
                let channel = index % groups.C
                return up[index] * Activation.silu.slope((x[index] - mean) * scale * gain[channel] + offset[channel])
            }
            let g = zip(indices, before).map { $1 * gain[$0 % groups.C] }
            let (blockGradient, normal) = normalizedGradient(values[...], g, epsilon)
            for (position, index) in indices.enumerated() {
                dx[index] = blockGradient[position]
                dWeight[index % groups.C] += before[position] * normal[position]
                dBias[index % groups.C] += before[position]
            }
        }
        return (result(dx, input.shape, like: input), result(dWeight, [groups.C]), result(dBias, [groups.C]))
    }

    public func softmax(_ x: Tensor) -> Tensor {
        let D = x.size(-1)
        var y = x.values
        for row in 0..<y.count / D {
            let range = row * D..<(row + 1) * D
            let top = y[range].max() ?? 0
            for index in range { y[index] = exp32(y[index] - top) }
            let sum = y[range].reduce(0, +)
            for index in range { y[index] /= sum }
        }
        return result(y, x.shape, like: x)
    }

    public func softmaxBackward(_ upstream: Tensor, output: Tensor) -> Tensor {
        let D = output.size(-1)
        let (up, y) = (upstream.values, output.values)
        var dx = up
        for row in 0..<y.count / D {
            let range = row * D..<(row + 1) * D
            let inner = range.reduce(Float(0)) { $0 + up[$1] * y[$1] }
            for index in range { dx[index] = y[index] * (up[index] - inner) }
        }
        return result(dx, output.shape, like: output)
    }

    public func unitNorm(_ x: Tensor, epsilon: Float) -> Tensor {
        let D = x.size(-1)
        var y = x.values
        for row in 0..<y.count / D {
            let range = row * D..<(row + 1) * D
            let length = y[range].reduce(0) { $0 + $1 * $1 }.squareRoot() + epsilon
            for index in range { y[index] /= length }
        }
        return result(y, x.shape, like: x)
    }

    public func unitNormBackward(_ upstream: Tensor, input: Tensor, epsilon: Float) -> Tensor {
        let D = input.size(-1)
        let (up, x) = (upstream.values, input.values)
        var dx = up
        for row in 0..<x.count / D {
            let range = row * D..<(row + 1) * D
            let length = x[range].reduce(0) { $0 + $1 * $1 }.squareRoot()
            let inner = range.reduce(Float(0)) { $0 + up[$1] * x[$1] }
            let total = length + epsilon
            for index in range { dx[index] = up[index] / total - x[index] * inner / (length * total * total) }
        }
        return result(dx, input.shape, like: input)
    }
}

/// Which elements of a channels-last array [B, ..., C] belong to each (sample, group).
private struct ChannelGroups {
    let C: Int
    let blockCount: Int
    private let pixels: Int, width: Int, groupCount: Int

    init(_ shape: [Int], _ groupCount: Int) {
        C = shape[shape.count - 1]
        pixels = shape[1..<shape.count - 1].reduce(1, *)
        width = C / groupCount
        self.groupCount = groupCount
        blockCount = shape[0] * groupCount
    }

    func indices(_ block: Int) -> [Int] {
        let (sample, group) = (block / groupCount, block % groupCount)
        return (0..<pixels).flatMap { pixel in
            let start = (sample * pixels + pixel) * C + group * width
            return start..<start + width
        }
    }
}
