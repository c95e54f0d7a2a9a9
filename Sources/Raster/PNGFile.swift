internal import Platform

/// Cheap checks of PNG files.
package enum PNGFile {
    /// Makes sure that a file is a complete PNG of acceptable size, from its first and last bytes.
    ///
    /// Damage within the compressed pixels is found only on decoding. A file that goes on after its end chunk, which decoders
    /// accept, is decoded here.
    package static func check(_ path: String) throws(RasterError) {
        let file = try File<RasterError>(path, .read)
        let byteCount = try file.byteCount()
        let head = try file.bytes(at: 0, count: min(byteCount, 24))
        let tail = try file.bytes(at: max(0, byteCount - end.count), count: min(byteCount, end.count))
        guard head.count == 24, Array(head[0..<16]) == signature else {
            throw RasterError(
                code: .corrupt, path: path, message: "not a PNG file", remedy: "convert the image to PNG")
        }
        let sides = [16, 20].map { start in head[start..<start + 4].reduce(0) { $0 << 8 | Int($1) } }
        let bounded = sides.allSatisfy { (1...PNGLimits.side).contains($0) }
        if !bounded || sides[0] * sides[1] > PNGLimits.pixelCount || tail != end {
            _ = try RGBImage(pngPath: path)
        }
    }

    /// The file signature, and the length and name of the header chunk that must follow.
    private static let signature: [UInt8] = [
        0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52,
    ]
    /// The whole end chunk.
    private static let end: [UInt8] = [0, 0, 0, 0, 0x49, 0x45, 0x4E, 0x44, 0xAE, 0x42, 0x60, 0x82]
}
