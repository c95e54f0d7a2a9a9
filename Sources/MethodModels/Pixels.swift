public import Raster
public import TensorCore

// Pixels are floats where models compute and have 8 bits where anybody sees them: in files, on the wire, for rewards and for the
// discriminator. Here, and nowhere else, the ones become the others.

/// What becomes of a pixel between two levels.
public enum LevelRounding: Sendable {
    /// The nearest level.
    case nearest
    /// The level below it: what torchvision makes of a float image in the released training.
    case down
}

extension Tensor {
    /// Pixels as 8-bit levels, 255 x: 0 for 0 and what lies below, 255 for 1 and what lies above; 0 for what is not a number.
    ///
    /// The tensor has any shape and values in [0, 1], images mostly: [B, H, W, 3], as `AutoencoderKL.decode` makes them of the
    /// network's own [-1, 1]. Levels are in the order of the elements.
    ///
    /// - Source: diffusers image_processor.py, `numpy_to_pil`: `(images * 255).round().astype("uint8")`. Differences: a pixel exactly
    ///   between two levels becomes the upper one, NumPy's the even one.
    public func levels(_ rounding: LevelRounding = .nearest) -> [UInt8] {
        values.map { value in
            // In this order of arguments NaN becomes 0.
            let level = min(max(0, value), 1) * 255
            return UInt8(rounding == .nearest ? level.rounded() : level)
        }
    }
}

extension Engine {
    /// 8-bit levels as pixels, level / 255 in fp32, in [0, 1].
    ///
    /// - Parameter shape: of as many elements as there are levels, [B, H, W, 3] for images.
    public func pixels(levels: UnsafeRawBufferPointer, shape: [Int]) -> Tensor {
        let pixels = [Float](unsafeUninitializedCapacity: levels.count) { pixels, count in
            for index in levels.indices { pixels[index] = Float(levels[index]) / 255 }
            count = levels.count
        }
        return tensor(pixels, shape: shape)
    }
}

extension RGBImage {
    /// The images of a batch [B, H, W, 3] in [0, 1]; see `Tensor.levels`.
    public static func images(of images_BHWC: Tensor, _ rounding: LevelRounding = .nearest) -> [RGBImage] {
        let (B, H, W) = (images_BHWC.shape[0], images_BHWC.shape[1], images_BHWC.shape[2])
        // Floats, levels, and levels again image by image.
        images_BHWC.engine.passing(6 * images_BHWC.count)
        let (levels, size) = (images_BHWC.levels(rounding), H * W * 3)
        return (0..<B).map { RGBImage(width: W, height: H, pixels: Array(levels[$0 * size..<($0 + 1) * size])) }
    }

    /// Images of one size as a batch [B, H, W, 3] in [0, 1].
    ///
    /// - Precondition: at least one image; all of the same size.
    public static func tensor(of images: [RGBImage], on engine: any Engine) -> Tensor {
        precondition(
            !images.isEmpty && images.allSatisfy { $0.width == images[0].width && $0.height == images[0].height })
        // The array of levels grows: the last time, there are two of it. Then they are floats, too.
        engine.passing(6 * images.count * images[0].pixels.count)
        return images.flatMap(\.pixels).withUnsafeBytes {
            engine.pixels(levels: $0, shape: [images.count, images[0].height, images[0].width, 3])
        }
    }
}
