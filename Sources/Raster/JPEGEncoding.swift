internal import CJPEG

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

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
        var count = 0
        let message = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CJPEG_MESSAGE_SIZE)) { message in
            message.initialize(repeating: 0)
            // No buffer is empty: it has a size of its own, and every image a pixel.
            count = pixels.withUnsafeBufferPointer {
                cjpeg_encode(
                    $0.baseAddress!, Int32(width), Int32(height), Int32(quality), &bytes, message.baseAddress!)
            }
            return String(cString: message.baseAddress!)
        }
        defer { free(bytes) }
        guard let bytes else {
            throw RasterError(
                code: .unwritable, path: nil,
                message: "libjpeg cannot encode \(width) x \(height) pixels (\(message))",
                remedy: "make the image smaller")
        }
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }
}
