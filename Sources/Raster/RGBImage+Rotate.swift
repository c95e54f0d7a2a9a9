#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

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
        var output = RGBImage(width: width, height: height, color: fill)
        for y in 0..<height {
            for x in 0..<width {
                let column = Double(x) + 0.5
                let row = Double(y) + 0.5
                let sourceX = cosine * column + sine * row + shiftX
                let sourceY = -sine * column + cosine * row + shiftY
                guard sourceX >= 0, sourceX < Double(width), sourceY >= 0, sourceY < Double(height) else { continue }
                output[x, y] = interpolated(sourceX - 0.5, sourceY - 0.5)
            }
        }
        return output
    }

    /// The colour between pixels, edges extended.
    private func interpolated(_ x: Double, _ y: Double) -> RGBColor {
        let left = Int(x.rounded(.down))
        let top = Int(y.rounded(.down))
        let fractionX = x - Double(left)
        let fractionY = y - Double(top)
        func channel(_ index: Int) -> UInt8 {
            func row(_ offset: Int) -> Double {
                let start = max(0, min(height - 1, top + offset)) * width
                func sample(_ step: Int) -> Double {
                    Double(pixels[(start + max(0, min(width - 1, left + step))) * 3 + index])
                }
                return cubic(sample(-1), sample(0), sample(1), sample(2), fractionX)
            }
            return UInt8(max(0, min(255, cubic(row(-1), row(0), row(1), row(2), fractionY))))
        }
        return RGBColor(red: channel(0), green: channel(1), blue: channel(2))
    }
}

/// The cubic through `b` (at 0) and `c` (at 1) with slopes (c - a) and (d - b), a = -1 in Keys' family.
private func cubic(_ a: Double, _ b: Double, _ c: Double, _ d: Double, _ t: Double) -> Double {
    let first = c - a
    let second = 2 * (a - b) + c - d
    let third = b - a + d - c
    return b + t * (first + t * (second + t * third))
}
