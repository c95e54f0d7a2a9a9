internal import CPNG

/// The pixels of a PNG of any colour type and depth.
func decodePNG(_ bytes: [UInt8], path: String?) throws(RasterError) -> DecodedImage {
    func corrupt(_ message: String) -> RasterError { .damaged("PNG", message, path: path) }
    return try bytes.withUnsafeBufferPointer { memory throws(RasterError) -> DecodedImage in
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
        try ImageLimits.check(width: width, height: height, path: path)
        image.format = png_uint_32(PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA)
        // 16-bit files are sRGB in practice; libpng would take them for linear light.
        image.flags |= png_uint_32(PNG_IMAGE_FLAG_16BIT_sRGB)
        var succeeded = false
        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 4) { buffer, count in
            succeeded = png_image_finish_read(&image, nil, buffer.baseAddress, png_int_32(width * 4), nil) != 0
            count = succeeded ? width * height * 4 : 0
        }
        guard succeeded else { throw corrupt(message(of: image)) }
        return DecodedImage(width: width, height: height, channels: 4, pixels: pixels)
    }
}

/// What the chunks of a PNG, which libpng's simplified reader skips, say of its orientation.
///
/// - Throws: `unsupported` for an animation. Damaged chunks are left to libpng.
func pngOrientation(_ bytes: [UInt8], path: String?) throws(RasterError) -> OrientationMetadata {
    func number(at offset: Int) -> Int { bytes[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) } }
    let xmpKeyword = Array("XML:com.adobe.xmp".utf8) + [0, 0, 0]  // neither compressed nor of another method
    var metadata = OrientationMetadata()
    var position = 8
    while position + 12 <= bytes.count {
        let start = position + 8
        let length = number(at: position)
        guard length <= bytes.count - start - 4 else { break }
        let content = bytes[start..<start + length]
        switch String(decoding: bytes[position + 4..<start], as: UTF8.self) {
        case "acTL" where length >= 4 && number(at: start) > 1: throw .animated("PNG", path: path)
        case "eXIf": metadata.exif = content
        case "iTXt" where content.starts(with: xmpKeyword): metadata.xmp = content
        case "IEND": return metadata
        default: break
        }
        position = start + length + 4
    }
    return metadata
}

/// libpng's own words about what went wrong.
func message(of image: png_image) -> String {
    withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
