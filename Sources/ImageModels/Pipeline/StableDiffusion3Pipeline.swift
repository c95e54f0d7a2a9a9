import NeuralNetworks
import Platform
public import TensorCore

/// A `StableDiffusion3Pipeline`, loaded and checked, without its text encoders: prompts become `Conditioning` by `SD3TextEncoder`, which is loaded by who needs it.
public struct StableDiffusion3Pipeline: Sendable {
    /// The class of the pipelines that it reads.
    public static let className = "StableDiffusion3Pipeline"

    /// The velocity network.
    public var transformer: MMDiT
    /// Latents -> images, fp32.
    public let autoencoder: AutoencoderKL
    /// Noise levels.
    public let schedule: FlowMatchSchedule

    /// Loads a pipeline.
    ///
    /// - Parameters:
    ///   - files: of the pipeline.
    ///   - engine: what computes.
    ///   - dtype: precision of the transformer; the autoencoder is fp32 and only decodes (method.md 4.9).
    ///   - other: folder of another transformer, of the same inputs, in place of the pipeline's, or a file of one with
    ///     the configuration of the pipeline's; nil for its own.
    /// - Throws: `ModelError`, `SafeTensorsError`.
    public init(
        _ files: PipelineFiles, engine: any Engine, dtype: DType = .float32, transformer other: String? = nil
    ) throws {
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
        autoencoder = try files.autoencoder(engine: engine, withEncoder: false)
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
}
