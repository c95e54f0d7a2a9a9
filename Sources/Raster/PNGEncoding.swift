internal import CPNG
internal import Platform

extension RGBImage {
    /// The image as a PNG file in memory, 8-bit RGB marked sRGB.
    ///
    /// The bytes depend only on the pixels and the libpng and zlib in use.
    public func pngBytes() throws(RasterError) -> [UInt8] {
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        image.width = png_uint_32(width)
        image.height = png_uint_32(height)
        image.format = png_uint_32(PNG_FORMAT_FLAG_COLOR)
        defer { png_image_free(&image) }
        let limit = encodedByteLimit
        var succeeded = false
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            var size = png_alloc_size_t(limit)
            succeeded = pixels.withUnsafeBytes {
                png_image_write_to_memory(
                    &image, buffer.baseAddress, &size, 0, $0.baseAddress, png_int_32(width * 3), nil) != 0
            }
            count = succeeded ? Int(size) : 0
        }
        guard succeeded else {
            throw RasterError(
                code: .unwritable, path: nil,
                message: "libpng cannot encode \(width) x \(height) pixels (\(message(of: image)))",
                remedy: "make the image smaller")
        }
        return bytes
    }

    /// Writes the image as a PNG file: temporary name, sync, rename, so that no reader sees half a file.
    public func writePNG(to path: String) throws(RasterError) {
        try FileAccess.replace(path, with: try pngBytes())
    }

    /// libpng's `PNG_IMAGE_PNG_SIZE_MAX`, a macro that Swift cannot import.
    private var encodedByteLimit: Int {
        let data = pixels.count + height
        let compressed = data + (data + 7) / 8 + (data + 63) / 64 + 11
        return 8 + 25 + 16 + 44 + 12 + 12 + 12 * (compressed / Int(PNG_ZBUF_SIZE)) + compressed
    }
}
