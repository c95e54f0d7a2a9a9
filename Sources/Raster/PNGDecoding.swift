internal import CPNG
internal import Platform

/// What a PNG may be at most, checked before any pixel memory is allocated.
public enum PNGLimits {
    /// Longest side, in pixels.
    public static let side = 16_384
    /// Most pixels of one image (64 Mi: 256 MiB while decoding).
    public static let pixelCount = 1 << 26
    /// Largest file, in bytes.
    public static let byteCount = 1 << 29
}

extension RGBImage {
    /// Reads a PNG file of any colour type and depth.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - background: what shows through transparent pixels.
    public init(pngPath path: String, background: RGBColor = .white) throws(RasterError) {
        let bytes = try FileAccess.read(path, byteLimit: PNGLimits.byteCount)
        try self.init(png: bytes, path: path, background: background)
    }

    /// Decodes a PNG held in memory.
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - path: named in errors when the bytes came from a file.
    ///   - background: what shows through transparent pixels, mixed as Pillow's `alpha_composite` does.
    public init(png bytes: [UInt8], path: String? = nil, background: RGBColor = .white) throws(RasterError) {
        let decoded = try decodePNG(bytes, path: path)
        self.init(
            width: decoded.width, height: decoded.height, pixels: composite(decoded.pixels, over: background))
    }
}

/// Straight (not premultiplied) sRGB RGBA, [height, width, 4].
private struct DecodedPNG {
    var width: Int
    var height: Int
    var pixels: [UInt8]
}

private func decodePNG(_ bytes: [UInt8], path: String?) throws(RasterError) -> DecodedPNG {
    func corrupt(_ message: String) -> RasterError {
        RasterError(
            code: .corrupt, path: path, message: "not a readable PNG (\(message))",
            remedy: "re-export or remove the file")
    }
    return try bytes.withUnsafeBufferPointer { memory throws(RasterError) -> DecodedPNG in
        var image = png_image()
        image.version = png_uint_32(PNG_IMAGE_VERSION)
        // Frees libpng's state on every path; the read functions have already done so on failure.
        defer { png_image_free(&image) }
        guard let base = memory.baseAddress else { throw corrupt("empty") }
        guard png_image_begin_read_from_memory(&image, base, memory.count) != 0 else {
            throw corrupt(message(of: image))
        }
        let width = Int(image.width)
        let height = Int(image.height)
        guard width > 0, height > 0 else { throw corrupt("\(width) x \(height) pixels") }
        guard max(width, height) <= PNGLimits.side, width * height <= PNGLimits.pixelCount else {
            throw RasterError(
                code: .tooLarge, path: path,
                message: "\(width) x \(height) pixels, at most \(PNGLimits.side) a side and "
                    + "\(PNGLimits.pixelCount) in all are read",
                remedy: "scale the image down")
        }
        image.format = png_uint_32(PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA)
        // 16-bit files are sRGB in practice; libpng would take them for linear light.
        image.flags |= png_uint_32(PNG_IMAGE_FLAG_16BIT_sRGB)
        var succeeded = false
        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 4) { buffer, count in
            succeeded = png_image_finish_read(&image, nil, buffer.baseAddress, png_int_32(width * 4), nil) != 0
            count = succeeded ? width * height * 4 : 0
        }
        guard succeeded else { throw corrupt(message(of: image)) }
        return DecodedPNG(width: width, height: height, pixels: pixels)
    }
}

/// libpng's own words about what went wrong.
func message(of image: png_image) -> String {
    withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// Lays RGBA pixels over an opaque colour; Pillow's `alpha_composite`, whose integer steps are kept so that results are equal.
private func composite(_ rgba: [UInt8], over background: RGBColor) -> [UInt8] {
    let behind = [UInt32(background.red), UInt32(background.green), UInt32(background.blue)]
    let pixelCount = rgba.count / 4
    return [UInt8](unsafeUninitializedCapacity: pixelCount * 3) { buffer, count in
        for pixel in 0..<pixelCount {
            let alpha = UInt32(rgba[pixel * 4 + 3])
            for channel in 0..<3 {
                let mixed = UInt32(rgba[pixel * 4 + channel]) * alpha + behind[channel] * (255 - alpha) + 128
                buffer[pixel * 3 + channel] = UInt8((((mixed << 7) >> 8) + (mixed << 7)) >> 15)
            }
        }
        count = pixelCount * 3
    }
}
