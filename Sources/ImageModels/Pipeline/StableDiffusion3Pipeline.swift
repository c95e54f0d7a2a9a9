public import NeuralNetworks
import Platform
public import TensorCore

/// A `StableDiffusion3Pipeline`, loaded and checked: text encoders, transformer, autoencoder, schedule.
///
/// The parts can be loaded one by one as well, by the roles that need only some (`PipelineFiles`).
public struct StableDiffusion3Pipeline: Sendable {
    /// Text -> tokens; nil where it was not loaded.
    public let textEncoder: SD3TextEncoder?
    /// The velocity network; replace it by a merged one to sample with an adapter.
    public var transformer: MMDiT
    /// Latents -> images, fp32.
    public let autoencoder: AutoencoderKL
    /// Noise levels.
    public let schedule: FlowMatchSchedule

    /// Loads a pipeline.
    ///
    /// - Parameters:
    ///   - dtype: precision of transformer and text encoders; the autoencoder is fp32 (method.md 4.9).
    ///   - thirdTokenCount: see `SD3TextEncoder`.
    ///   - withTextEncoder: false where conditioning comes from elsewhere, as in `bench`; the folder needs no text encoders then.
    ///   - withEncoder: whether images can be encoded as well.
    ///   - transformer: folder of another transformer, of the same inputs, in place of the pipeline's, or a file of one with
    ///     the configuration of the pipeline's; nil for its own.
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(
        _ files: PipelineFiles, engine: any Engine, dtype: DType = .float32, thirdTokenCount: Int? = nil,
        withTextEncoder: Bool = true, withEncoder: Bool = false, transformer other: String? = nil
    ) throws {
        textEncoder =
            withTextEncoder
            ? try SD3TextEncoder(files, engine: engine, dtype: dtype, thirdTokenCount: thirdTokenCount) : nil
        let own = try MMDiTConfiguration(path: files.folder(of: .transformer) + "/config.json")
        let configuration = try other.flatMap {
            Files<ModelError>.isFolder($0) ? try MMDiTConfiguration(path: $0 + "/config.json") : nil
        }
        transformer = try MMDiT(
            configuration ?? own,
            weights: other.map { try PipelineFiles.weights(of: .transformer, at: $0, engine: engine, dtype: dtype) }
                ?? files.weights(of: .transformer, engine: engine, dtype: dtype))
        if let other {
            let (mine, given) = (own.textWidths, transformer.configuration.textWidths)
            guard mine == given else {
                throw ModelError(
                    code: .configuration, source: other,
                    message:
                        "takes texts of widths \(given), the model in \(files.path) makes \(mine); name the model it was trained from"
                )
            }
        }
        autoencoder = try files.autoencoder(engine: engine, withEncoder: withEncoder)
        schedule = try FlowMatchSchedule(folder: files.file("scheduler"))
        let (needed, given) = (transformer.configuration.inChannels, autoencoder.configuration.latentChannels)
        guard needed == given else {
            throw ModelError(
                code: .configuration, source: files.path,
                message: "the transformer works on \(needed) latent channels, the autoencoder has \(given)")
        }
    }

    /// Width and height of an image in latents and pixels at the transformer's default size.
    public var defaultLatentSide: Int { transformer.configuration.sampleSize }

    /// Shape of one sample's latents for an image of this size, [C, h, w].
    ///
    /// - Throws: `unsupported` when the size is no multiple of the token's size in pixels or beyond the position table.
    public func latentShape(height: Int, width: Int) throws -> [Int] {
        let (factor, configuration) = (autoencoder.configuration.spatialFactor, transformer.configuration)
        let unit = factor * configuration.patchSize
        let largest = unit * configuration.positionTableSize
        guard height > 0, width > 0, height % unit == 0, width % unit == 0, max(height, width) <= largest else {
            throw ModelError(
                code: .unsupported, source: "image size (rollout.resolution, --size)",
                message: "\(width) x \(height) is not possible: sides are multiples of \(unit) up to \(largest)")
        }
        return [configuration.inChannels, height / factor, width / factor]
    }

    /// Embeddings of prompts.
    ///
    /// - Precondition: the text encoder was loaded.
    public func embedding(_ prompts: [String]) -> PromptEmbedding {
        guard let textEncoder else { preconditionFailure("StableDiffusion3Pipeline: loaded without its text encoder") }
        return textEncoder(prompts)
    }

    /// The projected conditioning of guidance; the negative prompt is the empty string.
    ///
    /// - Parameter prompts: one a sample.
    public func conditioning(_ prompts: [String]) -> GuidedConditioning {
        let (negative, positive) = (embedding([""]), embedding(prompts))
        return GuidedConditioning(
            negative: transformer.conditioning(text_BTJ: negative.text, pooled_BP: negative.pooled).repeated(
                prompts.count),
            positive: transformer.conditioning(text_BTJ: positive.text, pooled_BP: positive.pooled))
    }

    /// Deterministic sampling with Euler steps.
    ///
    /// - Parameters:
    ///   - prompts: one a sample. latents_BCHW: standard normal noise.
    /// - Returns: the final latents, fp32; `autoencoder.decode` makes images of them.
    /// - Throws: `ModelError` when the schedule has no levels for so many steps.
    public func sample(
        _ prompts: [String], latents_BCHW: Tensor, stepCount: Int, guidance: Float
    ) throws(ModelError) -> Tensor {
        let conditioning = conditioning(prompts)
        let sigmas = try schedule.sigmas(stepCount: stepCount)
        return zip(sigmas, sigmas.dropFirst()).reduce(latents_BCHW) { latents, step in
            let (sigma, next) = step
            let velocity = transformer.guidedVelocity(
                latents, timestep: schedule.timestep(sigma), guidance: guidance, conditioning: conditioning)
            return latents + velocity * (next - sigma)
        }
    }
}
