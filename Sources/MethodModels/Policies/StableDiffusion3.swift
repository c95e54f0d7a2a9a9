import AdvGRPO
import ImageModels
import NeuralNetworks
import TensorCore

/// Stable Diffusion 3 and 3.5, as diffusers' `StableDiffusion3Pipeline` or as a single-file checkpoint (see `PipelineFiles`).
struct StableDiffusion3: PolicyModel {
    private let pipeline: StableDiffusion3Pipeline

    // MARK: On disk

    static let pipelineClass = StableDiffusion3Pipeline.className

    static func parts(of path: String) throws -> [ModelPart] {
        let files = try PipelineFiles(path: path)
        let roles: KeyValuePairs<String, ModelPart.Role> = [
            "transformer": .network, "vae": .autoencoder, "scheduler": .schedule, "text_encoder": .text,
            "text_encoder_2": .text, "text_encoder_3": .text, "tokenizer": .text, "tokenizer_2": .text,
            "tokenizer_3": .text,
        ]
        return roles.map { name, role in
            ModelPart(
                name, role, folder: files.file(name),
                weights: PipelinePart(rawValue: name).flatMap { files.checkpoint(of: $0) })
        }
    }

    static func promptReaders(of path: String) throws -> [PromptReader] { try PromptReader.all(pipeline: path) }

    static let signatures = [
        (
            suffix: "joint_blocks.0.x_block.attn.qkv.weight",
            architecture: "Stable Diffusion 3 transformer in Stability's names (single-file checkpoint)"
        ),
        (suffix: "time_text_embed.timestep_embedder.linear_1.weight", architecture: MMDiTConfiguration.className),
    ]

    // MARK: Loading

    init(_ source: PolicySource) throws {
        var pipeline = try StableDiffusion3Pipeline(
            PipelineFiles(path: source.files.path), engine: source.engine, dtype: source.dtype,
            transformer: source.network)
        pipeline.transformer.activationByteLimit = source.activationByteLimit
        self.pipeline = pipeline
    }

    static func textEncoder(_ source: PolicySource) throws -> TextEncoder {
        let encoder = try SD3TextEncoder(
            PipelineFiles(path: source.files.path), engine: source.engine, dtype: source.dtype)
        return { encoder([$0]) }
    }

    static func pooledTextEncoder(_ source: PolicySource) throws -> PooledTextEncoder {
        let encoder = try SD3TextEncoder(
            PipelineFiles(path: source.files.path), engine: source.engine, dtype: source.dtype, pooledOnly: true)
        return { encoder.pooled([$0]).reshaped(-1) }
    }

    static func autoencoder(_ source: PolicySource) throws -> LatentAutoencoder {
        let autoencoder = try PipelineFiles(path: source.files.path).autoencoder(engine: source.engine)
        return LatentAutoencoder(encode: { autoencoder.encode($0) }, decode: { autoencoder.decode($0) })
    }

    // MARK: θ

    var parameters: Parameters { pipeline.transformer.parameters }
    var trainableParameters: Parameters { pipeline.transformer.trainableParameters }
    var dtype: DType { pipeline.transformer.dtype }
    static let adapterTargets = LoRAConfiguration.jointAttention.sorted()

    // MARK: v(x, t, c; θ)

    var velocity: VelocityFunction { pipeline.transformer.velocityFunction }

    func velocity(with tensors: Parameters) throws -> VelocityFunction {
        try pipeline.transformer.replacing(tensors).velocityFunction
    }

    func sigmas(stepCount: Int) throws -> [Float] { try pipeline.schedule.sigmas(stepCount: stepCount) }

    func sigma(at time: Float) -> Float { pipeline.schedule.shifted(time) }

    // MARK: x

    var defaultSide: Int { pipeline.defaultLatentSide * pipeline.autoencoder.configuration.spatialFactor }

    func latentShape(height: Int, width: Int) throws -> [Int] {
        try pipeline.latentShape(height: height, width: width)
    }

    func images(_ latents_BCHW: Tensor) -> Tensor { pipeline.autoencoder.decode(latents_BCHW) }

    var tokenSide: Int { pipeline.transformer.configuration.patchSize }

    // MARK: Cost

    func work(latentShape: [Int], textTokens: Int, rank: Int) -> PolicyWork {
        let configuration = pipeline.transformer.configuration
        return PolicyWork(
            textWidth: configuration.jointAttentionWidth, pooledWidth: configuration.pooledWidth,
            velocity: configuration.operations(
                imageTokens: tokenCount(latentShape: latentShape), textTokens: textTokens, rank: rank),
            decoding: pipeline.autoencoder.configuration.decoderOperations(
                height: latentShape[1], width: latentShape[2]))
    }
}

extension MMDiT {
    /// v as the method calls it.
    var velocityFunction: VelocityFunction {
        { velocity($0, timesteps: $1, conditioning: $2) }
    }
}
