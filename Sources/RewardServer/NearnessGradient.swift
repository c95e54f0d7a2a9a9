import AdvGRPO
import Configuration
import MethodModels
import TensorCore

/// The direction that critics are held against: towards the prompt's references, as a backbone sees it that no reward reads.
///
/// n(x) = -½ ‖f(x) - m‖² with f the class token of the evaluation's backbone and m the mean of f over the prompt's references. The
/// gradients of a score and of n are compared where the policy moves, in the latents z with x = decode(z): what a decoder cannot draw is
/// no direction. z is the encoder's mean of the image.
///
/// - Source: ours; docs/decisions/027-the-page-of-discriminators.md.
struct NearnessGradient: Sendable {
    /// A mean over images and its standard error, that over prompts.
    struct Cosine: Sendable, Equatable {
        var mean: Double
        var standardError: Double
    }

    private let backbone: VisionBackbone
    private let autoencoder: LatentAutoencoder
    private let references: ReferenceFeatures

    /// Loads the evaluation's backbone and the policy's autoencoder.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    init(_ settings: Settings, references: ReferenceFeatures, engine: any Engine) throws {
        backbone = try VisionBackbone(
            folder: settings.resolvedEvaluationBackbone, engine: engine, dtype: .float32, resize: .tensor,
            chunks: Chunks(size: settings.method.rollout.chunkSize))
        autoencoder = try PolicySource(path: settings.model, engine: engine).autoencoder()
        self.references = references
    }

    /// Cosine of a critic's gradient with that of n; nil where the critic has no gradient.
    ///
    /// - Parameters:
    ///   - prompts: prompts and their images, [B, H, W, 3] in [0, 1].
    ///   - lanes: prompts are computed side by side.
    ///   - gradient: of a prompt's score with respect to images like its own, by the prompt's number.
    /// - Throws: what reading references throws; `NumericalFailure` where a gradient is not finite.
    func cosine(
        of prompts: [(prompt: String, images_BHWC: Tensor)], lanes: Lanes,
        with gradient: @escaping @Sendable (_ number: Int, _ images_BHWC: Tensor) throws -> Tensor?
    ) throws -> Cosine? {
        let cosines = try lanes.map(prompts.count) { number -> [Double]? in
            let (prompt, images) = prompts[number]
            let latents = autoencoder.encode(images).detached.tracked()
            let shown = autoencoder.decode(latents)
            guard let critic = try gradient(number, shown.detached) else { return nil }
            let wanted = try towardsReferences(shown.detached, prompt)
            try NumericalFailure.check(critic, "gradient of a critic")
            try NumericalFailure.check(wanted, "gradient of the evaluation's backbone; check its weights")
            return zip(
                rows((shown * critic.detached).sum(), latents), rows((shown * wanted.detached).sum(), latents)
            ).map { Self.cosine($0, $1) }
        }
        let means = cosines.compactMap { $0.map { $0.reduce(0, +) / Double($0.count) } }
        guard !means.isEmpty else { return nil }
        let mean = means.reduce(0, +) / Double(means.count)
        let variance = means.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(max(1, means.count - 1))
        return Cosine(mean: mean, standardError: (variance / Double(means.count)).squareRoot())
    }

    /// The gradient of n with respect to images of a prompt.
    func towardsReferences(_ images_BHWC: Tensor, _ prompt: String) throws -> Tensor {
        let leaf = images_BHWC.tracked()
        guard let gradient = try nearness(leaf, prompt).sum().gradients()[leaf] else {
            preconditionFailure("the evaluation's backbone is no differentiable function of images")
        }
        return gradient
    }

    /// n of images of a prompt, a term for each of its features: [B, D].
    func nearness(_ images_BHWC: Tensor, _ prompt: String) throws -> Tensor {
        let function = backbone.function(lanes: Lanes(count: 1))
        let shown = function(try references.pictures(prompt), [], .score).classToken_BD
        let difference =
            function(images_BHWC, [], .score).classToken_BD + -shown.transposed(1, 0).meanOverLastAxis().reshaped(-1)
        return difference * difference * -0.5
    }

    /// The gradient of a scalar with respect to latents, an image a row.
    private func rows(_ scalar: Tensor, _ latents: Tensor) -> [[Float]] {
        guard let gradient = scalar.gradients()[latents] else {
            preconditionFailure("the autoencoder is no differentiable function of latents")
        }
        let (values, count) = (gradient.values, latents.shape[0])
        return (0..<count).map { Array(values[$0 * values.count / count..<($0 + 1) * values.count / count]) }
    }

    /// 0 where a critic is flat.
    static func cosine(_ a: [Float], _ b: [Float]) -> Double {
        func product(_ x: [Float], _ y: [Float]) -> Double { zip(x, y).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
        let lengths = (product(a, a) * product(b, b)).squareRoot()
        return lengths == 0 ? 0 : product(a, b) / lengths
    }
}
