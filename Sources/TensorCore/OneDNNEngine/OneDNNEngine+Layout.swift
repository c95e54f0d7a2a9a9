import CKernels

extension OneDNNEngine {
    // MARK: Reduction

    public func sumRows(_ x: Tensor, trailing: Int) -> Tensor {
        let result = make([trailing], .float32)
        kernel_sum_rows(x.dtype.kernel, HostTensors.pointer(x), x.count / max(trailing, 1), trailing, result.floats)
        return result.tensor
    }

    public func meanBlocks(_ x: Tensor, rows: Int) -> Tensor {
        let result = make([rows], .float32)
        kernel_mean_blocks(x.dtype.kernel, HostTensors.pointer(x), rows, x.count / max(rows, 1), result.floats)
        return result.tensor
    }

    public func spread(_ x: Tensor, to shape: [Int], dtype: DType) -> Tensor {
        let result = make(shape, dtype)
        withFloats(x) {
            kernel_spread(dtype.kernel, $0, x.count, result.tensor.count / max(x.count, 1), result.pointer)
        }
        return result.tensor
    }

    public func topMean(_ x: Tensor, count: Int) -> Tensor {
        let (M, N) = (x.shape[0], x.shape[1])
        let result = make([M], .float32)
        withScratch(N) { kernel_top_mean(x.dtype.kernel, HostTensors.pointer(x), M, N, count, $0, result.floats) }
        return result.tensor
    }

    public func topMeanBackward(_ upstream: Tensor, input: Tensor, count: Int) -> Tensor {
        let (M, N) = (input.shape[0], input.shape[1])
        let result = make(like: input)
        withScratch(N) { scratch in
            withFloats(upstream) { upstream in
                kernel_top_mean_backward(
                    input.dtype.kernel, upstream, HostTensors.pointer(input), M, N, count, scratch, result.pointer)
            }
        }
        return result.tensor
    }

    public func tokenStatistics(_ x: Tensor) -> Tensor {
        let (B, N, D) = (x.shape[0], x.shape[1], x.shape[2])
        let result = make([B, 4 * D], .float32)
        for sample in 0..<B {
            kernel_token_statistics(
                x.dtype.kernel, HostTensors.pointer(x) + sample * N * D * x.dtype.byteCount, N, D,
                result.floats + sample * 4 * D)
        }
        return result.tensor
    }

    // MARK: Layout

    public func concatenate(_ parts: [Tensor], axis: Int) -> Tensor {
        let first = parts[0]
        var shape = first.shape
        shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
        let result = make(shape, first.dtype)
        let inner = shape[(axis + 1)...].reduce(1, *) * first.dtype.byteCount
        var start = 0
        for part in parts {
            let length = part.shape[axis] * inner
            withElements(part, first.dtype) {
                copyBlocks(
                    shape[..<axis].reduce(1, *), length, from: $0, every: length, to: result.pointer + start,
                    every: shape[axis] * inner)
            }
            start += length
        }
        return result.tensor
    }

    public func slice(_ x: Tensor, axis: Int, range: Range<Int>) -> Tensor {
        var shape = x.shape
        shape[axis] = range.count
        let result = make(shape, x.dtype)
        let inner = shape[(axis + 1)...].reduce(1, *) * x.dtype.byteCount
        copyBlocks(
            shape[..<axis].reduce(1, *), range.count * inner, from: HostTensors.pointer(x) + range.lowerBound * inner,
            every: x.shape[axis] * inner, to: result.pointer, every: range.count * inner)
        return result.tensor
    }

    public func padded(_ x: Tensor, axis: Int, before: Int, after: Int) -> Tensor {
        var shape = x.shape
        shape[axis] += before + after
        let result = make(shape, x.dtype)
        let inner = shape[(axis + 1)...].reduce(1, *) * x.dtype.byteCount
        let (length, total) = (x.shape[axis] * inner, shape[axis] * inner)
        let source = HostTensors.pointer(x)
        for block in 0..<shape[..<axis].reduce(1, *) {
            let target = result.pointer + block * total
            target.initializeMemory(as: UInt8.self, repeating: 0, count: before * inner)
            (target + before * inner).copyMemory(from: source + block * length, byteCount: length)
            (target + before * inner + length).initializeMemory(as: UInt8.self, repeating: 0, count: after * inner)
        }
        return result.tensor
    }

    private func copyBlocks(
        _ count: Int, _ length: Int, from source: UnsafeMutableRawPointer, every sourceStep: Int,
        to target: UnsafeMutableRawPointer, every targetStep: Int
    ) {
        for block in 0..<count {
            (target + block * targetStep).copyMemory(from: source + block * sourceStep, byteCount: length)
        }
    }

    public func transpose(_ x: Tensor, axes: [Int]) -> Tensor {
        let shape = axes.map { x.shape[$0] }
        let result = make(shape, x.dtype)
        guard x.count > 0 else { return result.tensor }
        let loops = Permutation(x.shape, axes)
        let size = x.dtype.byteCount
        var target = result.pointer
        let (n, s) = (loops.inner.map(\.length), loops.inner.map(\.stride))
        loops.eachOuter { offset in
            kernel_permute(
                x.dtype.kernel, HostTensors.pointer(x) + offset * size, n[0], n[1], n[2], s[0], s[1], s[2], target)
            target += n[0] * n[1] * n[2] * size
        }
        return result.tensor
    }

    public func upsampleNearest(_ x: Tensor) -> Tensor {
        let (B, H, W, C) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        let result = make([B, 2 * H, 2 * W, C], x.dtype)
        let pixel = C * x.dtype.byteCount
        let source = HostTensors.pointer(x)
        for row in 0..<B * H {
            let target = result.pointer + row * 4 * W * pixel
            for column in 0..<W {
                let from = source + (row * W + column) * pixel
                (target + 2 * column * pixel).copyMemory(from: from, byteCount: pixel)
                (target + (2 * column + 1) * pixel).copyMemory(from: from, byteCount: pixel)
            }
            (target + 2 * W * pixel).copyMemory(from: target, byteCount: 2 * W * pixel)
        }
        return result.tensor
    }

    public func upsampleNearestBackward(_ upstream: Tensor) -> Tensor {
        let (B, H, W, C) = (upstream.shape[0], upstream.shape[1] / 2, upstream.shape[2] / 2, upstream.shape[3])
        let result = make([B, H, W, C], upstream.dtype)
        // Rows of all samples are alike: B images of H rows are one of B · H.
        kernel_upsample_backward(upstream.dtype.kernel, HostTensors.pointer(upstream), B * H, W, C, result.pointer)
        return result.tensor
    }

    public func gatherRows(_ table: Tensor, indices: [Int32]) -> Tensor {
        let row = table.shape[1] * table.dtype.byteCount
        let result = make([indices.count, table.shape[1]], table.dtype)
        let source = HostTensors.pointer(table)
        for (position, index) in indices.enumerated() {
            (result.pointer + position * row).copyMemory(from: source + Int(index) * row, byteCount: row)
        }
        return result.tensor
    }

    public func scatterRows(_ rows: Tensor, indices: [Int32], rowCount: Int) -> Tensor {
        let D = rows.shape[1]
        let result = makeZeros([rowCount, D])
        kernel_scatter_rows(rows.dtype.kernel, HostTensors.pointer(rows), indices, indices.count, D, result.floats)
        return result.tensor
    }

    public func resizeBicubic(_ x: Tensor, height: Int, width: Int) -> Tensor {
        let (B, H, W, C) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
        let result = make([B, height, width, C], x.dtype)
        let size = x.dtype.byteCount
        withScratch(H * width * C) { scratch in
            for sample in 0..<B {
                kernel_resize_bicubic(
                    x.dtype.kernel, HostTensors.pointer(x) + sample * H * W * C * size, H, W, C, height, width, scratch,
                    result.pointer + sample * height * width * C * size)
            }
        }
        return result.tensor
    }

    /// fp32 zeros to be added to.
    func makeZeros(_ shape: [Int]) -> Unfilled {
        let result = make(shape, .float32)
        result.pointer.initializeMemory(as: UInt8.self, repeating: 0, count: result.tensor.count * 4)
        return result
    }
}

/// The loops that visit a tensor in another order of axes, neighbouring axes that stay together merged into one.
private struct Permutation {
    struct Loop {
        var length: Int, stride: Int
    }
    /// The three innermost loops, and those around them.
    let inner: [Loop], outer: [Loop]

    init(_ shape: [Int], _ axes: [Int]) {
        var strides = [Int](repeating: 1, count: shape.count)
        for axis in stride(from: shape.count - 2, through: 0, by: -1) {
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        }
        var loops: [Loop] = []
        for axis in axes where shape[axis] > 1 {
            if let last = loops.last, last.stride == shape[axis] * strides[axis] {
                loops[loops.count - 1] = Loop(length: last.length * shape[axis], stride: strides[axis])
            } else {
                loops.append(Loop(length: shape[axis], stride: strides[axis]))
            }
        }
        while loops.count < 3 { loops.insert(Loop(length: 1, stride: 0), at: 0) }
        inner = Array(loops.suffix(3))
        outer = Array(loops.dropLast(3))
    }

    /// Calls `body` with the source offset of every combination of the outer loops, in order.
    func eachOuter(_ body: (Int) -> Void) {
        func visit(_ depth: Int, _ offset: Int) {
            if depth == outer.count { return body(offset) }
            for index in 0..<outer[depth].length { visit(depth + 1, offset + index * outer[depth].stride) }
        }
        visit(0, 0)
    }
}
