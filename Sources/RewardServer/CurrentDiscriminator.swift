import AdvGRPO
import ComputeRoles
import MethodModels
import NeuralNetworks
public import Protocol
import SafeTensors
import TensorCore

/// The discriminator in the hands of the one thread that may change it.
public struct CurrentDiscriminator {
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

    /// None yet: a learner restores it.
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
            of: images, group: request.group, prompt: request.prompt, discriminator: discriminator,
            networks: scorer.networks)
        let scores = try reward.score(
            request.group, prompt: request.prompt, features: features.score, discriminator: discriminator,
            frozen: try scorer.frozenScores(payload, prompt: request.prompt), lanes: scorer.lanes)
        let maps = try scorer.maps(
            of: (payload, images), prompt: request.prompt, scores, features.score, discriminator, reward)
        var witnesses: [Witness: [Float]] = [.diversity: distancesToSiblings(images)]
        witnesses[.twin] = trainer?.twin.flatMap {
            reward.twinScores(request.group, features: features.score, twin: $0, lanes: scorer.lanes)
        }
        trainer?.remember(request.group, prompt: request.prompt, features: features.training)
        outgoing = nil
        return Scores(
            discriminatorVersion: DiscriminatorVersion(rawValue: scores.version),
            rewards: TensorPayload(floats: scores.rewards),
            components: Dictionary(
                uniqueKeysWithValues: scores.components.map {
                    ($0.component.rawValue, TensorPayload(floats: $0.values))
                }), maps: maps,
            witnesses: Dictionary(
                uniqueKeysWithValues: witnesses.map { ($0.key.rawValue, TensorPayload(floats: $0.value)) }))
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
                return DiscriminatorTrained(
                    version: order.fromVersion, realMean: separation.realMean, fakeMean: separation.fakeMean,
                    auc: separation.areaUnderCurve)
            }
            let report = try next.train(
                groups: order.groups, references: referenceImages, steps: order.steps, lanes: scorer.lanes)
            if order.steps > scorer.method.discriminator.stepsPerTraining { next.keepTwin() }
            trainer = next
            lastReport = report
            let answer = DiscriminatorTrained(
                version: DiscriminatorVersion(rawValue: report.version), realMean: report.training.realMean,
                fakeMean: report.training.fakeMean, auc: report.heldOut.areaUnderCurve, metrics: report.figures)
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

extension DiscriminatorReport {
    /// The figures as they travel: nil for what is not finite.
    var figures: [String: Double?] { Self.metrics.values(of: self).mapValues { $0.isFinite ? $0 : nil } }
}
