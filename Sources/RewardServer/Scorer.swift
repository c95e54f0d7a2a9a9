import AdvGRPO
import ComputeRoles
public import Configuration
import Datasets
import ImageModels
import MethodModels
import NeuralNetworks
import Protocol
import Raster
import SafeTensors
public import TensorCore

/// What scoring needs and never changes: backbone, frozen rewards, references, the untrained discriminator.
public struct Scorer: Sendable {
    let method: MethodSettings
    let engine: any Engine
    /// The frozen networks on all lanes, for the images of a group.
    let networks: FrozenNetworks
    /// The frozen networks on the calling thread, for references that are computed side by side.
    let referenceNetworks: FrozenNetworks
    let lanes: Lanes
    private let frozen: [FrozenReward]
    let references: ReferenceFeatures
    let untrained: Discriminator
    let seed: UInt64
    /// A sentence that names what of the backbone's folder was not read; nil where all was.
    let leftOut: String?
    /// A sentence on prompts with one reference, where a head compares with the others; nil where all have others.
    let lonePrompts: String?
    /// Prompts that are longer than a frozen reward reads; nil where none is.
    let promptCuts: PromptCuts?

    /// Loads the backbone and the frozen rewards and checks the references.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError`, `SettingViolation` naming the file or key.
    public init(settings: Settings, engine: any Engine) throws {
        method = settings.method
        self.engine = engine
        seed = UInt64(settings.seed)
        lanes = Lanes(count: settings.cluster.rewardServerThreads, engine: engine)
        let chunks = Chunks(size: settings.method.rollout.chunkSize)
        let vision = try VisionBackbone(
            folder: settings.rewardBackbone, engine: engine, dtype: settings.precision.dtype,
            resize: settings.method.reward.resize, chunks: chunks)
        leftOut = vision.leftOut
        let runPrompts = try RunPrompts(settings)
        let prompts = runPrompts.training
        let library = try runPrompts.references(of: prompts)
        frozen = try settings.method.reward.weights.active.filter(\.isFrozen).map { component in
            try FrozenReward(
                component, folder: settings.modelFolder(of: component), engine: engine,
                dtype: settings.precision.dtype, chunks: chunks
            ) { try library.references(of: $0, width: $1, height: $2) }
        }
        let tunable: TunableImageText? =
            settings.method.reward.weights[.pickScoreAdversarial] > 0
            ? try TunableImageText(
                folder: settings.modelFolder(of: .pickScoreAdversarial),
                layerCount: settings.method.discriminator.tunedLayers, engine: engine, dtype: settings.precision.dtype,
                chunks: chunks) : nil
        // Only runs whose discriminator is told the prompt load text encoders.
        let prompt =
            settings.method.reward.weights.active.contains { $0.reads.contains(.embedding) }
            ? try PooledPrompts(
                PolicySource(path: settings.model, engine: engine, dtype: settings.precision.dtype),
                embeddings: settings.data.embeddings) : nil
        let embedding: (@Sendable (String) -> Tensor)? = prompt.map { prompt in
            { @Sendable (text: String) -> Tensor in prompt(text) }
        }
        let tuned =
            settings.method.discriminator.backbone == .frozen
            ? nil
            : try TunableBackbone(
                folder: settings.rewardBackbone, settings: settings.method.discriminator, seed: UInt64(settings.seed),
                engine: engine, chunks: chunks
            ).tuned
        func networks(_ lanes: Lanes) -> FrozenNetworks {
            let states: StatesFunction? = tuned.map { vision.states(before: $0.firstBlock, lanes: lanes) }
            return FrozenNetworks(
                backbone: vision.function(lanes: lanes), trunk: tunable?.trunk(lanes: lanes), prompt: embedding,
                states: states)
        }
        self.networks = networks(lanes)
        referenceNetworks = networks(Lanes(count: 1))
        promptCuts = PromptCuts(prompts, readers: frozen.compactMap(\.promptReader))
        // What is not drawn is the epoch's own prompts' references, whichever these are.
        references = ReferenceFeatures(
            library: library, prompts: prompts,
            holdsOut: method.discriminator.realBatch > 0, side: settings.method.rollout.resolution, engine: engine,
            reconstruction: settings.method.reward.references == .decoded
                ? try PolicySource(path: settings.model, engine: engine).reconstruction() : nil)
        if method.reward.relativeToReferences, let single = references.prompts.first(where: { $0.imageCount < 2 }) {
            throw SettingViolation(
                path: "reward.relativeToReferences",
                message:
                    "needs two references for every prompt; \"\(single.text)\" has one in \(settings.data.references)")
        }
        if method.discriminator.targetAUC > 0, !references.prompts.contains(where: \.isHeldOut) {
            throw SettingViolation(
                path: "discriminator.targetAUC",
                message: "needs held-out references, those of every tenth prompt; \(settings.data.prompts) has "
                    + "\(prompts.count) prompts; use 0, or ten prompts")
        }
        let lone = references.prompts.filter { $0.imageCount < 2 }
        lonePrompts =
            method.reward.weights[.relative] > 0
            ? lone.first.map {
                "\(lone.count) of \(prompts.count) prompts have one reference, \"\($0.text)\" for example: "
                    + "\(RewardComponent.relative.rawValue) has no others to compare with there and reads the image alone"
            } : nil
        untrained = try Discriminator(
            reward: settings.method.reward, discriminator: settings.method.discriminator, backbone: vision.shape,
            encoder: tunable?.encoder, promptWidth: prompt?.width, tuned: tuned, seed: seed, engine: engine)
    }

    /// Scores of the active frozen rewards.
    ///
    /// - Parameter images: uint8 [B, H, W, 3].
    func frozenScores(_ images: TensorPayload, prompt: String) throws -> [RewardComponent: [Float]] {
        guard !frozen.isEmpty else { return [:] }
        let pictures = pictures(images)
        let prompts = [String](repeating: prompt, count: pictures.count)
        return Dictionary(
            try frozen.map { ($0.component, try $0.scores(of: pictures, prompts: prompts, lanes: lanes)) }
        ) { first, _ in first }
    }

    /// Maps of the active frozen rewards that have some.
    ///
    /// - Parameter images: uint8 [B, H, W, 3].
    private func frozenMaps(_ images: TensorPayload, prompt: String, _ attribution: Attribution) throws
        -> [RewardComponent: RewardMaps]
    {
        guard !frozen.isEmpty else { return [:] }
        let pictures = pictures(images)
        var maps: [RewardComponent: RewardMaps] = [:]
        for reward in frozen {
            maps[reward.component] = try reward.maps(of: pictures, prompt: prompt, attribution: attribution)
        }
        return maps
    }

    /// Where in its image each reward comes from, in runs that credit patches; otherwise nil.
    ///
    /// - Parameters:
    ///   - images: uint8 [B, H, W, 3], and as numbers [B, H, W, 3] in [0, 1].
    ///   - scores: theirs.
    ///   - features: what they were scored by.
    func maps(
        of images: (levels: TensorPayload, values: Tensor), prompt: String, _ scores: RewardScores,
        _ features: FeatureTable, _ discriminator: Discriminator, _ reward: AdversarialReward
    ) throws -> TensorPayload? {
        guard method.policy.patchCredit != nil else { return nil }
        let attribution = Attribution(chunks: Chunks(size: method.rollout.chunkSize), lanes: lanes)
        let maps = try reward.maps(
            of: images.values, prompt: prompt, scores: scores, features: features, discriminator: discriminator,
            networks: referenceNetworks, frozen: frozenMaps(images.levels, prompt: prompt, attribution),
            attribution: attribution)
        return TensorPayload(
            floats: maps.floats, shape: [maps.values.count, maps.grid.rows, maps.grid.columns])
    }

    private func pictures(_ images: TensorPayload) -> [RGBImage] {
        let (B, H, W) = (images.shape[0], images.shape[1], images.shape[2])
        let (bytes, size) = (images.bytes.array, H * W * 3)
        return (0..<B).map { RGBImage(width: W, height: H, pixels: Array(bytes[$0 * size..<($0 + 1) * size])) }
    }

    var freshTrainer: DiscriminatorTrainer {
        DiscriminatorTrainer(
            untrained, settings: method.discriminator, seed: seed, firstFollowed: method.schedule.firstFollowedVersion)
    }
}
