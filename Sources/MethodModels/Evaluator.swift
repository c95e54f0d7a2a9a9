public import AdvGRPO
public import Datasets
import NeuralNetworks
import Raster
public import TensorCore

/// Measures a policy on fixed prompts and seeds: similarity to the prompts' own references, Fréchet distance to all of them,
/// diversity within a prompt, and how well a fresh discriminator tells the images from references.
public struct Evaluator: Sendable {
    /// Everything an evaluation says; `--json` of `advgrpo evaluate` prints it.
    public struct Result: Codable, Sendable, Equatable {
        /// Mean over images of the largest cosine to the prompt's own references, in [-1, 1]; higher is closer.
        public var dinoSimilarity: Double
        /// Fréchet distance of all images to all references; lower is closer. nil for fewer than two of either.
        public var frechetDistance: Double?
        /// Mean over prompts of 1 - cosine over pairs of images; 0 is one picture over and over. nil for one image a prompt.
        public var diversity: Double?
        /// Area under the ROC curve of a fresh discriminator (`Evaluator.probe`) fitted to every other prompt, on the rest;
        /// 0.5 is indistinguishable from references. nil for one prompt.
        public var discriminatorAUC: Double?
        /// Standard error of each figure that has one, by its name: its deviation over 100 resamples of the prompts. nil in
        /// results of versions that had none.
        public var standardErrors: [String: Double]?
        /// Images measured, and prompts they belong to.
        public var images: Int
        public var prompts: Int

        /// What there were too few images for, each with the smallest number; empty where all was measured.
        public var unmeasured: [String] {
            [
                (frechetDistance, "frechetDistance (two images and two references)"),
                (diversity, "diversity (two images a prompt)"), (discriminatorAUC, "discriminatorAUC (two prompts)"),
            ].filter { $0.0 == nil }.map(\.1)
        }
    }

    private let generator: ImageGenerator
    private let backbone: VisionBackbone
    let prompts: [String]
    private let imagesPerPrompt: Int
    let references: [[RGBImage]]
    let engine: any Engine

    /// Reads the references of the prompts.
    ///
    /// - Parameters:
    ///   - generator: makes the images.
    ///   - backbone: whose features are compared; one that the reward does not use, or a gain proves little.
    ///   - library: has the references.
    ///   - prompts: at least one, none of them trained on.
    ///   - imagesPerPrompt: number of images made of each prompt.
    ///   - side: of the images, in pixels.
    /// - Throws: `DatasetError` naming prompt and file; `ModelError` for images that are too small to measure.
    public init(
        generator: ImageGenerator, backbone: VisionBackbone, library: ReferenceLibrary, prompts: [String],
        imagesPerPrompt: Int,
        side: Int
    ) throws {
        precondition(
            !prompts.isEmpty && imagesPerPrompt >= 1,
            "evaluation: \(prompts.count) prompts, \(imagesPerPrompt) images each")
        guard side >= textureSquareSide else {
            throw ModelError(
                code: .unsupported, source: "image size (rollout.resolution, --size)",
                message:
                    "\(side) x \(side) is not measured: the evaluation looks at squares of \(textureSquareSide) pixels")
        }
        self.generator = generator
        self.backbone = backbone
        self.prompts = prompts
        self.imagesPerPrompt = imagesPerPrompt
        engine = generator.policy.engine
        references = try prompts.map { try library.references(of: $0, width: side, height: side) }
    }

    /// Samples and measures.
    ///
    /// - Parameters:
    ///   - velocity: the policy.
    ///   - lanes: threads; the result does not depend on how many there are.
    ///   - progress: called with the number of images just finished, from any thread; what it throws ends the
    ///     measurement.
    public func measure(
        _ velocity: @escaping VelocityFunction, lanes: Lanes,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> Result {
        try measure(images(of: velocity, by: generator, lanes: lanes, progress: progress), lanes: lanes)
    }

    /// The images that are measured, prompt by prompt, [B, H, W, 3] as a viewer gets them: of 8 bits.
    ///
    /// - Parameters:
    ///   - velocity: the policy.
    ///   - generator: makes them; its seed decides the noise.
    ///   - lanes: threads.
    ///   - progress: as `measure`'s.
    public func images(
        of velocity: @escaping VelocityFunction, by generator: ImageGenerator, lanes: Lanes,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> Tensor {
        let orders = ImageGenerator.Order.all(prompts: prompts, count: imagesPerPrompt)
        let images_BHWC = try generator.images(orders, velocity: velocity, lanes: lanes, progress: progress)
        return RGBImage.tensor(of: RGBImage.images(of: images_BHWC), on: engine)
    }

    /// Measures images that `images` made.
    ///
    /// - Throws: `NumericalFailure` where the backbone's features are not finite.
    public func measure(_ images_BHWC: Tensor, lanes: Lanes) throws -> Result {
        let function = backbone.function(lanes: lanes)
        func features(_ images_BHWC: Tensor) throws -> Tensor {
            let tokens_BD = function(images_BHWC, [], .score).classToken_BD
            try NumericalFailure.check(tokens_BD, "features of the evaluation's backbone; check its weights")
            return tokens_BD
        }
        let report = EvaluationReport(
            generated: ownRows(try features(images_BHWC)),
            references: try references.map { try features(RGBImage.tensor(of: $0, on: engine)) }, lanes: lanes)
        return Result(
            dinoSimilarity: report.dinoSimilarity, frechetDistance: report.frechetDistance, diversity: report.diversity,
            discriminatorAUC: try separability(images_BHWC, function), standardErrors: report.standardErrors,
            images: images_BHWC.shape[0], prompts: prompts.count)
    }

    /// What belongs to each prompt's images.
    func ownRows(_ rows: Tensor) -> [Tensor] {
        prompts.indices.map { rows.rows($0 * imagesPerPrompt..<($0 + 1) * imagesPerPrompt) }
    }

    /// The discriminator that `discriminatorAUC` fits, always the same one so that figures compare: the head on texture
    /// statistics, the strongest found on the tiny base model (docs/decisions/005-discriminator.md), relative to the prompt's
    /// references where every prompt has two.
    public static let probe: MethodSettings = {
        var method = MethodSettings(fidelity: .fixed)
        method.reward.weights = [.texture: 1]
        method.discriminator.hiddenWidth = 256
        method.discriminator.learningRate = 3e-3
        method.discriminator.realBatch = 128
        method.discriminator.fakeBatch = 128
        return method
    }()

    /// Fits a discriminator to the images and references of every other prompt and measures it on the rest.
    private func separability(_ images_BHWC: Tensor, _ function: @escaping BackboneFunction) throws -> Double? {
        guard prompts.count >= 2 else { return nil }
        let seed: UInt64 = 1
        let networks = FrozenNetworks(backbone: function)
        var method = Self.probe
        method.reward.relativeToReferences = references.allSatisfy { $0.count >= 2 }
        let untrained = try Discriminator(
            reward: method.reward, discriminator: method.discriminator, backbone: backbone.shape, seed: seed,
            engine: engine)
        let starts = references.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.count) }
        let referenceTable = FeatureTable(
            joining: zip(prompts, references).map { prompt, pictures in
                untrained.referenceFeatures(
                    of: RGBImage.tensor(of: pictures, on: engine), prompt: prompt, purpose: .training,
                    networks: networks)
            })
        let all = ReferenceImages(
            prompts: prompts.enumerated().map { index, prompt in
                .init(text: prompt, imageCount: starts[index + 1] - starts[index], isHeldOut: index % 2 == 1)
            }
        ) { images, _ in referenceTable.rows(images) }
        var settings = method.discriminator
        settings.train = true
        settings.replayCapacity = prompts.count
        var trainer = DiscriminatorTrainer(untrained, settings: settings, seed: seed)
        func group(_ index: Int) -> GroupID { GroupID(epoch: index % 2, index: index) }
        for (index, (prompt, own)) in zip(prompts, ownRows(images_BHWC)).enumerated() {
            try trainer.remember(
                group(index), prompt: prompt,
                features: untrained.generatedFeatures(
                    of: own, group: group(index), prompt: prompt, purpose: .training, networks: networks, seed: seed
                ) {
                    try all.features(all.images(of: prompt), .training)
                })
        }
        let (fitted, measured) = (
            prompts.indices.filter { $0 % 2 == 0 }.map(group), prompts.indices.filter { $0 % 2 == 1 }.map(group)
        )
        _ = try trainer.train(groups: fitted, references: all, steps: 300)
        return try trainer.measured(on: measured, references: all).areaUnderCurve
    }
}
