/// Tensors joined along an axis.
public func concatenated(_ parts: [Tensor], axis: Int) -> Tensor {
    precondition(!parts.isEmpty, "concatenated: nothing to join")
    precondition(
        parts[0].shape.indices.contains(axis), "concatenated: axis \(axis) of \(parts[0].shape), counted from the first"
    )
    if parts.count == 1 { return parts[0] }
    let lengths = parts.map { $0.shape[axis] }
    return parts[0].engine.concatenate(parts, axis: axis).recording(parts) { upstream in
        var start = 0
        return zip(parts, lengths).map { part, length in
            defer { start += length }
            return part.isTracked ? upstream.engine.slice(upstream, axis: axis, range: start..<start + length) : nil
        }
    }
}

extension Tensor {
    /// A range of an axis.
    public func sliced(axis: Int, _ range: Range<Int>) -> Tensor {
        let axis = axis < 0 ? rank + axis : axis
        precondition(
            axis < rank && range.lowerBound >= 0 && range.upperBound <= shape[axis],
            "slice \(range) of axis \(axis) of \(shape)")
        if axis == 0 { return rows(range) }
        let total = shape[axis]
        return engine.slice(self, axis: axis, range: range).recording([self]) { upstream in
            [upstream.engine.padded(upstream, axis: axis, before: range.lowerBound, after: total - range.upperBound)]
        }
    }

    /// Axes in another order: result axis i is axis `axes[i]` of this tensor.
    public func transposed(_ axes: Int...) -> Tensor {
        precondition(axes.sorted() == Array(0..<rank), "transposed: axes \(axes) of \(shape)")
        let inverse = axes.indices.sorted { axes[$0] < axes[$1] }
        return engine.transpose(self, axes: axes).recording([self]) { [$0.engine.transpose($0, axes: inverse)] }
    }

    /// Each pixel four times: [B, H, W, C] -> [B, 2H, 2W, C].
    public func upsampledNearest() -> Tensor {
        precondition(rank == 4, "upsampledNearest: \(shape)")
        return engine.upsampleNearest(self).recording([self]) { [$0.engine.upsampleNearestBackward($0)] }
    }

    /// Rows of this table [V, D]: -> [indices.count, D].
    public func gatheredRows(_ indices: [Int32]) -> Tensor {
        precondition(rank == 2, "gatheredRows: \(shape)")
        let rowCount = shape[0]
        precondition(indices.allSatisfy { $0 >= 0 && $0 < rowCount }, "gatheredRows: index outside 0..<\(rowCount)")
        return engine.gatherRows(self, indices: indices).recording([self]) {
            [$0.engine.scatterRows($0, indices: indices, rowCount: rowCount)]
        }
    }

    /// Images resized as torch's bicubic `interpolate(align_corners: false)` without antialiasing, [B, H, W, C]. The gradient is
    /// computed on the host.
    public func resizedBicubic(height: Int, width: Int) -> Tensor {
        precondition(rank == 4, "resizedBicubic: \(shape)")
        let (sourceHeight, sourceWidth) = (shape[1], shape[2])
        if sourceHeight == height && sourceWidth == width { return self }
        return engine.resizeBicubic(self, height: height, width: width).recording([self]) { upstream in
            let columns = upstream.scatteringTaps(CubicTaps(from: sourceWidth, to: width), along: 2, to: sourceWidth)
            return [columns.scatteringTaps(CubicTaps(from: sourceHeight, to: height), along: 1, to: sourceHeight)]
        }
    }

    /// Each element of an axis added, by its weights, to the four it was made of: the transposed resampling.
    private func scatteringTaps(_ taps: CubicTaps, along axis: Int, to length: Int) -> Tensor {
        let (before, after) = (shape[..<axis].reduce(1, *), shape[(axis + 1)...].reduce(1, *))
        let (count, given) = (shape[axis], values)
        var sums = [Float](repeating: 0, count: before * length * after)
        for block in 0..<(engine.computes ? before : 0) {
            for target in 0..<count {
                for tap in 4 * target..<4 * target + 4 {
                    let (from, to) = ((block * count + target) * after, (block * length + taps.indices[tap]) * after)
                    for index in 0..<after { sums[to + index] += taps.weights[tap] * given[from + index] }
                }
            }
        }
        var shape = shape
        shape[axis] = length
        return engine.tensor(sums, shape: shape, dtype: dtype)
    }
}

/// Images cut into non-overlapping squares, each one token: [B, C, H, W] -> [B, (H/p)(W/p), C·p·p], features in the order
/// (channel, row, column) of a patch convolution's weight.
public func patchified(_ x_BCHW: Tensor, patch: Int) -> Tensor {
    let (B, C, H, W) = (x_BCHW.shape[0], x_BCHW.shape[1], x_BCHW.shape[2], x_BCHW.shape[3])
    precondition(H % patch == 0 && W % patch == 0, "patchified: \(x_BCHW.shape) by \(patch)")
    return x_BCHW.reshaped(B, C, H / patch, patch, W / patch, patch)
        .transposed(0, 2, 4, 1, 3, 5).reshaped(B, H / patch * (W / patch), C * patch * patch)
}

/// Tokens laid back into an image, features in the order (row, column, channel) of SD3's output projection:
/// [B, (H/p)(W/p), p·p·C] -> [B, C, H, W].
public func unpatchified(_ tokens: Tensor, patch: Int, height: Int, width: Int) -> Tensor {
    let B = tokens.shape[0]
    let C = tokens.shape[2] / (patch * patch)
    precondition(
        tokens.shape[1] * patch * patch == height * width, "unpatchified: \(tokens.shape) to \(height) x \(width)")
    return tokens.reshaped(B, height / patch, width / patch, patch, patch, C)
        .transposed(0, 5, 1, 3, 2, 4).reshaped(B, C, height, width)
}
