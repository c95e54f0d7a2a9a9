extension OpenBLASEngine {
    // MARK: Reduction

    public func sumRows(_ x: Tensor, trailing: Int) -> Tensor {
        let values = x.values
        var sums = [Float](repeating: 0, count: trailing)
        for index in values.indices { sums[index % trailing] += values[index] }
        return result(sums, [trailing])
    }

    public func meanBlocks(_ x: Tensor, rows: Int) -> Tensor {
        let values = x.values
        let block = values.count / rows
        let means = (0..<rows).map { row in
            Float(values[row * block..<(row + 1) * block].reduce(0.0) { $0 + Double($1) } / Double(block))
        }
        return result(means, [rows])
    }

    public func spread(_ x: Tensor, to shape: [Int], dtype: DType) -> Tensor {
        let (values, count) = (x.values, shape.reduce(1, *))
        let block = count / max(values.count, 1)
        return tensor((0..<count).map { values[$0 / block] }, shape: shape, dtype: dtype)
    }

    public func topMean(_ x: Tensor, count: Int) -> Tensor {
        let (M, N) = (x.shape[0], x.shape[1])
        let values = x.values
        let means = (0..<M).map { row in
            values[row * N..<(row + 1) * N].sorted(by: >).prefix(count).reduce(0, +) / Float(count)
        }
        return result(means, [M])
    }

    public func topMeanBackward(_ upstream: Tensor, input: Tensor, count: Int) -> Tensor {
        let (M, N) = (input.shape[0], input.shape[1])
        let (up, values) = (upstream.values, input.values)
        var dx = [Float](repeating: 0, count: values.count)
        for row in 0..<M {
            let order = (row * N..<(row + 1) * N).sorted { (values[$0], -$0) > (values[$1], -$1) }
            for index in order.prefix(count) { dx[index] = up[row] / Float(count) }
        }
        return result(dx, input.shape, like: input)
    }

    public func tokenStatistics(_ x: Tensor) -> Tensor {
        let (B, N, D) = (x.shape[0], x.shape[1], x.shape[2])
        let values = x.values
        var out = [Float](repeating: 0, count: B * 4 * D)
        for sample in 0..<B {
            for feature in 0..<D {
                let column = (0..<N).map { values[(sample * N + $0) * D + feature] }
                let mean = column.reduce(0, +) / Float(N)
                let variance = column.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Float(N)
                let statistics = [mean, variance.squareRoot(), column.max() ?? 0, column.min() ?? 0]
                for (kind, value) in statistics.enumerated() { out[(sample * 4 + kind) * D + feature] = value }
            }
        }
        return result(out, [B, 4 * D])
    }

    // MARK: Layout

    public func concatenate(_ parts: [Tensor], axis: Int) -> Tensor {
        let outer = parts[0].shape[..<axis].reduce(1, *)
        let inner = parts[0].shape[(axis + 1)...].reduce(1, *)
        let arrays = parts.map(\.values)
        var out: [Float] = []
        for block in 0..<outer {
            for (part, values) in zip(parts, arrays) {
                let length = part.shape[axis] * inner
                out.append(contentsOf: values[block * length..<(block + 1) * length])
            }
        }
        var shape = parts[0].shape
        shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
        return result(out, shape, like: parts[0])
    }

    public func slice(_ x: Tensor, axis: Int, range: Range<Int>) -> Tensor {
        let outer = x.shape[..<axis].reduce(1, *)
        let inner = x.shape[(axis + 1)...].reduce(1, *)
        let values = x.values
        var out: [Float] = []
        for block in 0..<outer {
            let start = block * x.shape[axis] * inner
            out.append(contentsOf: values[start + range.lowerBound * inner..<start + range.upperBound * inner])
        }
        var shape = x.shape
        shape[axis] = range.count
        return result(out, shape, like: x)
    }

    public func padded(_ x: Tensor, axis: Int, before: Int, after: Int) -> Tensor {
        var front = x.shape
        front[axis] = before
        var back = x.shape
        back[axis] = after
        return concatenate([zeros(front, dtype: x.dtype), x, zeros(back, dtype: x.dtype)], axis: axis)
    }

    public func transpose(_ x: Tensor, axes: [Int]) -> Tensor {
        let shape = axes.map { x.shape[$0] }
        var strides = [Int](repeating: 1, count: x.rank)
        for axis in stride(from: x.rank - 2, through: 0, by: -1) {
            strides[axis] = strides[axis + 1] * x.shape[axis + 1]
        }
        let steps = axes.map { strides[$0] }
        let values = x.values
        var out: [Float] = []
        out.reserveCapacity(values.count)
        var position = [Int](repeating: 0, count: shape.count)
        var source = 0
        for _ in values.indices {
            out.append(values[source])
            for axis in stride(from: shape.count - 1, through: 0, by: -1) {
                position[axis] += 1
                source += steps[axis]
                if position[axis] < shape[axis] { break }
                source -= steps[axis] * shape[axis]
                position[axis] = 0
            }
        }
        return result(out, shape, like: x)
    }

    public func gatherRows(_ table: Tensor, indices: [Int32]) -> Tensor {
        let D = table.shape[1]
        let values = table.values
        return result(indices.flatMap { values[Int($0) * D..<(Int($0) + 1) * D] }, [indices.count, D], like: table)
    }

    public func scatterRows(_ rows: Tensor, indices: [Int32], rowCount: Int) -> Tensor {
        let D = rows.shape[1]
        let values = rows.values
        var table = [Float](repeating: 0, count: rowCount * D)
        for (row, index) in indices.enumerated() {
            for column in 0..<D { table[Int(index) * D + column] += values[row * D + column] }
        }
        return result(table, [rowCount, D])
    }

    public func resizeBicubic(_ x: Tensor, height: Int, width: Int) -> Tensor {
        let (B, H, W, C) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        let (rows, columns) = (CubicTaps(from: H, to: height), CubicTaps(from: W, to: width))
        let values = x.values
        var out = [Float](repeating: 0, count: B * height * width * C)
        for sample in 0..<B {
            for row in 0..<height {
                for column in 0..<width {
                    for channel in 0..<C {
                        var sum: Float = 0
                        for tapRow in 0..<4 {
                            var line: Float = 0
                            for tapColumn in 0..<4 {
                                let y = rows.indices[row * 4 + tapRow]
                                let x = columns.indices[column * 4 + tapColumn]
                                line +=
                                    columns.weights[column * 4 + tapColumn]
                                    * values[((sample * H + y) * W + x) * C + channel]
                            }
                            sum += rows.weights[row * 4 + tapRow] * line
                        }
                        out[((sample * height + row) * width + column) * C + channel] = sum
                    }
                }
            }
        }
        return result(out, [B, height, width, C], like: x)
    }
}

/// The four source pixels and weights of each target pixel along one axis: cubic convolution with a = -0.75, half-pixel
/// centres, edges repeated. Source: torch `upsample_bicubic2d`.
struct CubicTaps {
    var indices: [Int] = []
    var weights: [Float] = []

    init(from source: Int, to target: Int) {
        let scale = Float(source) / Float(target)
        let a: Float = -0.75
        func near(_ x: Float) -> Float { ((a + 2) * x - (a + 3)) * x * x + 1 }
        func far(_ x: Float) -> Float { ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
        for position in 0..<target {
            let centre = scale * (Float(position) + 0.5) - 0.5
            let base = centre.rounded(.down)
            let t = centre - base
            weights += [far(t + 1), near(t), near(1 - t), far(2 - t)]
            indices += (-1...2).map { min(max(Int(base) + $0, 0), source - 1) }
        }
    }
}
