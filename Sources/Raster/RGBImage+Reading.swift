internal import Platform

extension RGBImage {
    /// Reads an image file: PNG, JPEG or WebP, by its content and not by its name.
    ///
    /// The image is turned as its EXIF or XMP orientation says, as Pillow's `ImageOps.exif_transpose` does. Colour profiles are not
    /// applied, as Pillow's `convert("RGB")` does not.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - background: what shows through transparent pixels, mixed as Pillow's `alpha_composite` does.
    /// - Throws: `unreadable`; `unsupported` for other formats and animations; `tooLarge` beyond `ImageLimits`; `corrupt`.
    public init(path: String, background: RGBColor = .white) throws(RasterError) {
        let bytes = try FileAccess.read(path, byteLimit: ImageLimits.byteCount)
        try self.init(encoded: bytes, path: path, background: background)
    }

    /// Decodes an image file held in memory, as `init(path:)`.
    ///
    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - path: named in errors when the bytes came from a file.
    ///   - background: what shows through transparent pixels.
    public init(encoded bytes: [UInt8], path: String? = nil, background: RGBColor = .white) throws(RasterError) {
        let decoded: DecodedImage
        let metadata: OrientationMetadata
        switch ImageFormat(head: bytes) {
        case .png:
            metadata = try pngOrientation(bytes, path: path)
            decoded = try decodePNG(bytes, path: path)
        case .jpeg:
            metadata = JPEGSegments(bytes).orientation
            decoded = try decodeJPEG(bytes, path: path)
        case .webp: (decoded, metadata) = try decodeWebP(bytes, path: path)
        case .other(let name, let remedy):
            throw RasterError(code: .unsupported, path: path, message: name, remedy: remedy)
        }
        let pixels = decoded.channels == 4 ? composite(decoded.pixels, over: background) : decoded.pixels
        self.init(width: decoded.width, height: decoded.height, pixels: pixels)
        self = turned(metadata.orientation)
    }
}

/// What a decoder makes of a file.
struct DecodedImage {
    var width: Int
    var height: Int
    /// 3: sRGB; 4: straight (not premultiplied) sRGB and alpha.
    var channels: Int
    /// [height, width, channels]
    var pixels: [UInt8]
}

extension RasterError {
    /// A damaged file of a format that is read, with the decoder's words.
    static func damaged(_ format: String, _ words: String, path: String?) -> RasterError {
        RasterError(
            code: .corrupt, path: path, message: "not a readable \(format) (\(words))",
            remedy: "export the image again or leave it out")
    }

    /// A file of several pictures.
    static func animated(_ format: String, path: String?) -> RasterError {
        RasterError(
            code: .unsupported, path: path, message: "an animated \(format)", remedy: "save one of its pictures as PNG")
    }
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
