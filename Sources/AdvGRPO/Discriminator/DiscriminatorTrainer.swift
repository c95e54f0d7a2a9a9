public import NeuralNetworks
public import TensorCore

/// What one training of the discriminator did.
public struct DiscriminatorReport: Sendable, Equatable {
    /// The version it made.
    public let version: Int
    /// Optimiser steps it took.
    public let stepCount: Int
    /// Mean loss of its steps.
    public let loss: Double
    /// Mean norm of its steps' gradients.
    public let gradientNorm: Double
    /// Separation of the images it trained on, logits of the last step before that step's update.
    public let training: Separation
    /// Separation of images that the previous version had never seen: the epoch's new images, which it scored, and held-out
    /// references (where a head learns from pairs: the references of the images' own prompts). This is the version the epoch's
    /// rewards come from.
    public let heldOut: Separation
    /// Separation, by the version it made, of images that this training did not learn from: every fourth of the epoch's and
    /// held-out references. nil unless a training goes on until this is `targetAUC`.
    public let reached: Separation?
}

/// Trains the discriminator's heads: hinge loss on references and generated images, pairwise loss where a head learns from pairs,
/// Adam in fp32.
///
/// Batches are a function of (seed, version, step): all of the epoch's images and their prompts' references, or draws
/// without replacement from the replay (the epoch's images included) and from all training references. A head that learns from
/// pairs gets, for every generated image of the batch, a reference of its prompt.
///
/// With `targetAUC` a training takes rounds of steps until its separation of images it does not learn from is good enough. These
/// are held-out references and every fourth of the epoch's images, which later trainings find in the replay; by then, they have
/// measured.
///
/// - Source: method.md 1.7, 1.13; Adv-GRPO@8287f90 `train_sd3_fast_dino_patch.py`. Differences: fp32 weights (method.md 4.13), replay,
///   several steps a training; see docs/method.md.
public struct DiscriminatorTrainer: Sendable {
    /// The current version.
    public internal(set) var discriminator: Discriminator
    /// Moments of Adam.
    public internal(set) var optimizer: AdamW
    /// Generated images.
    public internal(set) var replay: FakeReplay
    /// Heads as they were when the policy began to follow them; nil before.
    public internal(set) var twin: Discriminator?

    let settings: DiscriminatorSettings
    let seed: UInt64
    /// The first version that the policy may follow, warm-up apart.
    let firstFollowed: Int

    /// Most images of one side that `heldOut` is measured on, and that constants are fitted on.
    static let measuredImageLimit = 512

    /// An untrained discriminator.
    ///
    /// - Parameter firstFollowed: the first version that the policy may follow, warm-up apart (`ScheduleSettings.firstFollowedVersion`).
    public init(_ discriminator: Discriminator, settings: DiscriminatorSettings, seed: UInt64, firstFollowed: Int = 1) {
        self.init(
            discriminator, optimizer: AdamW(settings.optimizer, parameters: discriminator.parameters),
            replay: FakeReplay(capacity: settings.replayCapacity), settings: settings, seed: seed,
            firstFollowed: firstFollowed)
    }

    init(
        _ discriminator: Discriminator, optimizer: AdamW, replay: FakeReplay, settings: DiscriminatorSettings,
        seed: UInt64, firstFollowed: Int = 1
    ) {
        self.firstFollowed = firstFollowed
        self.discriminator = discriminator
        self.optimizer = optimizer
        self.replay = replay
        self.settings = settings
        self.seed = seed
    }

    /// Remembers the images of a scored group.
    public mutating func remember(_ group: GroupID, prompt: String, features: FeatureTable) {
        replay.remember(group, prompt: prompt, features: features)
    }

    /// Forgets scored groups that no training has used: a snapshot between two epochs is the same whoever scored what since.
    public mutating func forgetWaiting() { replay.forgetWaiting() }

    /// How the current version separates images it has not been trained on from held-out references, without training it.
    ///
    /// - Parameters:
    ///   - groups: scored and remembered.
    ///   - references: of the run's prompts.
    ///   - lanes: threads; the result does not depend on how many there are.
    /// - Throws: `MissingGroups`, or what reading references throws.
    public func measured(
        on groups: [GroupID], references: ReferenceImages, lanes: Lanes = Lanes(count: 1)
    ) throws -> Separation {
        try measure(try replay.waitingEntries(groups), references, lanes)
    }

    /// How the current version scores an epoch's images beside references of the same prompts: what the schedule `trigger` asks.
    ///
    /// - Parameters:
    ///   - groups: scored and remembered.
    ///   - references: of the run's prompts.
    ///   - lanes: threads; the result does not depend on how many there are.
    /// - Throws: `MissingGroups`, or what reading references throws.
    public func compared(
        on groups: [GroupID], references: ReferenceImages, lanes: Lanes = Lanes(count: 1)
    ) throws -> Separation {
        try compare(try replay.waitingEntries(groups), references, lanes)
    }

    /// Makes the next version.
    ///
    /// - Parameters:
    ///   - groups: of one epoch, all scored and remembered.
    ///   - references: of the run's prompts.
    ///   - steps: optimiser steps, with `targetAUC` those of a round; the settings' number unless given.
    ///   - lanes: pieces of what is scored, and of a batch of pairs, run on them; the result does not depend on how many
    ///     there are.
    /// - Throws: `MissingGroups`, `MissingReferences`, `NumericalFailure`, or what reading references throws; the trainer is
    ///   then as it was before.
    public mutating func train(
        groups: [GroupID], references: ReferenceImages, steps: Int? = nil, lanes: Lanes = Lanes(count: 1)
    ) throws -> DiscriminatorReport {
        var next = self
        let report = try next.advance(groups, references, steps ?? settings.stepsPerTraining, lanes)
        self = next
        return report
    }

    private mutating func advance(
        _ groups: [GroupID], _ references: ReferenceImages, _ steps: Int, _ lanes: Lanes
    ) throws -> DiscriminatorReport {
        precondition(steps >= 1, "discriminator: \(steps) steps")
        let version = discriminator.version
        let fresh = try replay.take(groups)
        let heldOut = try measure(fresh, references, lanes)
        let known = settings.replayCapacity > 0 ? replay.keptGroups : groups.sorted()
        let entries = replay.keptEntries(known)
        let fakes = FeatureTable(joining: entries.map(\.features))
        let rows = rows(of: known, entries, fresh: Set(groups))
        if version == 0, discriminator.heads.contains(where: { $0.standardizedWidth != nil }) {
            let some = sample(references.training, Self.measuredImageLimit, Philox(seed: seed, purpose: .evaluation, 1))
            discriminator.fitConstants(
                real: discriminator.withBackbone(try references.features(some, .training), lanes: lanes),
                fake: discriminator.withBackbone(fakes.rows(rows.learned), lanes: lanes))
        }
        let partners = discriminator.readsPairs ? try partners(of: entries, references) : []
        let ownReferences = try self.partners(of: fresh, references).map(\.reference)
        var results: [(loss: Double, gradientNorm: Double, separation: Separation)] = []
        var reached: Separation?
        repeat {
            for step in results.count..<min(results.count + steps, max(steps, settings.stepLimit)) {
                let fakeStream = Philox(seed: seed, purpose: .discriminatorBatches, version, step, 0)
                let realStream = Philox(seed: seed, purpose: .discriminatorBatches, version, step, 1)
                let fakeCount = settings.fakeBatch == 0 ? ownReferences.count : settings.fakeBatch
                let fakeRows = sample(rows.learned, fakeCount, fakeStream)
                let realImages =
                    settings.realBatch == 0
                    ? ownReferences : sample(references.training, settings.realBatch, realStream)
                let batch = DiscriminatorBatch(
                    fake: fakes.rows(fakeRows), partners: partners.isEmpty ? [] : fakeRows.map { partners[$0] },
                    realImages: realImages)
                results.append(try update(batch, references, step: step, lanes))
            }
            if settings.targetAUC > 0 { reached = try measure(fakes.rows(rows.spared), references, lanes) }
        } while (reached?.areaUnderCurve ?? 1) < settings.targetAUC && results.count < settings.stepLimit
        replay.trim()
        discriminator.version = version + 1
        keepTwin(after: heldOut)
        guard let last = results.last else { preconditionFailure("discriminator: no step") }
        return DiscriminatorReport(
            version: version + 1, stepCount: results.count,
            loss: results.reduce(0) { $0 + $1.loss } / Double(results.count),
            gradientNorm: results.reduce(0) { $0 + $1.gradientNorm } / Double(results.count),
            training: last.separation, heldOut: heldOut, reached: reached)
    }

    /// The rows of a training's generated images that it learns from, and those that measure it: with `targetAUC` every fourth of
    /// the epoch's, or the last where there are fewer.
    private func rows(
        of groups: [GroupID], _ entries: [FakeReplay.Entry], fresh: Set<GroupID>
    ) -> (learned: [Int], spared: [Int]) {
        let isFresh = zip(groups, entries).flatMap { group, entry in
            [Bool](repeating: fresh.contains(group), count: entry.features.count)
        }
        guard settings.targetAUC > 0 else { return (Array(isFresh.indices), []) }
        let new = isFresh.indices.filter { isFresh[$0] }
        let spared = Set(stride(from: min(3, new.count - 1), to: new.count, by: 4).map { new[$0] })
        return (isFresh.indices.filter { !spared.contains($0) }, spared.sorted())
    }

    /// The first `count` of a permutation, or all in order when there are no more.
    private func sample(_ items: [Int], _ count: Int, _ stream: Philox) -> [Int] {
        count >= items.count ? items : stream.permutation(items.count).prefix(count).map { items[$0] }
    }

    /// For each image of some groups a reference of its prompt: the prompt's own in turn, from the first again when there are fewer
    /// than members.
    private func partners(of entries: [FakeReplay.Entry], _ references: ReferenceImages) throws -> [ReferencePartner] {
        try entries.flatMap { entry in
            let images = try references.images(of: entry.prompt)
            return (0..<entry.features.count).map {
                ReferencePartner(prompt: entry.prompt, reference: images[$0 % images.count])
            }
        }
    }

    /// How the current version's score separates new images from held-out references (from all references where none is
    /// held out); where a head learns from pairs, from the references of their own prompts, whose scores alone compare.
    private func measure(
        _ entries: [FakeReplay.Entry], _ references: ReferenceImages, _ lanes: Lanes
    ) throws -> Separation {
        if discriminator.readsPairs { return try compare(entries, references, lanes) }
        return try measure(FeatureTable(joining: entries.map(\.features)), references, lanes)
    }

    /// The same of images that no head reads in pairs.
    private func measure(
        _ fakes: FeatureTable, _ references: ReferenceImages, _ lanes: Lanes
    ) throws -> Separation {
        let pool = references.heldOut.isEmpty ? references.training : references.heldOut
        let chosen = sample(pool, Self.measuredImageLimit, Philox(seed: seed, purpose: .evaluation))
        let real = try references.features(chosen, .training)
        return Separation(
            real: try scores(real, side: 0, lanes), fake: try scores(fakes, side: 1, lanes),
            unit: discriminator.adversarialWeight)
    }

    /// How the current version's score separates images from references of their own prompts.
    private func compare(
        _ entries: [FakeReplay.Entry], _ references: ReferenceImages, _ lanes: Lanes
    ) throws -> Separation {
        let partners = try partners(of: entries, references)
        let real = try references.features(partners.map(\.reference), .training)
        return Separation(
            real: try scores(real, side: 0, lanes),
            fake: try scores(FeatureTable(joining: entries.map(\.features)), side: 1, lanes),
            prompts: partners.map(\.prompt))
    }

    private func scores(_ table: FeatureTable, side: Int, _ lanes: Lanes) throws(NumericalFailure) -> [Float] {
        let streams = (0..<table.count).map {
            Philox(seed: seed, purpose: .evaluation, discriminator.version, $0, 1 + side)
        }
        let scores = discriminator.adversarialScores(table, draws: PatchDraws(streams), lanes: lanes)
        guard scores.allSatisfy(\.isFinite) else {
            throw NumericalFailure("not finite: scores by discriminator \(discriminator.version), seed \(seed)")
        }
        return scores
    }
}

extension DiscriminatorSettings {
    /// Adam: AdamW without decay.
    public var optimizer: AdamW.Settings {
        AdamW.Settings(learningRate: learningRate, beta1: betas.first, beta2: betas.second)
    }
}
