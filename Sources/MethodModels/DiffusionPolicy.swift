public import AdvGRPO
public import NeuralNetworks
import Synchronization
public import TensorCore

/// A policy model and what is trained of it: prompts to conditioning, trained parameters to a velocity, latents to images.
///
/// The learner trains through the very function the workers sample with: an adapter enters by merging, W + (alpha / r) B A,
/// in both places, so the first ratio of an epoch is 1 to the bit.
public final class DiffusionPolicy: Sendable {
    /// The base model, without what is trained.
    public let model: any PolicyModel
    /// Which weights are trained.
    public let settings: PolicySettings
    /// Runs the models.
    public let engine: any Engine
    private let source: PolicySource
    private let initialAdapter: LoRAAdapter?
    private let embeddings = Mutex<[String: Conditioning]>([:])
    /// Where embeddings are kept between processes; nil where they are not.
    private let cache: EmbeddingCache?
    /// The text encoder, once a prompt needed it.
    private let textEncoder: Mutex<TextEncoder?>

    /// Loads the model.
    ///
    /// - Parameters:
    ///   - source: where the model lies, and what computes it.
    ///   - settings: the adapter's shape, the update.
    ///   - seed: of the run; it draws the adapter's A.
    ///   - withTextEncoder: false where nobody asks for `conditioning`.
    ///   - embeddings: folder that keeps embeddings of prompts between processes; the text encoder is loaded when a
    ///     prompt is not there. nil or empty: loaded now.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(
        _ source: PolicySource, settings: PolicySettings, seed: UInt64, withTextEncoder: Bool = true,
        embeddings: String? = nil
    ) throws {
        var source = source
        source.activationByteLimit = settings.gradientCheckpointing.activationByteLimit
        self.source = source
        self.settings = settings
        engine = source.engine
        model = try source.model()
        let root = withTextEncoder ? embeddings ?? "" : ""
        cache = root.isEmpty ? nil : try EmbeddingCache(root: root, source: source)
        textEncoder = Mutex(withTextEncoder && cache == nil ? try source.textEncoder() : nil)
        switch settings.adapter {
        case .lora:
            let lora = settings.lora
            let targets = lora.targets.isEmpty ? source.files.model.adapterTargets : lora.targets
            initialAdapter = try LoRAAdapter(
                configuration: LoRAConfiguration(rank: lora.rank, alpha: lora.alpha, targets: targets),
                model: model.parameters, seed: seed, source: source.files.path)
        case .full: initialAdapter = nil
        }
    }

    /// What is trained, before the first update; fp32.
    public var initialParameters: Parameters {
        initialAdapter?.parameters ?? model.trainableParameters.converted(to: .float32)
    }

    /// The adapter with these values, for export; nil when all weights are trained.
    public func adapter(_ parameters: Parameters) -> LoRAAdapter? { initialAdapter?.replacing(parameters) }

    /// All tensors of the network with these trained parameters, fp32, for export; nil when an adapter is trained.
    public func wholeNetwork(_ parameters: Parameters) -> Parameters? {
        guard initialAdapter == nil else { return nil }
        return model.parameters.merging(parameters).converted(to: .float32)
    }

    /// The network's part on disk, whose configuration belongs to an exported network; nil where the model has none.
    public func networkPart() throws -> ModelPart? { try source.files.part(.network) }

    // MARK: v(x, t, c; θ)

    /// The velocity with these trained parameters; tracked ones make it tracked.
    ///
    /// - Throws: `ModelError` when names or shapes are not those of `initialParameters`.
    public func velocity(_ parameters: Parameters) throws -> VelocityFunction {
        try model.velocity(with: weights(parameters))
    }

    /// The base model's velocity, with an adapter's update added to its weights where there is one.
    ///
    /// - Throws: `missing` or `wrongShape` when the adapter belongs to another model.
    public func velocity(merging adapter: LoRAAdapter?) throws -> VelocityFunction {
        guard let adapter else { return model.velocity }
        return try model.velocity(with: adapter.mergedWeights(into: model.parameters))
    }

    /// The network's tensors that trained parameters change, in its precision.
    private func weights(_ parameters: Parameters) throws -> Parameters {
        try check(parameters)
        guard let initialAdapter else { return parameters.converted(to: model.dtype) }
        return try initialAdapter.replacing(parameters).mergedWeights(into: model.parameters)
    }

    private func check(_ parameters: Parameters) throws {
        let expected = initialParameters
        for (name, tensor) in expected.entries where parameters[name]?.shape != tensor.shape {
            throw ModelError(
                code: .wrongShape, source: "policy",
                message: "parameter \(name) is \(parameters[name]?.shape ?? []), expected \(tensor.shape)")
        }
        guard parameters.count == expected.count else {
            throw ModelError(
                code: .wrongShape, source: "policy",
                message: "\(parameters.count) parameters, expected \(expected.count)")
        }
    }

    /// A version of the policy as workers sample and train with it: the trained parameters are merged here, once a version.
    ///
    /// - Throws: `ModelError` when names or shapes are not those of `initialParameters`.
    public func sampling(_ parameters: Parameters) throws -> SamplingPolicy {
        // All have the same weights: merged once, packed once.
        let leaves = parameters.tracked()
        let tracked = try weights(leaves)
        return SamplingPolicy(
            velocity: try model.velocity(with: tracked.detached),
            tracked: TrackedPolicy(
                leaves: leaves, velocity: try model.velocity(with: tracked), reference: referenceVelocity))
    }

    /// What the KL term measures from.
    private var referenceVelocity: VelocityFunction? { initialAdapter == nil ? nil : model.velocity }

    /// The policy as functions of its trained parameters, for the update.
    public var trainable: TrainablePolicy {
        TrainablePolicy(
            velocity: { parameters in
                // Parameters come from `initialParameters` by updates, which keep names and shapes.
                guard let velocity = try? self.velocity(parameters) else {
                    preconditionFailure("the trained parameters do not fit the model they were made for")
                }
                return velocity
            },
            reference: referenceVelocity)
    }

    // MARK: Prompts

    /// Conditioning of a prompt and of the empty prompt, each computed once.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` where the text encoder has to be loaded, or an embedding kept, and cannot.
    public func conditioning(_ prompt: String) throws -> PromptConditioning {
        PromptConditioning(positive: try embedding(prompt), negative: try embedding(""))
    }

    /// The first of some prompts that needs the text encoder, or the first of all.
    ///
    /// - Precondition: at least one prompt.
    public func hardest(of prompts: [String]) -> String {
        prompts.first { cache?.contains($0) != true } ?? prompts[0]
    }

    /// Whether a prompt needed the text encoder.
    var hasTextEncoder: Bool { textEncoder.withLock { $0 != nil } }

    private func embedding(_ prompt: String) throws -> Conditioning {
        if let known = embeddings.withLock({ $0[prompt] }) { return known }
        let embedding = try cache?.embedding(prompt) ?? encoded(prompt)
        embeddings.withLock { $0[prompt] = embedding }
        return embedding
    }

    private func encoded(_ prompt: String) throws -> Conditioning {
        let encoder = try textEncoder.withLock { encoder in
            if let encoder { return encoder }
            let loaded = try engine.noting(.weights) { try source.textEncoder() }
            encoder = loaded
            return loaded
        }
        let embedding = encoder(prompt)
        try cache?.keep(embedding, of: prompt)
        return embedding
    }

    // MARK: Images

    /// The rollout of these settings on this model; it keeps log-probabilities of tokens where the policy's settings ask for these.
    ///
    /// - Throws: `ModelError` when the resolution does not fit the model, or the steps its schedule.
    public func rollout(_ settings: RolloutSettings, seed: UInt64) throws -> Rollout {
        Rollout(
            settings: settings, sigmas: try model.sigmas(stepCount: settings.steps),
            latentShape: try model.latentShape(height: settings.resolution, width: settings.resolution), seed: seed,
            tokenSide: self.settings.advantage == .image ? nil : model.tokenSide)
    }

    /// Latents [B, C, h, w] -> images [B, H, W, 3] in [0, 1], one by one on the lanes: convolutions gain nothing from a batch, and
    /// its activations are the largest a worker has.
    public func images(_ latents_BCHW: Tensor, lanes: Lanes) -> Tensor {
        concatenated(
            lanes.map(latents_BCHW.shape[0]) { [model] in model.images(latents_BCHW.rows($0..<$0 + 1)) }, axis: 0)
    }
}

/// One version of the policy, ready to sample groups with and to take their gradients.
public struct SamplingPolicy: Sendable {
    /// The guided steps outside the window.
    public let velocity: VelocityFunction
    /// The same function as gradients are taken of it.
    public let tracked: TrackedPolicy
    /// The window's steps: computed as the update will compute them, so that its first ratio is 1 to the bit.
    public var windowVelocity: VelocityFunction { tracked.velocity }
}
