import LibC
internal import NeuralNetworks
public import TensorCore

/// A reference as supervised training sees it.
public struct ReferenceLatents: Sendable {
    /// Clean latents, fp32 [1, C, h, w].
    public var latents: Tensor
    /// Conditioning of its prompt, and that of the empty prompt.
    public var prompt: PromptConditioning

    /// Both.
    public init(latents: Tensor, prompt: PromptConditioning) {
        self.latents = latents
        self.prompt = prompt
    }
}

/// What one supervised step did.
public struct SupervisedReport: Sendable, Equatable {
    /// Mean loss over the batch.
    public let loss: Double
    /// Norm of the gradient before clipping.
    public let gradientNorm: Double
}

/// Supervised flow matching on references: x_t = (1 - t) z + t ε, L = mean (v_θ(x_t, 1000 t, c) - (ε - z))².
///
/// ε is standard normal, t = σ(1 / (1 + e^-n)) with n standard normal and σ(u) the model's own shift, so that training sees the
/// levels that sampling visits; with probability `promptDropout` c is the empty prompt's. The references of a step are
/// the next `batch` of a pass, a permutation of all; everything is drawn by Philox at (pass) or (step, sample).
///
/// - Source: SD3, arXiv 2403.03206, section 3.1; diffusers `examples/dreambooth/train_dreambooth_lora_sd3.py` (logit-normal
///   density, weight 1). Difference: z is the mean of the encoder's distribution, not a sample of it.
public struct FlowMatching: Sendable {
    /// Batch, dropout.
    public let settings: SupervisedSettings
    /// Number of references.
    public let referenceCount: Int
    /// Seed of the run.
    public let seed: UInt64
    /// Samples of a piece.
    public let chunks: Chunks
    /// The model's noise level at a time of an unshifted schedule.
    private let sigma: @Sendable (Float) -> Float

    /// - Parameters: as the properties.
    /// - Precondition: at least one reference.
    public init(
        settings: SupervisedSettings, referenceCount: Int, seed: UInt64, chunks: Chunks,
        sigma: @escaping @Sendable (Float) -> Float
    ) {
        precondition(referenceCount >= 1, "flow matching without references")
        self.settings = settings
        self.referenceCount = referenceCount
        self.seed = seed
        self.chunks = chunks
        self.sigma = sigma
    }

    /// One sample of a step.
    struct Draw: Sendable, Equatable {
        /// Which reference.
        var reference: Int
        /// t.
        var level: Float
        /// Whether the prompt is left out.
        var dropsPrompt: Bool
    }

    /// The samples of a step, numbered from the run's start.
    func draws(step: Int) -> [Draw] {
        let first = step * settings.batch
        var passes: [Int: [Int]] = [:]
        return (0..<settings.batch).map { sample in
            let (pass, place) = (first + sample).quotientAndRemainder(dividingBy: referenceCount)
            let order = passes[pass] ?? Philox(seed: seed, purpose: .supervised, 0, pass).permutation(referenceCount)
            passes[pass] = order
            let stream = Philox(seed: seed, purpose: .supervised, 1, step, sample)
            let time = 1 / (1 + exp(-stream.normals(1)[0]))
            return Draw(
                reference: order[place], level: sigma(time),
                // Words 0 and 1 made the normal number.
                dropsPrompt: stream.uniform(4) < settings.promptDropout)
        }
    }

    /// The references that a step reads, each once, in order.
    public func references(ofStep step: Int) -> [Int] { Set(draws(step: step).map(\.reference)).sorted() }

    /// One optimiser step.
    ///
    /// - Parameters:
    ///   - step: number from the run's start.
    ///   - state: the policy, its optimiser and its average.
    ///   - reference: a reference by its number.
    ///   - policy: velocities of parameters.
    ///   - maximumGradientNorm: global norm to which the gradient is clipped.
    ///   - lanes: threads of the pieces; the result does not depend on how many there are.
    /// - Throws: `NumericalFailure`, and what `reference` throws; `state` is then unchanged.
    public func callAsFunction(
        step: Int, _ state: inout PolicyState, reference: @Sendable (Int) throws -> ReferenceLatents,
        policy: TrainablePolicy, maximumGradientNorm: Double, lanes: Lanes
    ) throws -> SupervisedReport {
        let draws = draws(step: step)
        let references = try draws.map { try reference($0.reference) }
        let ranges = chunks.ranges(draws.count)
        let tracked = policy.tracked(at: state.parameters)
        var gradient: Parameters?
        var lossSum = 0.0
        tracked.gradients(ofPieces: ranges.count, lanes: lanes) { piece in
            let losses = losses(step: step, ranges[piece], draws, references, velocity: tracked.velocity)
            return (losses.sum() * (1 / Float(draws.count)), losses.detached.values.reduce(0) { $0 + Double($1) })
        } each: { _, part, sum in
            gradient = gradient?.adding(part) ?? part
            lossSum += sum
        }
        guard let gradient else { preconditionFailure("a supervised step without samples") }
        let norm = try state.descend(
            along: gradient, maximumNorm: maximumGradientNorm, "supervised step \(step), seed \(seed)")
        return SupervisedReport(loss: lossSum / Double(draws.count), gradientNorm: norm)
    }

    /// L of some samples, fp32 [B].
    func losses(
        step: Int, _ samples: Range<Int>, _ draws: [Draw], _ references: [ReferenceLatents],
        velocity: VelocityFunction
    ) -> Tensor {
        let clean = concatenated(samples.map { references[$0].latents }, axis: 0)
        let count = clean.count / samples.count
        let engine = clean.engine
        let noise = engine.tensor(
            samples.flatMap { Philox(seed: seed, purpose: .supervised, 2, step, $0).normals(count) }, shape: clean.shape
        )
        let levels = samples.map { draws[$0].level }
        func weighted(_ x: Tensor, _ weights: [Float]) -> Tensor {
            x.reshaped(samples.count, -1).scaledRows(by: engine.tensor(weights, shape: [samples.count]))
                .reshaped(clean.shape)
        }
        let noisy = weighted(clean, levels.map { 1 - $0 }) + weighted(noise, levels)
        let rows = samples.map {
            draws[$0].dropsPrompt ? references[$0].prompt.negative : references[$0].prompt.positive
        }
        let conditioning = Conditioning(
            text_BSD: concatenated(rows.map(\.text_BSD), axis: 0),
            pooled_BP: concatenated(rows.map(\.pooled_BP), axis: 0))
        let v = velocity(noisy, levels.map { 1000 * $0 }, conditioning).converted(to: .float32)
        return (v - (noise - clean)).activated(.square).meanPerSample()
    }
}
