internal import CJPEG
internal import LibC

extension RGBImage {
    /// The image as a baseline JPEG file in memory, with libjpeg's defaults: chroma halved in both directions, its own Huffman tables.
    ///
    /// Pillow's `save(format="JPEG", quality=...)` makes the same bytes with the same library.
    ///
    /// - Parameter quality: 1...100.
    /// - Throws: `unwritable` when a side is longer than JPEG allows, 65,500 pixels.
    public func jpegBytes(quality: Int) throws(RasterError) -> [UInt8] {
        precondition((1...100).contains(quality), "JPEG quality \(quality)")
        var bytes: UnsafeMutablePointer<UInt8>?
        var message = JPEGMessage()
        // No buffer is empty: every image has a pixel.
        let count = pixels.withUnsafeBufferPointer { pixels in
            message.fill {
                cjpeg_encode(pixels.baseAddress!, Int32(width), Int32(height), Int32(quality), &bytes, $0)
            }
        }
        defer { free(bytes) }
        guard let bytes else {
            throw RasterError(
                code: .unwritable, path: nil,
                message: "libjpeg cannot encode \(width) x \(height) pixels (\(message.text))",
                remedy: "make the image smaller")
        }
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }
}
