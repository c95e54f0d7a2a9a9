import AdvGRPO
import Datasets
import ImageModels
import MethodModels
import NeuralNetworks
public import Protocol
import Raster
public import Runtime
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
        let prompts = try PromptList(
            path: settings.data.prompts, without: settings.data.evaluationPrompts
        ).prompts
        let library = try ReferenceLibrary(path: settings.data.references, required: prompts)
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
        func networks(_ lanes: Lanes) -> FrozenNetworks {
            FrozenNetworks(backbone: vision.function(lanes: lanes), trunk: tunable?.trunk(lanes: lanes))
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
        untrained = try Discriminator(
            reward: settings.method.reward, discriminator: settings.method.discriminator, backbone: vision.shape,
            encoder: tunable?.encoder, seed: seed, engine: engine)
    }

    /// Scores of the active frozen rewards.
    ///
    /// - Parameter images: uint8 [B, H, W, 3].
    func frozenScores(_ images: TensorPayload, prompt: String) throws -> [RewardComponent: [Float]] {
        guard !frozen.isEmpty else { return [:] }
        let (B, H, W) = (images.shape[0], images.shape[1], images.shape[2])
        let (bytes, size) = (images.bytes.array, H * W * 3)
        let pictures = (0..<B).map {
            RGBImage(width: W, height: H, pixels: Array(bytes[$0 * size..<($0 + 1) * size]))
        }
        let prompts = [String](repeating: prompt, count: B)
        return Dictionary(
            try frozen.map { ($0.component, try $0.scores(of: pictures, prompts: prompts, lanes: lanes)) }
        ) { first, _ in first }
    }

    var freshTrainer: DiscriminatorTrainer {
        DiscriminatorTrainer(untrained, settings: method.discriminator, seed: seed)
    }
}

/// The discriminator in the hands of the one thread that may change it.
public struct DiscriminatorDesk {
    private let scorer: Scorer
    private let referenceImages: ReferenceImages
    private let reward: AdversarialReward
    /// nil until a learner has restored a state.
    var trainer: DiscriminatorTrainer?
    /// The answer to the last training, for a learner that asks again.
    private var lastTraining: (order: DiscriminatorTraining, answer: DiscriminatorTrained)?
    /// The last training's figures.
    private(set) var lastReport: DiscriminatorReport?
    private var incoming: (order: DiscriminatorRestore, assembler: TensorAssembler)?
    private var outgoing: (version: DiscriminatorVersion, chunks: [TensorChunk])?

    /// A desk without a discriminator until one is restored.
    public init(scorer: Scorer) {
        self.init(
            scorer: scorer,
            referenceImages: scorer.references.images(
                discriminator: scorer.untrained, networks: scorer.referenceNetworks, lanes: scorer.lanes))
    }

    init(scorer: Scorer, referenceImages: ReferenceImages) {
        self.scorer = scorer
        self.referenceImages = referenceImages
        reward = AdversarialReward(settings: scorer.method.reward, references: referenceImages, seed: scorer.seed)
    }

    private func ready() throws(Failure) -> DiscriminatorTrainer {
        guard let trainer else {
            throw Failure(
                code: .notReady, message: "the reward server has no discriminator yet",
                remedy: "wait for the learner to restore it")
        }
        return trainer
    }

    /// Scores a group and remembers its images.
    public mutating func score(_ request: ScoreRequest) throws -> Scores {
        let discriminator = try ready().discriminator
        if let asked = request.discriminatorVersion?.rawValue, asked != discriminator.version {
            throw Failure(
                code: asked > discriminator.version ? .notReady : .versionMismatch,
                message:
                    "the discriminator is at version \(discriminator.version), \(asked) is to score \(request.group)",
                remedy: asked > discriminator.version
                    ? "ask again when it is trained" : "ask the learner for a new lease")
        }
        let payload = request.images
        let images = payload.bytes.withUnsafeBytes { scorer.engine.pixels(levels: $0, shape: payload.shape) }
        let features = try reward.features(
            of: images, prompt: request.prompt, discriminator: discriminator, networks: scorer.networks)
        let scores = try reward.score(
            request.group, prompt: request.prompt, features: features.score, discriminator: discriminator,
            frozen: try scorer.frozenScores(payload, prompt: request.prompt), lanes: scorer.lanes)
        trainer?.remember(request.group, prompt: request.prompt, features: features.training)
        outgoing = nil
        return Scores(
            discriminatorVersion: DiscriminatorVersion(rawValue: scores.version),
            rewards: TensorPayload(floats: scores.rewards),
            components: Dictionary(
                uniqueKeysWithValues: scores.components.map {
                    ($0.component.rawValue, TensorPayload(floats: $0.values))
                }))
    }

    /// Makes the next version, or only compares the epoch's images with their prompts' references when no steps are asked for.
    public mutating func train(_ order: DiscriminatorTraining) throws -> DiscriminatorTrained {
        if let lastTraining, lastTraining.order == order { return lastTraining.answer }
        var next = try ready()
        guard next.discriminator.version == order.fromVersion.rawValue else {
            throw Failure(
                code: .versionMismatch,
                message: "the discriminator is at version \(next.discriminator.version), not \(order.fromVersion)",
                remedy: "restore the version that is meant")
        }
        do {
            guard order.steps > 0 else {
                let separation = try next.compared(
                    on: order.groups, references: referenceImages, lanes: scorer.lanes)
                return DiscriminatorTrained(version: order.fromVersion, loss: 0, separation)
            }
            let report = try next.train(
                groups: order.groups, references: referenceImages, steps: order.steps, lanes: scorer.lanes)
            trainer = next
            lastReport = report
            let answer = DiscriminatorTrained(
                version: DiscriminatorVersion(rawValue: report.version), loss: report.loss, report.training,
                auc: report.heldOut.areaUnderCurve)
            lastTraining = (order, answer)
            outgoing = nil
            return answer
        } catch let missing as MissingGroups {
            throw Failure(code: .unknownGroup, message: missing.description, remedy: "sample them again")
        }
    }

    /// A piece of the current state, without the groups scored since the last training: the learner snapshots between two
    /// epochs, when none of them counts any more or yet.
    mutating func state(_ request: DiscriminatorStateRequest) throws -> Protocol.DiscriminatorState {
        var trainer = try ready()
        guard trainer.discriminator.version == request.version.rawValue else {
            throw Failure(
                code: .versionMismatch,
                message: "the discriminator is at version \(trainer.discriminator.version), not \(request.version)")
        }
        if outgoing?.version != request.version || request.chunkIndex == 0 {
            trainer.forgetWaiting()
            outgoing = (request.version, TensorChunk.divide(TensorSet(trainer.state)))
        }
        let chunks = outgoing?.chunks ?? []
        return Protocol.DiscriminatorState(
            version: request.version, chunkIndex: request.chunkIndex, chunkCount: chunks.count,
            chunk: try chunks.requested(request.chunkIndex))
    }

    /// Takes a piece of a state; after the last one continues from it. No tensors at all stand for the untrained version.
    ///
    /// - Returns: the run it now belongs to, once the state is complete.
    public mutating func restore(_ order: DiscriminatorRestore) throws -> RunID? {
        if order.chunkIndex == 0 {
            incoming = (order, TensorAssembler(chunkCount: order.chunkCount))
        }
        guard incoming?.order.version == order.version, incoming?.order.runID == order.runID else {
            throw Failure(
                code: .restoreInterrupted, message: "another restore began", remedy: "start again from chunk 0")
        }
        try incoming?.assembler.add(order.chunk, index: order.chunkIndex)
        guard order.chunkIndex == order.chunkCount - 1, let tensors = try incoming?.assembler.assembled() else {
            return nil
        }
        incoming = nil
        var next = scorer.freshTrainer
        if tensors.count > 0 {
            try next.restore(AdvGRPO.DiscriminatorState(tensors, engine: scorer.engine))
            try next.checkReplay(against: referenceImages)
        }
        guard next.discriminator.version == order.version.rawValue else {
            throw Failure(
                code: .versionMismatch,
                message: "the state is of version \(next.discriminator.version), not \(order.version)")
        }
        trainer = next
        lastTraining = nil
        lastReport = nil
        outgoing = nil
        return order.runID
    }
}

extension DiscriminatorTrained {
    init(version: DiscriminatorVersion, loss: Double, _ separation: Separation, auc: Double? = nil) {
        self.init(
            version: version, loss: loss, accuracy: separation.accuracy, realMean: separation.realMean,
            fakeMean: separation.fakeMean, margin: separation.margin, auc: auc ?? separation.areaUnderCurve)
    }
}

private let documentName = "document.json"

extension TensorSet {
    /// A state on its way: its tensors, and its document as bytes.
    init(_ state: AdvGRPO.DiscriminatorState) {
        self.init(state.tensors)
        let bytes = Array(state.document.utf8)
        self[documentName] = TensorPayload(uint8s: bytes, shape: [bytes.count])
    }
}

extension AdvGRPO.DiscriminatorState {
    /// - Throws: `Failure` when the document is missing, `WireError` when a tensor is not floating point.
    init(_ tensors: TensorSet, engine: any Engine) throws {
        guard let document = tensors[documentName] else {
            throw Failure(code: .invalidState, message: "the discriminator's state has no \(documentName)")
        }
        var rest = tensors
        rest[documentName] = nil
        self.init(
            tensors: try rest.parameters(on: engine), document: String(decoding: document.bytes.array, as: UTF8.self))
    }
}
