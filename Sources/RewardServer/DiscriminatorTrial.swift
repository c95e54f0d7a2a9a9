public import AdvGRPO
import ComputeRoles
public import Configuration
import MethodModels
import Processes
public import Raster
public import TensorCore

/// One head alone, trained to tell given images from a run's references: how soon it does, and which images it takes for references.
///
/// It learns from the images of every other prompt and from the references of nine prompts in ten, and is measured on the rest.
public struct DiscriminatorTrial: Sendable {
    /// Images of one prompt.
    public struct Images: Sendable {
        /// What they were generated from, one of the run's prompts.
        public let prompt: String
        /// At least one, as large as the run's.
        public let images: [RGBImage]

        /// - Precondition: there are images.
        public init(prompt: String, images: [RGBImage]) {
            precondition(!images.isEmpty, "trial: no images of \"\(prompt)\"")
            self.prompt = prompt
            self.images = images
        }

        /// [B, H, W, 3] in [0, 1].
        fileprivate func tensor(on engine: any Engine) -> Tensor { RGBImage.tensor(of: images, on: engine) }
    }

    /// How well the head separates after some training.
    public struct Point: Sendable, Equatable {
        /// Optimiser steps so far.
        public let steps: Int
        /// Seconds of these, in which references are read when they are first drawn; without reading images.
        public let seconds: Double
        /// Of images and references that it has not learned from.
        public let separation: Separation
    }

    /// After 0, 1, 2, 4 ... steps.
    public let points: [Point]
    /// Seconds in which the backbone read the images.
    public let readingSeconds: Double
    /// Cosine of the trained head's gradient with the direction towards the references (`NearnessGradient`), and its standard error; nil
    /// where the head has no gradient.
    public let gradientCosine: (mean: Double, standardError: Double)?
    /// Numbers of the images that measure, counted over all given, the most believed first, each with its score.
    public let believed: [(image: Int, score: Float)]

    /// Trains a head.
    ///
    /// - Parameters:
    ///   - component: a head of the discriminator's that learns from unpaired images.
    ///   - settings: of the run: its references, its backbone and how its discriminator learns.
    ///   - images: of at least two prompts.
    ///   - steps: optimiser steps in all.
    ///   - engine: what computes.
    /// - Throws: `SettingViolation` where nothing is held out or a prompt is not the run's, what loading throws, and
    ///   `NumericalFailure`.
    public init(
        _ component: RewardComponent, settings: Settings, images: [Images], steps: Int, engine: any Engine
    ) throws {
        precondition(images.count >= 2 && steps >= 1, "trial: \(images.count) prompts, \(steps) steps")
        var settings = settings
        settings.method.reward.weights = [component: 1]
        settings.method.policy.advantage = .image
        settings.method.discriminator.targetAUC = 0
        settings.method.discriminator.replayCapacity = images.count
        let scorer = try Scorer(settings: settings, engine: engine)
        try Self.check(settings, scorer, images)
        let references = scorer.references.images(
            discriminator: scorer.untrained, networks: scorer.referenceNetworks, lanes: scorer.lanes)
        let reward = AdversarialReward(settings: settings.method.reward, references: references, seed: scorer.seed)
        var trainer = scorer.freshTrainer

        let began = ContinuousClock.now
        let groups = images.indices.map { GroupID(epoch: 0, index: $0) }
        let features = try zip(groups, images).map { group, own in
            try reward.features(
                of: own.tensor(on: engine), group: group, prompt: own.prompt,
                discriminator: scorer.untrained, networks: scorer.networks)
        }
        readingSeconds = (ContinuousClock.now - began).seconds
        let learned = groups.filter { $0.index % 2 == 0 }
        let measured = groups.filter { $0.index % 2 == 1 }
        func remember(_ groups: [GroupID]) {
            for group in groups {
                trainer.remember(
                    group, prompt: images[group.index].prompt, features: features[group.index].training)
            }
        }
        var points: [Point] = []
        var seconds = 0.0
        func measure(after steps: Int) throws {
            remember(measured)
            let separation = try trainer.measured(on: measured, references: references, lanes: scorer.lanes)
            points.append(Point(steps: steps, seconds: seconds, separation: separation))
            trainer.forgetWaiting()
        }
        try measure(after: 0)
        var done = 0
        while done < steps {
            let round = min(max(1, done), steps - done)
            remember(learned)
            let start = ContinuousClock.now
            _ = try trainer.train(groups: learned, references: references, steps: round, lanes: scorer.lanes)
            seconds += (ContinuousClock.now - start).seconds
            done += round
            try measure(after: done)
        }
        self.points = points
        let trained = trainer.discriminator
        gradientCosine = try NearnessGradient(settings, references: scorer.references, engine: engine).cosine(
            of: measured.map { (images[$0.index].prompt, images[$0.index].tensor(on: engine)) }, lanes: scorer.lanes
        ) {
            try reward.gradient(
                of: $1, group: measured[$0], prompt: images[measured[$0].index].prompt, discriminator: trained,
                networks: scorer.referenceNetworks)
        }.map { ($0.mean, $0.standardError) }
        let starts = images.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.images.count) }
        believed = try measured.flatMap { group in
            let scores = try reward.score(
                group, prompt: images[group.index].prompt, features: features[group.index].score,
                discriminator: trainer.discriminator, lanes: scorer.lanes)
            return scores.rewards.enumerated().map { (image: starts[group.index] + $0.offset, score: $0.element) }
        }.sorted { $0.score > $1.score }
    }

    private static func check(_ settings: Settings, _ scorer: Scorer, _ images: [Images]) throws(SettingViolation) {
        guard scorer.references.prompts.contains(where: \.isHeldOut) else {
            throw SettingViolation(
                path: "discriminator.realBatch",
                message:
                    "no references are held out to measure on: it must be above 0, and \(settings.data.prompts) must have "
                    + "ten prompts, not \(scorer.references.prompts.count)")
        }
        let known = Set(scorer.references.prompts.map(\.text))
        if let foreign = images.first(where: { !known.contains($0.prompt) }) {
            throw SettingViolation(
                path: "data.prompts",
                message:
                    "\"\(foreign.prompt)\" has images and is none of the run's prompts, those of "
                    + "\(settings.data.prompts) without data.evaluationPrompts"
            )
        }
    }
}
