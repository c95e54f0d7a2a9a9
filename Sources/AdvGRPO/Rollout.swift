public import TensorCore

/// How a run samples groups: deterministic steps, except for a window of stochastic ones that are stored and trained.
///
/// Everything random is a function of (seed, group, member, step): a group is the same image by image on any machine and
/// in any chunk, as far as the model's kernels are.
///
/// - Source: method.md 1.4; Adv-GRPO@8287f90 `sd3_pipeline_with_logprob_fast.py`. Differences: the window of a drawn start is
///   drawn for every group and not once a process; see docs/method.md.
public struct Rollout: Sendable {
    /// Steps, window, guidance, noise.
    public let settings: RolloutSettings
    /// Noise levels from 1 to 0, one more than steps.
    public let sigmas: [Float]
    /// Channels, height, width of the latents.
    public let latentShape: [Int]
    /// Seed of the run.
    public let seed: UInt64
    /// Places of the tokens whose log-probabilities are kept; nil where an image's are.
    public let tokens: PatchGrid?
    /// Guided velocity, shared with the policy update.
    public let guidance: GuidedVelocity

    /// - Parameter tokenSide: latent pixels of a token's side where tokens have advantages; a divisor of height and width.
    /// - Precondition: validated settings; `sigmas` has `settings.steps + 1` entries.
    public init(
        settings: RolloutSettings, sigmas: [Float], latentShape: [Int], seed: UInt64, tokenSide: Int? = nil
    ) {
        precondition(sigmas.count == settings.steps + 1, "\(sigmas.count) sigmas for \(settings.steps) steps")
        precondition(latentShape.count == 3, "latent shape \(latentShape)")
        self.settings = settings
        self.sigmas = sigmas
        self.latentShape = latentShape
        self.seed = seed
        tokens = tokenSide.map { PatchGrid(rows: latentShape[1] / $0, columns: latentShape[2] / $0) }
        guidance = GuidedVelocity(scale: settings.guidance)
    }

    /// Step `index` of the schedule: stochastic inside the window that starts at `windowStart`, else deterministic.
    public func step(_ index: Int, windowStart: Int) -> FlowStep {
        let inside = (windowStart..<windowStart + settings.window.size).contains(index)
        return FlowStep(index, of: sigmas, kind: inside ? settings.sde : nil, noiseLevel: settings.noiseLevel)
    }

    /// First stochastic step of a group: fixed, or drawn from the settings' candidates by Philox(window; epoch, index).
    public func windowStart(of group: GroupID) -> Int {
        let candidates = settings.window.startCandidates(steps: settings.steps)
        return candidates[group.noise(seed: seed, purpose: .window).integer(0, below: candidates.count)]
    }

    /// Samples some members of a group.
    ///
    /// - Parameters:
    ///   - group: by which noise is drawn.
    ///   - members: which; their noise depends on their number, not on who else is sampled with them.
    ///   - prompt: what the images show.
    ///   - engine: what computes.
    ///   - velocity: the policy.
    ///   - windowVelocity: the policy in the window's steps; `velocity` unless given. Engines fuse operations that
    ///     nobody differentiates and round differently then: a function of tracked parameters computes here exactly what
    ///     the update will compute, so that its ratio starts at exactly 1. No history outlives a step.
    ///   - stem: what `stem(of:)` gives for the group; computed here unless given.
    /// - Returns: window trajectory and clean latents, members in order.
    /// - Throws: `NumericalFailure` when the result is not finite.
    public func sample(
        _ group: GroupID, members: Range<Int>, prompt: PromptConditioning, engine: any Engine,
        velocity: @escaping VelocityFunction, windowVelocity: VelocityFunction? = nil, stem: Tensor? = nil
    ) throws(NumericalFailure) -> RolloutSample {
        let start = windowStart(of: group)
        let window = start..<start + settings.window.size
        let shared = stem ?? self.stem(of: group, prompt: prompt, engine: engine, velocity: velocity)
        var x = shared.map { repeated($0, members.count) } ?? initialLatents(group, members: members, engine: engine)
        var stored: [Tensor] = []
        var logProbabilities: [Tensor] = []
        for index in (shared == nil ? 0 : start)..<settings.steps {
            let step = step(index, windowStart: start)
            let model = window.contains(index) ? windowVelocity ?? velocity : velocity
            let mean = mean(of: step, at: x, prompt: prompt, velocity: model)
            guard window.contains(index) else {
                x = kept(mean)
                continue
            }
            if stored.isEmpty { stored.append(x) }
            let noise = noise(group, members: members, purpose: .windowNoise, step: index, engine: engine)
            let next = step.next(mean: mean, noise: noise)
            logProbabilities.append(step.logProbability(of: next, mean: mean, tokens: tokens))
            x = kept(next)
            stored.append(x)
        }
        try NumericalFailure.check(x, "latents of group \(group), members \(members), seed \(seed)")
        let trajectory = Trajectory(
            stepIndices: Array(window),
            latents: concatenated(stored.map { $0.reshaped([members.count, 1] + latentShape) }, axis: 1),
            logProbabilities: concatenated(
                logProbabilities.map { $0.reshaped([members.count, 1] + $0.shape.dropFirst()) }, axis: 1))
        return RolloutSample(trajectory: trajectory, finalLatents_BCHW: x)
    }

    /// Samples a whole group, piece by piece on the lanes.
    public func sample(
        _ group: GroupID, prompt: PromptConditioning, engine: any Engine, chunks: Chunks, lanes: Lanes,
        velocity: @escaping VelocityFunction, windowVelocity: VelocityFunction? = nil
    ) throws -> RolloutSample {
        let ranges = chunks.ranges(settings.groupSize)
        let stem = stem(of: group, prompt: prompt, engine: engine, velocity: velocity)
        let parts = try lanes.map(ranges.count) { piece in
            try sample(
                group, members: ranges[piece], prompt: prompt, engine: engine, velocity: velocity,
                windowVelocity: windowVelocity, stem: stem)
        }
        return RolloutSample(joining: parts)
    }

    /// The latents [1, C, H, W] from which all members of a group part at the window; nil when each has its own start.
    ///
    /// - Source: method.md 1.4, "Flow-GRPO-Fast".
    public func stem(
        of group: GroupID, prompt: PromptConditioning, engine: any Engine, velocity: VelocityFunction
    ) -> Tensor? {
        guard settings.sharedInitialNoise == .branch else { return nil }
        let start = windowStart(of: group)
        return (0..<start).reduce(initialLatents(group, members: 0..<1, engine: engine)) { x, index in
            kept(mean(of: step(index, windowStart: start), at: x, prompt: prompt, velocity: velocity))
        }
    }

    /// The clean latents of members of a group, by the steps that follow its window.
    ///
    /// - Parameters:
    ///   - group: by which the window is drawn.
    ///   - latents_BCHW: the members' after the window.
    ///   - prompt: what the images show.
    ///   - velocity: the policy that sampled them, for the images that were scored.
    public func finished(
        _ group: GroupID, from latents_BCHW: Tensor, prompt: PromptConditioning, velocity: VelocityFunction
    ) -> Tensor {
        let start = windowStart(of: group)
        return (start + settings.window.size..<settings.steps).reduce(latents_BCHW) { x, index in
            kept(mean(of: step(index, windowStart: start), at: x, prompt: prompt, velocity: velocity))
        }
    }

    /// μ of a step that nobody differentiates.
    private func mean(
        of step: FlowStep, at x_BCHW: Tensor, prompt: PromptConditioning, velocity: VelocityFunction
    ) -> Tensor {
        let v = guidance(x_BCHW, timestep: step.timestep, prompt: prompt, velocity: velocity).detached
        return step.mean(x_BCHW, velocity_BCHW: v)
    }

    /// x1 of the members, standard normal: Philox(initialLatents; group, member).
    public func initialLatents(_ group: GroupID, members: Range<Int>, engine: any Engine) -> Tensor {
        kept(noise(group, members: members, purpose: .initialLatents, step: 0, engine: engine))
    }

    private func noise(
        _ group: GroupID, members: Range<Int>, purpose: NoisePurpose, step: Int, engine: any Engine
    ) -> Tensor {
        let count = latentShape.reduce(1, *)
        var values: [Float] = []
        values.reserveCapacity(count * members.count)
        for member in members {
            values += group.noise(seed: seed, purpose: purpose, member: member, step: step).normals(count)
        }
        return engine.tensor(values, shape: [members.count] + latentShape)
    }

    /// Latents as they are kept between steps. The released code rounds them to bf16, yet takes the log-probability of
    /// the unrounded step: its ratio is not 1 at an unchanged policy (method.md 4.1).
    private func kept(_ x: Tensor) -> Tensor {
        settings.latentPrecision == .bf16 ? x.converted(to: .bfloat16).converted(to: .float32) : x
    }

    private func repeated(_ x: Tensor, _ count: Int) -> Tensor {
        x.reshaped(1, -1).gatheredRows([Int32](repeating: 0, count: count)).reshaped([count] + latentShape)
    }
}

/// What a rollout yields.
public struct RolloutSample: Sendable {
    /// For the policy update.
    public let trajectory: Trajectory
    /// Clean latents [B, C, H, W], for the decoder.
    public let finalLatents_BCHW: Tensor

    init(trajectory: Trajectory, finalLatents_BCHW: Tensor) {
        self.trajectory = trajectory
        self.finalLatents_BCHW = finalLatents_BCHW
    }

    /// Parts of one group, members in order.
    public init(joining parts: [RolloutSample]) {
        trajectory = Trajectory(joining: parts.map(\.trajectory))
        finalLatents_BCHW = concatenated(parts.map(\.finalLatents_BCHW), axis: 0)
    }
}
