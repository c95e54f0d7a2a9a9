internal import Platform

/// Cheap checks of image files.
package enum ImageFile {
    /// Makes sure that a file is a complete image of a format that is read and of acceptable size, from its first and last bytes.
    ///
    /// Damage within the compressed pixels is found only on decoding. A file whose ends do not tell, as one that goes on after its
    /// end, which decoders accept, is decoded here.
    package static func check(_ path: String) throws(RasterError) {
        let file = try File<RasterError>(path, .read)
        let byteCount = try file.byteCount()
        let head = try file.bytes(at: 0, count: min(byteCount, headByteCount))
        let tail = try file.bytes(at: max(0, byteCount - 12), count: min(byteCount, 12))
        let size: (width: Int, height: Int)?
        switch ImageFormat(head: head) {
        case .png: size = tail == pngEnd ? pngSize(head) : nil
        case .jpeg: size = tail.suffix(2) == [0xFF, 0xD9] ? JPEGSegments(head).size : nil
        case .webp: size = webPByteCount(head) == byteCount ? webPSize(head: head) : nil
        case .other: size = nil
        }
        if let size, ImageLimits.allow(width: size.width, height: size.height) { return }
        _ = try RGBImage(path: path)
    }

    /// Room for the metadata that cameras put before a JPEG's size.
    private static let headByteCount = 1 << 16

    /// The size in the header chunk, which must come first; nil when it does not.
    private static func pngSize(_ head: [UInt8]) -> (width: Int, height: Int)? {
        guard head.count >= 24, Array(head[8..<16]) == [0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52] else { return nil }
        let sides = [16, 20].map { start in head[start..<start + 4].reduce(0) { $0 << 8 | Int($1) } }
        return (width: sides[0], height: sides[1])
    }

    /// A PNG's whole end chunk.
    private static let pngEnd: [UInt8] = [0, 0, 0, 0, 0x49, 0x45, 0x4E, 0x44, 0xAE, 0x42, 0x60, 0x82]
}
