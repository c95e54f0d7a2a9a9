internal import Raster

/// Turns the picture of an emoji into the images of the data set; the steps and ranges of `prepare_emoji.py`.
struct EmojiRendering {
    /// Side of the square on which pictures are centred (Noto's are 136 x 128).
    static let canvasSide = 144

    /// The emoji in the middle of a white square.
    let square: RGBImage
    /// Side of the images made.
    let size: Int
    /// Keys the augmentations.
    let scalar: Unicode.Scalar

    /// Puts a picture of at most `canvasSide` a side in the middle.
    init(_ picture: RGBImage, scalar: Unicode.Scalar, size: Int) {
        var square = RGBImage(width: Self.canvasSide, height: Self.canvasSide, color: .white)
        square.paste(
            picture, x: (Self.canvasSide - picture.width) / 2, y: (Self.canvasSide - picture.height) / 2)
        self.square = square
        self.size = size
        self.scalar = scalar
    }

    /// The emoji as it is, equal to the script's bit for bit.
    func plain() -> RGBImage {
        // 48 divides the canvas: whole blocks of pixels are averaged.
        square.resized(width: size, height: size, filter: size == 48 ? .box : .lanczos)
    }

    /// The emoji scaled by 0.85 to 1, turned by up to 8 degrees and moved; the same for a code point and index, always.
    func reference(_ index: Int) -> RGBImage {
        var random = SplitMix64(key: UInt64(scalar.value) << 16 | UInt64(index))
        let scale = random.uniform(in: 0.85...1)
        let degrees = random.uniform(in: -8...8)
        let side = Int((Double(Self.canvasSide) * scale).rounded(.toNearestOrEven))
        let turned = square.resized(width: side, height: side, filter: .lanczos).rotated(degrees: degrees, fill: .white)
        var canvas = RGBImage(width: Self.canvasSide, height: Self.canvasSide, color: .white)
        let x = random.integer(through: Self.canvasSide - side)
        let y = random.integer(through: Self.canvasSide - side)
        canvas.paste(turned, x: x, y: y)
        return canvas.resized(width: size, height: size, filter: .lanczos)
    }
}
