extension RGBImage {
    /// The image at another size, equal bit for bit to Pillow's `Image.resize((width, height), filter)`.
    ///
    /// Two passes; each rounds its 22-bit fixed-point sums to 8 bits, and a pass that would keep the size is left out.
    /// Columns come first, unless the height loses more than twice what the width loses: Pillow 13's rule, which changes single levels.
    /// Pillow 12 and earlier always begin with columns; square images are the same in both.
    ///
    /// - Precondition: both sides are positive.
    /// - Complexity: O(pixels x kernel width), one intermediate image.
    /// - Source: Pillow 13.0.0, `src/libImaging/Resample.c`. Differences: none for 8-bit RGB and the whole image.
    public func resized(width newWidth: Int, height newHeight: Int, filter: ResamplingFilter) -> RGBImage {
        precondition(newWidth > 0 && newHeight > 0, "resized: \(newWidth) x \(newHeight) has no pixels")
        let rowsFirst = newHeight < height && height - newHeight > 2 * (width - newWidth)
        var image = self
        if rowsFirst { image = image.resampledRows(to: newHeight, filter) }
        image = image.resampledColumns(to: newWidth, filter)
        return image.resampledRows(to: newHeight, filter)
    }

    private func resampledColumns(to newWidth: Int, _ filter: ResamplingFilter) -> RGBImage {
        guard newWidth != width else { return self }
        let weights = ResamplingWeights(filter, from: width, to: newWidth)
        let bytes = resample(to: newWidth * height * 3, weights) { source, output, values in
            for x in 0..<newWidth {
                let start = weights.starts[x]
                let count = weights.counts[x]
                let kernel = values + x * weights.stride
                for y in 0..<height {
                    var red = half
                    var green = half
                    var blue = half
                    var pixel = source + (y * width + start) * 3
                    for tap in 0..<count {
                        red &+= Int32(pixel[0]) &* kernel[tap]
                        green &+= Int32(pixel[1]) &* kernel[tap]
                        blue &+= Int32(pixel[2]) &* kernel[tap]
                        pixel += 3
                    }
                    let target = output + (y * newWidth + x) * 3
                    target[0] = clipped(red)
                    target[1] = clipped(green)
                    target[2] = clipped(blue)
                }
            }
        }
        return RGBImage(width: newWidth, height: height, pixels: bytes)
    }

    private func resampledRows(to newHeight: Int, _ filter: ResamplingFilter) -> RGBImage {
        guard newHeight != height else { return self }
        let weights = ResamplingWeights(filter, from: height, to: newHeight)
        let rowCount = width * 3
        let bytes = resample(to: newHeight * rowCount, weights) { source, output, values in
            var sums = [Int32](repeating: half, count: rowCount)
            for y in 0..<newHeight {
                for column in 0..<rowCount { sums[column] = half }
                for tap in 0..<weights.counts[y] {
                    let row = source + (weights.starts[y] + tap) * rowCount
                    let weight = values[y * weights.stride + tap]
                    for column in 0..<rowCount { sums[column] &+= Int32(row[column]) &* weight }
                }
                let target = output + y * rowCount
                for column in 0..<rowCount { target[column] = clipped(sums[column]) }
            }
        }
        return RGBImage(width: width, height: newHeight, pixels: bytes)
    }

    private func resample(
        to byteCount: Int, _ weights: ResamplingWeights,
        _ body: (UnsafePointer<UInt8>, UnsafeMutablePointer<UInt8>, UnsafePointer<Int32>) -> Void
    ) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
            pixels.withUnsafeBufferPointer { source in
                weights.values.withUnsafeBufferPointer { values in
                    // No buffer is empty: every image has a pixel, every output a weight.
                    body(source.baseAddress!, buffer.baseAddress!, values.baseAddress!)
                }
            }
            count = byteCount
        }
    }
}

/// One half in fixed point: rounds the sum.
private let half = Int32(1) << Int32(ResamplingWeights.fractionBits - 1)

@inline(__always)
private func clipped(_ sum: Int32) -> UInt8 {
    UInt8(max(0, min(255, sum >> Int32(ResamplingWeights.fractionBits))))
}
