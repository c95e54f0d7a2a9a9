public import NeuralNetworks
import TensorCore

/// What one training of the discriminator did.
public struct DiscriminatorReport: Sendable, Equatable {
    /// The version it made.
    public let version: Int
    /// Mean loss of its steps.
    public let loss: Double
    /// Separation of the images it trained on, logits of the last step before that step's update.
    public let training: Separation
    /// Separation of images that the previous version had never seen: the epoch's new images, which it scored, and held-out
    /// references. This is the version the epoch's rewards come from.
    public let heldOut: Separation
}

/// Trains the discriminator's heads: hinge loss on references and generated images, Adam in fp32.
///
/// Batches are a function of (seed, version, step): all of the epoch's images and their prompts' references, or draws
/// without replacement from the replay (the epoch's images included) and from all training references.
///
/// - Source: method.md 1.7; Adv-GRPO@8287f90 `train_sd3_fast_dino_patch.py`. Differences: fp32 weights (method.md 4.13), replay,
///   several steps a training; see docs/method.md.
public struct DiscriminatorTrainer: Sendable {
    /// The current version.
    public internal(set) var discriminator: Discriminator
    /// Moments of Adam.
    public internal(set) var optimizer: AdamW
    /// Generated images.
    public internal(set) var replay: FakeReplay

    private let settings: DiscriminatorSettings
    private let seed: UInt64

    /// Most images of one side that `heldOut` is measured on, and that constants are fitted on.
    static let measuredImageLimit = 512

    /// An untrained discriminator.
    public init(_ discriminator: Discriminator, settings: DiscriminatorSettings, seed: UInt64) {
        self.init(
            discriminator, optimizer: AdamW(settings.optimizer, parameters: discriminator.parameters),
            replay: FakeReplay(capacity: settings.replayCapacity), settings: settings, seed: seed)
    }

    init(
        _ discriminator: Discriminator, optimizer: AdamW, replay: FakeReplay, settings: DiscriminatorSettings,
        seed: UInt64
    ) {
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.replay = replay
        self.settings = settings
        self.seed = seed
    }

    /// Remembers the images of a scored group.
    public mutating func remember(_ group: GroupCoordinates, prompt: String, features: FeatureTable) {
        replay.remember(group, prompt: prompt, features: features)
    }

    /// Forgets scored groups that no training has used: a snapshot between two epochs is the same whoever scored what since.
    public mutating func forgetWaiting() { replay.forgetWaiting() }

    /// How the current version separates images it has not been trained on from held-out references, without training it.
    ///
    /// - Parameter groups: scored and remembered.
    /// - Throws: `MissingGroups`, or what reading references throws.
    public func measured(on groups: [GroupCoordinates], references: ReferenceImages) throws -> Separation {
        try measure(FeatureTable(joining: try replay.waitingEntries(groups).map(\.features)), references)
    }

    /// Makes the next version.
    ///
    /// - Parameters:
    ///   - groups: of one epoch, all scored and remembered.
    ///   - steps: optimiser steps; the settings' number unless given.
    /// - Throws: `MissingGroups`, `MissingReferences`, `NumericalFailure`, or what reading references throws; the trainer is
    ///   then as it was before.
    public mutating func train(
        groups: [GroupCoordinates], references: ReferenceImages, steps: Int? = nil
    ) throws -> DiscriminatorReport {
        var next = self
        let report = try next.advance(groups, references, steps ?? settings.stepsPerTraining)
        self = next
        return report
    }

    private mutating func advance(
        _ groups: [GroupCoordinates], _ references: ReferenceImages, _ steps: Int
    ) throws -> DiscriminatorReport {
        precondition(steps >= 1, "discriminator: \(steps) steps")
        let version = discriminator.version
        let fresh = try replay.take(groups)
        let newImages = FeatureTable(joining: fresh.map(\.features))
        let heldOut = try measure(newImages, references)
        let ownReferences = try fresh.flatMap { entry in
            let images = try references.images(of: entry.prompt)
            return (0..<entry.features.count).map { images[$0 % images.count] }
        }
        if version == 0 {
            let some = sample(references.training, Self.measuredImageLimit, Philox(seed: seed, purpose: .evaluation, 1))
            discriminator.fitConstants(real: try references.features(some, .training), fake: newImages)
        }
        let fakes = settings.replayCapacity > 0 ? replay.table : newImages
        var lossSum = 0.0
        var separation: Separation?
        for step in 0..<steps {
            let fakeStream = Philox(seed: seed, purpose: .discriminatorBatches, version, step, 0)
            let realStream = Philox(seed: seed, purpose: .discriminatorBatches, version, step, 1)
            let fakeCount = settings.fakeBatch == 0 ? newImages.count : settings.fakeBatch
            let fakeRows = sample(Array(0..<fakes.count), fakeCount, fakeStream)
            let realImages =
                settings.realBatch == 0 ? ownReferences : sample(references.training, settings.realBatch, realStream)
            let result = try update(
                real: try references.features(realImages, .training), fake: fakes.rows(fakeRows), step: step)
            lossSum += result.loss
            separation = result.separation
        }
        replay.trim()
        discriminator.version = version + 1
        guard let separation else { preconditionFailure("discriminator: no step") }
        return DiscriminatorReport(
            version: version + 1, loss: lossSum / Double(steps), training: separation, heldOut: heldOut)
    }

    /// The first `count` of a permutation, or all in order when there are no more.
    private func sample(_ items: [Int], _ count: Int, _ stream: Philox) -> [Int] {
        count >= items.count ? items : stream.permutation(items.count).prefix(count).map { items[$0] }
    }

    /// One step of Adam on the sum of the heads' losses; separation of the first head's logits.
    private mutating func update(
        real: FeatureTable, fake: FeatureTable, step: Int
    ) throws(NumericalFailure) -> (loss: Double, separation: Separation) {
        let leaves = discriminator.parameters.tracked()
        let version = discriminator.version
        func draws(_ count: Int, _ side: Int) -> PatchDraws {
            // part 0 belongs to the scores
            PatchDraws((0..<count).map { Philox(seed: seed, purpose: .patches, version, $0, 1 + 2 * step + side) })
        }
        let (realDraws, fakeDraws) = (draws(real.count, 0), draws(fake.count, 1))
        let losses = discriminator.heads.map { head in
            head.loss(
                real: real, fake: fake, weights: discriminator.weights(head, leaves), realDraws: realDraws,
                fakeDraws: fakeDraws)
        }
        guard let first = losses.first else {
            preconditionFailure("discriminator: no component of the reward has a head")
        }
        let loss = losses.dropFirst().reduce(first.loss) { $0 + $1.loss }
        let gradients = leaves.gradients(from: loss.gradients())
        guard loss.scalar.isFinite, gradients.norm.isFinite else {
            throw NumericalFailure("not finite: discriminator of version \(version), step \(step), seed \(seed)")
        }
        discriminator.parameters = optimizer.update(discriminator.parameters, gradients: gradients)
        let separation = Separation(
            real: first.realLogits.detached.values, fake: first.fakeLogits.detached.values)
        return (Double(loss.scalar), separation)
    }

    /// How the current version's score separates new images from held-out references (from all references where none is
    /// held out).
    private func measure(_ newImages: FeatureTable, _ references: ReferenceImages) throws -> Separation {
        let pool = references.heldOut.isEmpty ? references.training : references.heldOut
        let chosen = sample(pool, Self.measuredImageLimit, Philox(seed: seed, purpose: .evaluation))
        let real = try references.features(chosen, .training)
        func scores(_ table: FeatureTable, _ side: Int) -> [Float] {
            let streams = (0..<table.count).map {
                Philox(seed: seed, purpose: .evaluation, discriminator.version, $0, 1 + side)
            }
            return discriminator.adversarialScores(table, draws: PatchDraws(streams))
        }
        return Separation(real: scores(real, 0), fake: scores(newImages, 1))
    }
}

extension DiscriminatorSettings {
    /// Adam: AdamW without decay.
    public var optimizer: AdamW.Settings {
        AdamW.Settings(learningRate: learningRate, beta1: betas.first, beta2: betas.second)
    }
}
