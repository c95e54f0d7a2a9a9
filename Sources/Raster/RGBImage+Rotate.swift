internal import LibC

extension RGBImage {
    /// The image turned about its centre within its own frame, as Pillow's `rotate(angle, BICUBIC, fillcolor:)`.
    ///
    /// Each output pixel centre is mapped back and interpolated with the cubic kernel a = -1 of Pillow's transforms (not the a = -0.5 of
    /// its resizing); results are truncated to 8 bits, as there.
    ///
    /// - Parameters:
    ///   - degrees: counterclockwise, finite.
    ///   - fill: the colour of what turns into view.
    /// - Source: Pillow, `Image.rotate` and `src/libImaging/Geometry.c`. Differences: multiples of 90 degrees are interpolated too.
    public func rotated(degrees: Double, fill: RGBColor) -> RGBImage {
        precondition(degrees.isFinite, "rotated: \(degrees) degrees")
        let radians = -degrees.truncatingRemainder(dividingBy: 360) * .pi / 180
        let cosine = cos(radians)
        let sine = sin(radians)
        let centerX = Double(width) / 2
        let centerY = Double(height) / 2
        let shiftX = centerX - cosine * centerX - sine * centerY
        let shiftY = centerY + sine * centerX - cosine * centerY
        var output = [UInt8](repeating: 0, count: pixels.count)
        pixels.withUnsafeBufferPointer { source in
            output.withUnsafeMutableBufferPointer { target in
                for y in 0..<height {
                    for x in 0..<width {
                        let column = Double(x) + 0.5
                        let row = Double(y) + 0.5
                        let sourceX = cosine * column + sine * row + shiftX
                        let sourceY = -sine * column + cosine * row + shiftY
                        let isInside =
                            sourceX >= 0 && sourceX < Double(width) && sourceY >= 0 && sourceY < Double(height)
                        let color = isInside ? interpolated(source, sourceX - 0.5, sourceY - 0.5) : fill
                        let start = (y * width + x) * 3
                        target[start] = color.red
                        target[start + 1] = color.green
                        target[start + 2] = color.blue
                    }
                }
            }
        }
        return RGBImage(width: width, height: height, pixels: output)
    }

    /// The colour between pixels, edges extended; the three channels are computed side by side.
    @inline(__always)
    private func interpolated(_ source: UnsafeBufferPointer<UInt8>, _ x: Double, _ y: Double) -> RGBColor {
        let left = Int(x.rounded(.down))
        let top = Int(y.rounded(.down))
        let fractionX = x - Double(left)
        let fractionY = y - Double(top)
        // Byte offsets of the four columns within a row.
        let columns = (
            max(0, left - 1) * 3, max(0, left) * 3, min(width - 1, left + 1) * 3, min(width - 1, left + 2) * 3
        )
        @inline(__always) func sample(_ offset: Int) -> SIMD4<Double> {
            SIMD4(Double(source[offset]), Double(source[offset + 1]), Double(source[offset + 2]), 0)
        }
        @inline(__always) func row(_ line: Int) -> SIMD4<Double> {
            let start = max(0, min(height - 1, line)) * width * 3
            return cubic(
                sample(start + columns.0), sample(start + columns.1), sample(start + columns.2),
                sample(start + columns.3), fractionX)
        }
        let color = cubic(row(top - 1), row(top), row(top + 1), row(top + 2), fractionY)
        @inline(__always) func level(_ value: Double) -> UInt8 { UInt8(max(0, min(255, value))) }
        return RGBColor(red: level(color.x), green: level(color.y), blue: level(color.z))
    }
}

/// The cubic through `b` (at 0) and `c` (at 1) with slopes (c - a) and (d - b), a = -1 in Keys' family.
@inline(__always)
private func cubic(
    _ a: SIMD4<Double>, _ b: SIMD4<Double>, _ c: SIMD4<Double>, _ d: SIMD4<Double>, _ t: Double
) -> SIMD4<Double> {
    let first = c - a
    let second = 2 * (a - b) + c - d
    let third = b - a + d - c
    return b + t * (first + t * (second + t * third))
}
