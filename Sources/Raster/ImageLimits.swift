/// What an image may be at most, whatever its format; checked before any pixel memory is allocated.
public enum ImageLimits {
    /// Longest side, in pixels.
    public static let side = 16_384
    /// Most pixels of one image (64 Mi: 256 MiB while decoding).
    public static let pixelCount = 1 << 26
    /// Largest file, in bytes.
    public static let byteCount = 1 << 29

    /// Whether an image of this size is read.
    static func allow(width: Int, height: Int) -> Bool {
        (1...side).contains(width) && (1...side).contains(height) && width * height <= pixelCount
    }

    /// Refuses an image of a size that is not read.
    static func check(width: Int, height: Int, path: String?) throws(RasterError) {
        guard !allow(width: width, height: height) else { return }
        throw RasterError(
            code: .tooLarge, path: path,
            message: "\(width) x \(height) pixels, at most \(side) a side and \(pixelCount) in all are read",
            remedy: "scale the image down")
    }
}
