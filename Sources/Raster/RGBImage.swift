/// One 8-bit sRGB colour.
public struct RGBColor: Sendable, Hashable {
    public var red: UInt8
    public var green: UInt8
    public var blue: UInt8

    /// Makes a colour of three components in 0...255.
    public init(red: UInt8, green: UInt8, blue: UInt8) {
        self.red = red
        self.green = green
        self.blue = blue
    }

    /// (255, 255, 255)
    public static let white = RGBColor(red: 255, green: 255, blue: 255)
    /// (0, 0, 0)
    public static let black = RGBColor(red: 0, green: 0, blue: 0)
}

/// An 8-bit RGB image: `pixels` is row-major [height, width, 3], the layout of the wire's image tensors.
///
/// A value: always consistent, at least one pixel large.
public struct RGBImage: Sendable, Hashable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// Row-major [height, width, 3]; always `width * height * 3` bytes.
    public private(set) var pixels: [UInt8]

    /// Wraps the bytes of an image.
    ///
    /// - Parameters:
    ///   - width: in pixels.
    ///   - height: in pixels.
    ///   - pixels: row-major [height, width, 3].
    /// - Precondition: both sides are positive and the byte count fits them.
    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(width > 0 && height > 0, "RGBImage: \(width) x \(height) has no pixels")
        precondition(
            pixels.count == width * height * 3,
            "RGBImage: \(width) x \(height) needs \(width * height * 3) bytes, not \(pixels.count)")
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// An image of one colour.
    ///
    /// - Precondition: both sides are positive.
    public init(width: Int, height: Int, color: RGBColor) {
        precondition(width > 0 && height > 0, "RGBImage: \(width) x \(height) has no pixels")
        let bytes = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
            for index in 0..<width * height {
                buffer[index * 3] = color.red
                buffer[index * 3 + 1] = color.green
                buffer[index * 3 + 2] = color.blue
            }
            count = width * height * 3
        }
        self.init(width: width, height: height, pixels: bytes)
    }

    /// The colour at column `x`, row `y`.
    ///
    /// - Precondition: the point lies inside.
    public subscript(x: Int, y: Int) -> RGBColor {
        get {
            let start = offset(x, y)
            return RGBColor(red: pixels[start], green: pixels[start + 1], blue: pixels[start + 2])
        }
        set {
            let start = offset(x, y)
            pixels[start] = newValue.red
            pixels[start + 1] = newValue.green
            pixels[start + 2] = newValue.blue
        }
    }

    /// Copies `image` over this one with its top left corner at column `x`, row `y`.
    ///
    /// - Precondition: all of it lies inside.
    public mutating func paste(_ image: RGBImage, x: Int, y: Int) {
        precondition(
            x >= 0 && y >= 0 && x + image.width <= width && y + image.height <= height,
            "paste: \(image.width) x \(image.height) at (\(x), \(y)) leaves \(width) x \(height)")
        for row in 0..<image.height {
            let start = ((y + row) * width + x) * 3
            let source = row * image.width * 3
            pixels.replaceSubrange(
                start..<start + image.width * 3, with: image.pixels[source..<source + image.width * 3])
        }
    }

    /// The image with every pixel repeated `factor` x `factor` times.
    ///
    /// - Precondition: `factor` is positive.
    public func enlarged(by factor: Int) -> RGBImage {
        precondition(factor > 0, "enlarged: factor \(factor)")
        guard factor > 1 else { return self }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(pixels.count * factor * factor)
        for y in 0..<height {
            let start = bytes.count
            for x in 0..<width {
                let pixel = pixels[offset(x, y)..<offset(x, y) + 3]
                for _ in 0..<factor { bytes.append(contentsOf: pixel) }
            }
            let row = bytes[start...]
            for _ in 1..<factor { bytes.append(contentsOf: row) }
        }
        return RGBImage(width: width * factor, height: height * factor, pixels: bytes)
    }

    private func offset(_ x: Int, _ y: Int) -> Int {
        precondition(x >= 0 && x < width && y >= 0 && y < height, "pixel (\(x), \(y)) outside \(width) x \(height)")
        return (y * width + x) * 3
    }
}
