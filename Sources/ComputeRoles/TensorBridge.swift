public import NeuralNetworks
import Platform
public import Protocol
public import Raster
import SafeTensors
public import TensorCore

extension TensorPayload {
    /// A tensor's elements as they are, fp32 or bf16, copied to the host.
    public init(_ tensor: Tensor) {
        self.init(
            dtype: tensor.dtype == .float32 ? .float32 : .bfloat16, shape: tensor.shape,
            bytes: SharedBytes(copying: tensor.engine.bytes(of: tensor)))
    }

    /// The payload on an engine.
    ///
    /// - Throws: `invalidValue` unless it is F32 or BF16.
    public func tensor(on engine: any Engine) throws(WireError) -> Tensor {
        let dtype: DType
        switch self.dtype {
        case .float32: dtype = .float32
        case .bfloat16: dtype = .bfloat16
        default: throw WireError(.invalidValue, "a tensor of type \(self.dtype.rawValue), expected F32 or BF16")
        }
        return bytes.withUnsafeBytes { engine.tensor(bytes: $0, shape: shape, dtype: dtype) }
    }

    /// Images as they travel: 8-bit RGB [B, H, W, 3], each value rounded.
    ///
    /// - Parameter images_BHWC: [B, H, W, 3] in [0, 1]; values outside are clamped.
    public init(images images_BHWC: Tensor) {
        self.init(
            uint8s: images_BHWC.values.map { UInt8((min(max($0, 0), 1) * 255).rounded()) }, shape: images_BHWC.shape)
    }

    /// Images that travelled, fp32 in [0, 1], in the payload's shape.
    ///
    /// - Precondition: U8.
    public func images(on engine: any Engine) -> Tensor {
        precondition(dtype == .uint8, "images of type \(dtype.rawValue)")
        let pixels = bytes.withUnsafeBytes { bytes in
            [Float](unsafeUninitializedCapacity: bytes.count) { pixels, count in
                for index in bytes.indices { pixels[index] = Float(bytes[index]) / 255 }
                count = bytes.count
            }
        }
        return engine.tensor(pixels, shape: shape)
    }
}

extension TensorSet {
    /// Parameters by their names.
    public init(_ parameters: Parameters) {
        self.init(
            Dictionary(uniqueKeysWithValues: parameters.entries.map { ($0.name, TensorPayload($0.tensor)) }))
    }

    /// The tensors as parameters on an engine.
    ///
    /// - Throws: `invalidValue` unless all are F32 or BF16.
    public func parameters(on engine: any Engine) throws(WireError) -> Parameters {
        var tensors: [String: Tensor] = [:]
        for name in names { tensors[name] = try self[name]?.tensor(on: engine) }
        return Parameters(tensors)
    }
}

extension RGBImage {
    /// The images of a batch.
    ///
    /// - Parameter images_BHWC: [B, H, W, 3] in [0, 1]; values outside are clamped, then rounded to 8 bits.
    public static func images(of images_BHWC: Tensor) -> [RGBImage] {
        let (H, W) = (images_BHWC.shape[1], images_BHWC.shape[2])
        // Floats, bytes, and bytes again image by image.
        images_BHWC.engine.passing(6 * images_BHWC.count)
        let bytes = images_BHWC.values.map { UInt8((min(max($0, 0), 1) * 255).rounded()) }
        return (0..<images_BHWC.shape[0]).map { index in
            RGBImage(width: W, height: H, pixels: Array(bytes[index * H * W * 3..<(index + 1) * H * W * 3]))
        }
    }

    /// Images of one size as a batch [B, H, W, 3] in [0, 1].
    ///
    /// - Precondition: at least one image; all of the same size.
    public static func tensor(of images: [RGBImage], on engine: any Engine) -> Tensor {
        precondition(
            !images.isEmpty && images.allSatisfy { $0.width == images[0].width && $0.height == images[0].height })
        // The array of floats grows: the last time, there are two of it.
        engine.passing(9 * images.count * images[0].pixels.count)
        return engine.tensor(
            images.flatMap { $0.pixels.map { Float($0) / 255 } },
            shape: [images.count, images[0].height, images[0].width, 3])
    }
}
