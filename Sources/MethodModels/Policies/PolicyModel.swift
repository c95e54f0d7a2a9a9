public import AdvGRPO
public import ImageModels
public import NeuralNetworks
public import SafeTensors
public import TensorCore

/// A text-to-image flow model as the method sees it: prompts c, latents x, their velocity v(x, t, c; θ), and images of clean
/// latents.
///
/// A new one is a file of this folder and its type in `PolicyModels.rows`; docs/image-models.md has the steps.
public protocol PolicyModel: Sendable {
    // MARK: On disk

    /// `_class_name` in the `model_index.json` of the pipelines that it reads.
    static var pipelineClass: String { get }
    /// What its files consist of; nothing but names and headers is read.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func parts(of path: String) throws -> [ModelPart]
    /// What reads prompts, and how much of one; of the text encoders only the tokenizers are loaded.
    ///
    /// - Throws: `ModelError` naming the file.
    static func promptReaders(of path: String) throws -> [PromptReader]
    /// Ends of tensor names by which `advgrpo inspect` tells the network's files that say nothing themselves, the most telling first.
    static var signatures: [(suffix: String, architecture: String)] { get }

    // MARK: Loading

    /// Loads everything but the text encoders, and checks that it belongs together.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    init(_ source: PolicySource) throws
    /// Loads what makes conditioning of prompts.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func textEncoder(_ source: PolicySource) throws -> TextEncoder
    /// Loads what makes the pooled embedding of prompts, and no text encoder beside; all of `textEncoder` unless a model has less.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func pooledTextEncoder(_ source: PolicySource) throws -> PooledTextEncoder
    /// Loads what is between pictures and latents, in both directions; always fp32.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    static func autoencoder(_ source: PolicySource) throws -> LatentAutoencoder

    // MARK: θ

    /// All tensors of the velocity network by their name in its file, in the network's precision.
    var parameters: Parameters { get }
    /// Those that are trained where no adapter is.
    var trainableParameters: Parameters { get }
    /// Precision of the velocity network.
    var dtype: DType { get }
    /// Ends of the names of layers that an adapter changes unless settings name others (`policy.lora.targets`).
    static var adapterTargets: [String] { get }

    // MARK: v(x, t, c; θ)

    /// The velocity of the model's own tensors.
    var velocity: VelocityFunction { get }
    /// The velocity with some tensors replaced; tracked ones make it tracked.
    ///
    /// - Throws: `ModelError` when the network has no place for one.
    func velocity(with tensors: Parameters) throws -> VelocityFunction
    /// Noise levels of `stepCount` steps from 1 to 0, one more than steps.
    ///
    /// - Throws: `ModelError` when there are no such levels.
    func sigmas(stepCount: Int) throws -> [Float]
    /// The noise level at a time in 0...1 of an unshifted schedule: where training draws its levels from.
    func sigma(at time: Float) -> Float

    // MARK: x

    /// Side of the square image that it makes unless told otherwise, pixels.
    var defaultSide: Int { get }
    /// Shape of one image's latents, [C, h, w]; height and width in pixels.
    ///
    /// - Throws: `ModelError` that says which sizes are possible.
    func latentShape(height: Int, width: Int) throws -> [Int]
    /// Clean latents [B, C, h, w] -> images fp32 [B, H, W, 3] in [0, 1].
    func images(_ latents_BCHW: Tensor) -> Tensor

    /// Latent pixels of a token's side: the places that may have advantages of their own.
    var tokenSide: Int { get }

    // MARK: Cost

    /// Operations of one image, for `advgrpo bench`.
    ///
    /// - Parameters:
    ///   - textTokens: of the conditioning.
    ///   - rank: of an adapter on `adapterTargets`.
    func work(latentShape: [Int], textTokens: Int, rank: Int) -> PolicyWork
}

extension PolicyModel {
    /// None: its files name their class.
    public static var signatures: [(suffix: String, architecture: String)] { [] }
    /// All of them.
    public var trainableParameters: Parameters { parameters }
    /// The pooled part of the conditioning.
    public static func pooledTextEncoder(_ source: PolicySource) throws -> PooledTextEncoder {
        let encoder = try textEncoder(source)
        return { encoder($0).pooled_BP.reshaped(-1) }
    }
}

/// A prompt -> its conditioning, one row, fp32.
public typealias TextEncoder = @Sendable (_ prompt: String) -> Conditioning

/// A prompt -> its pooled embedding, fp32 [P]: that of its conditioning.
public typealias PooledTextEncoder = @Sendable (_ prompt: String) -> Tensor

/// Pictures [B, H, W, 3] in [0, 1] -> the same through a model's latents.
public typealias Reconstruction = @Sendable (_ images_BHWC: Tensor) -> Tensor

/// A policy model's autoencoder, fp32.
public struct LatentAutoencoder: Sendable {
    /// Pictures [B, H, W, 3] in [0, 1] -> latents [B, C, h, w] as the network expects them: the mean of their distribution.
    public let encode: @Sendable (_ images_BHWC: Tensor) -> Tensor
    /// Latents [B, C, h, w] -> pictures [B, H, W, 3] in [0, 1].
    public let decode: @Sendable (_ latents_BCHW: Tensor) -> Tensor

    /// Both directions.
    public init(
        encode: @escaping @Sendable (_ images_BHWC: Tensor) -> Tensor,
        decode: @escaping @Sendable (_ latents_BCHW: Tensor) -> Tensor
    ) {
        self.encode = encode
        self.decode = decode
    }
}

/// A part of a model on disk: what roles compare by digest.
public struct ModelPart: Sendable {
    /// What a part is there for.
    public enum Role: Sendable {
        /// Predicts velocities.
        case network
        /// Between latents and images.
        case autoencoder
        /// Noise levels.
        case schedule
        /// Decides about conditioning: text encoders, tokenizers.
        case text
    }

    /// As its folder is called in the model's.
    public let name: String
    /// What it is there for.
    public let role: Role
    /// Its own folder; it need not exist.
    public let folder: String
    /// Where its weights lie under which names, if not in its folder.
    public let weights: (file: SafeTensorsFolder, names: Set<String>)?

    /// Its `config.json`.
    public var configuration: String { folder + "/config.json" }

    /// A part whose weights lie in its folder unless `weights` says where.
    public init(
        _ name: String, _ role: Role, folder: String, weights: (file: SafeTensorsFolder, names: Set<String>)? = nil
    ) {
        self.name = name
        self.role = role
        self.folder = folder
        self.weights = weights
    }
}

/// How much a policy model computes for one image, and what it is told.
public struct PolicyWork: Sendable, Equatable {
    /// Width of a text's tokens.
    public var textWidth: Int
    /// Width of the pooled text.
    public var pooledWidth: Int
    /// One velocity.
    public var velocity: OperationCounts
    /// Decoding clean latents.
    public var decoding: Int

    public init(textWidth: Int, pooledWidth: Int, velocity: OperationCounts, decoding: Int) {
        self.textWidth = textWidth
        self.pooledWidth = pooledWidth
        self.velocity = velocity
        self.decoding = decoding
    }
}

extension PolicyModel {
    /// Rows of the network's matrix products for one image.
    public func tokenCount(latentShape: [Int]) -> Int { (latentShape[1] / tokenSide) * (latentShape[2] / tokenSide) }
}
