public import NeuralNetworks
public import TensorCore

/// The autoencoder between images and the latents the transformer works on.
///
/// Images are [B, H, W, 3] in [0, 1]; latents are [B, C, h, w], scaled as the transformer expects them.
///
/// - Source: diffusers models/autoencoders/{autoencoder_kl,vae}.py. Differences: channels last inside; no tiling.
public struct AutoencoderKL: Sendable {
    /// Sizes.
    public let configuration: AutoencoderKLConfiguration
    /// All tensors by their name in the checkpoint.
    public let parameters: Parameters
    /// Precision of weights and activations; bf16 shifts colours (method.md 4.9).
    public let dtype: DType
    private let engine: any Engine
    private let encoder: ImageEncoder?
    private let quantConvolution: Convolution?
    private let postQuantConvolution: Convolution?
    private let decoder: ImageDecoder

    /// Loads a folder with `config.json` and weights.
    ///
    /// - Parameters:
    ///   - folder: of the model.
    ///   - engine: what computes.
    ///   - dtype: precision of weights and activations.
    ///   - withEncoder: false where nothing is encoded, to save its memory.
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(folder: String, engine: any Engine, dtype: DType = .float32, withEncoder: Bool = true) throws {
        try self.init(
            AutoencoderKLConfiguration(path: folder + "/config.json"),
            weights: PipelineFiles.weights(of: .autoencoder, at: folder, engine: engine, dtype: dtype),
            withEncoder: withEncoder)
    }

    /// Takes all its tensors from `weights`; without encoder those of the encoder are left out.
    ///
    /// - Throws: `ModelError` unless names and shapes are exactly those the configuration asks for.
    public init(_ configuration: AutoencoderKLConfiguration, weights: Weights, withEncoder: Bool = true) throws {
        self.configuration = configuration
        dtype = weights.dtype
        engine = weights.engine
        let latent = configuration.latentChannels
        func pointwise(_ name: String, _ channels: Int) throws -> Convolution {
            try Convolution(
                weights.scoped(name), input: channels, output: channels, kernel: 1, geometry: .init(padding: 0))
        }
        encoder = withEncoder ? try ImageEncoder(weights.scoped("encoder"), configuration) : nil
        quantConvolution =
            withEncoder && configuration.usesQuantConvolution ? try pointwise("quant_conv", 2 * latent) : nil
        postQuantConvolution = configuration.usesPostQuantConvolution ? try pointwise("post_quant_conv", latent) : nil
        decoder = try ImageDecoder(weights.scoped("decoder"), configuration)
        if !withEncoder {
            weights.ignore(scope: "encoder")
            weights.ignore(scope: "quant_conv")
        }
        parameters = try weights.finish()
    }

    /// The same model with some tensors replaced, tracked ones for example; they are converted to the model's precision.
    ///
    /// - Throws: `unusedTensors` or `wrongShape` when the model has no place for one.
    public func replacing(_ replacements: Parameters) throws -> AutoencoderKL {
        try AutoencoderKL(
            configuration,
            weights: Weights(parameters.merging(replacements), source: "vae", engine: engine, dtype: dtype),
            withEncoder: encoder != nil)
    }

    /// Images of scaled latents.
    ///
    /// - Parameter latents_BCHW: as the transformer made them.
    /// - Returns: fp32 [B, H, W, 3], clamped to [0, 1].
    public func decode(_ latents_BCHW: Tensor) -> Tensor {
        let unscaled = latents_BCHW * Float(1 / configuration.scalingFactor) + Float(configuration.shiftFactor)
        return (decodeUnscaled(unscaled) * 0.5 + 0.5).clamped(to: 0...1)
    }

    /// The decoder alone: z [B, C, h, w] -> fp32 [B, H, W, 3], nominally in [-1, 1], not clamped.
    public func decodeUnscaled(_ z_BCHW: Tensor) -> Tensor {
        let z = z_BCHW.converted(to: dtype).transposed(0, 2, 3, 1)
        return decoder(postQuantConvolution?(z) ?? z).converted(to: .float32)
    }

    /// Scaled latents of images: (mean - shift) · scaling.
    ///
    /// - Parameter images_BHWC: in [0, 1], sides multiples of `spatialFactor`.
    /// - Returns: fp32 [B, C, h, w].
    /// - Precondition: the encoder was loaded.
    public func encode(_ images_BHWC: Tensor) -> Tensor {
        (moments(images_BHWC * 2 + -1).mean + -Float(configuration.shiftFactor)) * Float(configuration.scalingFactor)
    }

    /// Mean and log-variance of the latents' normal distribution, unscaled: [B, H, W, 3] in [-1, 1] -> fp32 [B, C, h, w].
    /// The log-variance is clamped to [-30, 20] as in the reference.
    ///
    /// - Precondition: the encoder was loaded.
    public func moments(_ images_BHWC: Tensor) -> (mean: Tensor, logVariance: Tensor) {
        guard let encoder else { preconditionFailure("AutoencoderKL: loaded without its encoder") }
        let encoded = encoder(images_BHWC.converted(to: dtype))
        let moments = (quantConvolution?(encoded) ?? encoded).converted(to: .float32).transposed(0, 3, 1, 2)
        let latent = configuration.latentChannels
        return (
            moments.sliced(axis: 1, 0..<latent), moments.sliced(axis: 1, latent..<2 * latent).clamped(to: -30...20)
        )
    }
}
