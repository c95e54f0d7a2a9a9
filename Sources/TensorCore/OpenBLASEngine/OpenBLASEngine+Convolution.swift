extension OpenBLASEngine {
    public func convolution(_ x: Tensor, weight: Tensor, bias: Tensor?, geometry: ConvolutionGeometry) -> Tensor {
        let window = Window(input: x.shape, weight: weight.shape, geometry)
        let (columns, kernel) = (window.unfold(x.values), window.flatten(weight.values))
        var y = sgemm(columns, kernel, m: window.rows, n: window.outputChannels, k: window.depth)
        if let bias = bias?.values {
            for index in y.indices { y[index] += bias[index % window.outputChannels] }
        }
        return result(y, window.outputShape, like: x)
    }

    public func convolutionInputGradient(
        _ upstream: Tensor, weight: Tensor, inputShape: [Int], geometry: ConvolutionGeometry
    ) -> Tensor {
        let window = Window(input: inputShape, weight: weight.shape, geometry)
        let columns = sgemm(
            upstream.values, window.flatten(weight.values), m: window.rows, n: window.depth, k: window.outputChannels,
            transposeB: true)
        return result(window.fold(columns), inputShape, like: upstream)
    }

    public func convolutionWeightGradient(
        _ upstream: Tensor, input: Tensor, weightShape: [Int], geometry: ConvolutionGeometry
    ) -> Tensor {
        let window = Window(input: input.shape, weight: weightShape, geometry)
        let flat = sgemm(
            window.unfold(input.values), upstream.values, m: window.depth, n: window.outputChannels, k: window.rows,
            transposeA: true)
        return result(window.unflatten(flat), weightShape)
    }

    public func upsampleNearest(_ x: Tensor) -> Tensor {
        let (B, H, W, C) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        let source = x.values
        var y = [Float](repeating: 0, count: 4 * source.count)
        for sample in 0..<B {
            for row in 0..<2 * H {
                for column in 0..<2 * W {
                    let from = ((sample * H + row / 2) * W + column / 2) * C
                    let to = ((sample * 2 * H + row) * 2 * W + column) * C
                    for channel in 0..<C { y[to + channel] = source[from + channel] }
                }
            }
        }
        return result(y, [B, 2 * H, 2 * W, C], like: x)
    }

    public func upsampleNearestBackward(_ upstream: Tensor) -> Tensor {
        let (B, H, W, C) = (upstream.shape[0], upstream.shape[1] / 2, upstream.shape[2] / 2, upstream.shape[3])
        let source = upstream.values
        var y = [Float](repeating: 0, count: source.count / 4)
        for sample in 0..<B {
            for row in 0..<2 * H {
                for column in 0..<2 * W {
                    let to = ((sample * H + row / 2) * W + column / 2) * C
                    let from = ((sample * 2 * H + row) * 2 * W + column) * C
                    for channel in 0..<C { y[to + channel] += source[from + channel] }
                }
            }
        }
        return result(y, [B, H, W, C], like: upstream)
    }
}

/// The index arithmetic of one convolution: images unfolded into rows of (kernel row, kernel column, channel).
private struct Window {
    let B: Int, H: Int, W: Int, C: Int
    let kernelHeight: Int, kernelWidth: Int, outputChannels: Int
    let outputHeight: Int, outputWidth: Int
    let geometry: ConvolutionGeometry

    init(input: [Int], weight: [Int], _ geometry: ConvolutionGeometry) {
        (B, H, W, C) = (input[0], input[1], input[2], input[3])
        (outputChannels, kernelHeight, kernelWidth) = (weight[0], weight[2], weight[3])
        self.geometry = geometry
        outputHeight = geometry.outputSize(H, kernel: kernelHeight, before: geometry.top, after: geometry.bottom)
        outputWidth = geometry.outputSize(W, kernel: kernelWidth, before: geometry.left, after: geometry.right)
    }

    var rows: Int { B * outputHeight * outputWidth }
    var depth: Int { kernelHeight * kernelWidth * C }
    var outputShape: [Int] { [B, outputHeight, outputWidth, outputChannels] }

    /// Calls `body(column index, image index)` for the first channel of every pixel under every window.
    private func visit(_ body: (Int, Int) -> Void) {
        for sample in 0..<B {
            for row in 0..<outputHeight {
                for column in 0..<outputWidth {
                    let line = (sample * outputHeight + row) * outputWidth + column
                    for dy in 0..<kernelHeight {
                        let y = row * geometry.stride + dy - geometry.top
                        guard y >= 0, y < H else { continue }
                        for dx in 0..<kernelWidth {
                            let x = column * geometry.stride + dx - geometry.left
                            guard x >= 0, x < W else { continue }
                            body(line * depth + (dy * kernelWidth + dx) * C, ((sample * H + y) * W + x) * C)
                        }
                    }
                }
            }
        }
    }

    func unfold(_ image: [Float]) -> [Float] {
        var columns = [Float](repeating: 0, count: rows * depth)
        visit { to, from in for channel in 0..<C { columns[to + channel] = image[from + channel] } }
        return columns
    }

    func fold(_ columns: [Float]) -> [Float] {
        var image = [Float](repeating: 0, count: B * H * W * C)
        visit { from, to in for channel in 0..<C { image[to + channel] += columns[from + channel] } }
        return image
    }

    /// [Cout, Cin, kh, kw] -> [kh·kw·Cin, Cout].
    func flatten(_ weight: [Float]) -> [Float] {
        var flat = [Float](repeating: 0, count: weight.count)
        visitWeight { flatIndex, index in flat[flatIndex] = weight[index] }
        return flat
    }

    func unflatten(_ flat: [Float]) -> [Float] {
        var weight = [Float](repeating: 0, count: flat.count)
        visitWeight { flatIndex, index in weight[index] = flat[flatIndex] }
        return weight
    }

    private func visitWeight(_ body: (Int, Int) -> Void) {
        let area = kernelHeight * kernelWidth
        for output in 0..<outputChannels {
            for channel in 0..<C {
                for tap in 0..<area {
                    body((tap * C + channel) * outputChannels + output, (output * C + channel) * area + tap)
                }
            }
        }
    }
}
