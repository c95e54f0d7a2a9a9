import NeuralNetworks
import TensorCore

extension DiscriminatorTrainer {
    /// One step of Adam on the sum of the heads' losses; separation of the first head's logits.
    mutating func update(
        _ batch: DiscriminatorBatch, _ references: ReferenceImages, step: Int, _ lanes: Lanes
    ) throws -> (loss: Double, gradientNorm: Double, separation: Separation) {
        discriminator.followWeights()
        let leaves = discriminator.parameters.tracked()
        let version = discriminator.version
        var parts: [HeadStep] = []
        if let part = try unpairedStep(batch, references, leaves, step: step, lanes) { parts.append(part) }
        for head in discriminator.heads {
            guard let chunks = head.pairsAtOnce else { continue }
            parts.append(try pairStep(head, batch, references, leaves, chunks, lanes))
        }
        guard let first = parts.first else {
            preconditionFailure("discriminator: no component of the reward has a head")
        }
        let loss = parts.reduce(0) { $0 + $1.loss }
        let gradients = parts.reduce(Parameters()) { $0.merging($1.gradients) }
        let norm = gradients.norm
        guard loss.isFinite, norm.isFinite else {
            throw NumericalFailure("not finite: discriminator of version \(version), step \(step), seed \(seed)")
        }
        let tuned = discriminator.heads.filter { $0.pairsAtOnce != nil }.map(\.prefix)
        discriminator.parameters = optimizer.update(discriminator.parameters, gradients: gradients) {
            [settings] name in
            if name.hasPrefix(Discriminator.backbonePrefix) { return settings.backboneLearningRate }
            return tuned.contains { name.hasPrefix($0) } ? settings.tunedLearningRate : settings.learningRate
        }
        return (loss, norm, first.separation)
    }

    /// Loss and gradients of the heads that learn from unpaired references and generated images; nil where there is none.
    ///
    /// With `r1.weight` λ and `r1.deviation` σ, λ mean (D(x + σ s n) - D(x))² is added for each head's score D: x what it reads of a
    /// reference, s each feature's deviation over the step's references, n normal noise. To first order in σ this is R1, λ σ²
    /// times the squared gradient of D by x / s, without a derivative of a derivative.
    ///
    /// - Source: Lin et al., Diffusion Adversarial Post-Training, arXiv 2501.08316, "approximated R1".
    private func unpairedStep(
        _ batch: DiscriminatorBatch, _ references: ReferenceImages, _ leaves: Parameters, step: Int, _ lanes: Lanes
    ) throws -> HeadStep? {
        let heads = discriminator.heads.filter { $0.pairsAtOnce == nil }
        if heads.isEmpty { return nil }
        let real = try references.features(batch.realImages, .training)
        let version = discriminator.version
        func draws(_ count: Int, _ side: Int) -> PatchDraws {
            // part 0 belongs to the scores
            PatchDraws((0..<count).map { Philox(seed: seed, purpose: .patches, version, $0, 1 + 2 * step + side) })
        }
        let (realDraws, fakeDraws) = (draws(real.count, 0), draws(batch.fake.count, 1))
        let sides = [real.withViews(drawnBy: realDraws), batch.fake.withViews(drawnBy: fakeDraws)]
        let seen = sides.map { discriminator.withTrackedBackbone($0, lanes: lanes) }
        let losses = heads.map { head in
            head.loss(
                real: seen[0].table, fake: seen[1].table, weights: discriminator.weights(head, leaves),
                realDraws: realDraws,
                fakeDraws: fakeDraws)
        }
        var loss = losses.dropFirst().reduce(losses[0].loss) { $0 + $1.loss }
        if settings.r1.weight > 0 {
            // What the heads see now; a backbone that learns is not held by it.
            let shown = FeatureTable(seen[0].table.tensors.mapValues(\.detached))
            let near = shown.perturbed(by: Float(settings.r1.deviation)) {
                Philox(seed: seed, purpose: .regularization, version, step, $0)
            }
            for head in heads {
                let weights = discriminator.weights(head, leaves)
                let change =
                    head.score(near, weights: weights, draws: realDraws)
                    - head.score(shown, weights: weights, draws: realDraws)
                loss = loss + change.activated(.square).mean() * Float(settings.r1.weight)
            }
        }
        let own = leaves.filtered { name in heads.contains { name.hasPrefix($0.prefix) } }
        let gradients = loss.gradients()
        let backbone = discriminator.backboneGradients(
            of: zip(sides, seen).map { side, seen in (side, seen.features.compactMapValues { gradients[$0] }) }, leaves,
            lanes: lanes)
        return HeadStep(
            loss: Double(loss.scalar), gradients: own.gradients(from: gradients).merging(backbone),
            separation: Separation(
                real: losses[0].realLogits.detached.values, fake: losses[0].fakeLogits.detached.values))
    }

    /// Loss and gradients of a head that learns from pairs: pieces of some pairs, whose gradients are added in their order.
    private func pairStep(
        _ head: any DiscriminatorHead, _ batch: DiscriminatorBatch, _ references: ReferenceImages, _ leaves: Parameters,
        _ chunks: Chunks, _ lanes: Lanes
    ) throws -> HeadStep {
        let own = leaves.filtered { $0.hasPrefix(head.prefix) }
        let weights = discriminator.weights(head, own)
        let pieces = chunks.ranges(batch.fake.count)
        var (real, fake): ([Float], [Float]) = ([], [])
        var (loss, sum): (Double, Parameters?) = (0, nil)
        for wave in Chunks(size: lanes.count).ranges(pieces.count) {
            // Features that are not known yet are computed on the lanes themselves, so all are read before.
            let tables = try pieces[wave].map { piece in
                (
                    real: try references.features(batch.partners[piece].map(\.reference), .training),
                    fake: batch.fake.rows(piece)
                )
            }
            let results = lanes.map(tables.count) { piece in
                let (real, fake) = tables[piece]
                let none = PatchDraws([])
                let result = head.loss(real: real, fake: fake, weights: weights, realDraws: none, fakeDraws: none)
                let share = result.loss * (Float(fake.count) / Float(batch.fake.count))
                return (
                    loss: Double(share.scalar), gradients: own.gradients(from: share.gradients()),
                    real: result.realLogits.detached.values, fake: result.fakeLogits.detached.values
                )
            }
            for result in results {
                (real, fake) = (real + result.real, fake + result.fake)
                loss += result.loss
                sum =
                    sum.map { total in
                        total.mapped { name, tensor in result.gradients[name].map { tensor + $0 } ?? tensor }
                    } ?? result.gradients
            }
        }
        guard let sum else { preconditionFailure("discriminator: no pairs") }
        return HeadStep(
            loss: loss, gradients: sum,
            separation: Separation(real: real, fake: fake, prompts: batch.partners.map(\.prompt)))
    }
}

/// What one optimiser step reads.
struct DiscriminatorBatch: Sendable {
    let fake: FeatureTable
    /// One a row of `fake`; none where no head learns from pairs.
    let partners: [ReferencePartner]
    /// For heads that learn from unpaired images.
    let realImages: [Int]
}

/// The reference that a generated image is compared with.
struct ReferencePartner: Sendable {
    let prompt: String
    /// Its number.
    let reference: Int
}

/// What some heads contribute to an optimiser step.
private struct HeadStep {
    let loss: Double
    /// Of the heads' own weights.
    let gradients: Parameters
    let separation: Separation
}
