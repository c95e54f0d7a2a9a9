public import AdvGRPO
public import TensorCore

/// Images by deterministic sampling: for `sample`, previews and the evaluation.
public struct ImageGenerator: Sendable {
    /// One image to make.
    public struct Order: Sendable, Equatable {
        /// What it shows.
        public var prompt: String
        /// Number of the prompt, part of its noise.
        public var promptIndex: Int
        /// Number of the image among those of its prompt, part of its noise.
        public var imageIndex: Int

        public init(prompt: String, promptIndex: Int, imageIndex: Int) {
            self.prompt = prompt
            self.promptIndex = promptIndex
            self.imageIndex = imageIndex
        }

        /// Every prompt's images, prompt by prompt.
        public static func all(prompts: [String], count: Int) -> [Order] {
            prompts.enumerated().flatMap { index, prompt in
                (0..<count).map { Order(prompt: prompt, promptIndex: index, imageIndex: $0) }
            }
        }
    }

    /// Models and conditioning.
    public let policy: DiffusionPolicy
    /// Noise levels from 1 to 0.
    public let sigmas: [Float]
    /// Guidance.
    public let guidance: GuidedVelocity
    /// Channels, height, width of the latents.
    public let latentShape: [Int]
    /// Seed of the images' noise.
    public let seed: UInt64
    /// Images computed at once.
    public let chunks: Chunks

    /// - Parameters:
    ///   - policy: for prompts and images.
    ///   - steps: denoising steps.
    ///   - guidance: at least 1.
    ///   - height: of the images, in pixels.
    ///   - width: of the images, in pixels.
    ///   - seed: of the images' noise.
    ///   - chunks: images computed at once; what suits images of this size unless given.
    /// - Throws: `ModelError` when the size does not fit the model.
    public init(
        policy: DiffusionPolicy, steps: Int, guidance: Double, height: Int, width: Int, seed: UInt64,
        chunks: Chunks? = nil
    ) throws {
        self.policy = policy
        sigmas = try policy.model.sigmas(stepCount: steps)
        self.guidance = GuidedVelocity(scale: guidance)
        latentShape = try policy.model.latentShape(height: height, width: width)
        self.seed = seed
        // Products are efficient from a few hundred rows on; larger pieces would only leave threads without work.
        self.chunks =
            chunks ?? Chunks(size: max(1, min(4, 256 / max(1, policy.model.tokenCount(latentShape: latentShape)))))
    }

    /// Standard normal noise of an order: Philox(evaluation; prompt, image).
    public func noise(_ order: Order) -> [Float] {
        Philox(seed: seed, purpose: .evaluation, order.promptIndex, order.imageIndex).normals(latentShape.reduce(1, *))
    }

    /// Clean latents of the orders, in order, [B, C, h, w].
    ///
    /// - Parameters:
    ///   - orders: the images to make.
    ///   - velocity: the policy to sample from.
    ///   - initialLatents: noise to start from instead of the orders' own, [B, C, h, w].
    ///   - lanes: threads; the result does not depend on how many there are.
    ///   - progress: called with the number of images finished so far, from any thread; what it throws ends the work.
    /// - Throws: `NumericalFailure` when the result is not finite; what loading text encoders throws.
    public func latents(
        _ orders: [Order], velocity: @escaping VelocityFunction, initialLatents: Tensor? = nil, lanes: Lanes,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> Tensor {
        let ranges = pieces(orders)
        // A piece of one image is computed branch by branch, whoever does it, and on two threads where pieces do not occupy them.
        let branchLanes = ranges.count < lanes.count ? lanes : Lanes(count: 1)
        return concatenated(
            try lanes.map(ranges.count) { piece in
                let orders = orders[ranges[piece]]
                guard let prompt = orders.first?.prompt else { preconditionFailure("an empty piece") }
                var x =
                    initialLatents.map { $0.rows(ranges[piece]) }
                    ?? policy.engine.tensor(orders.flatMap { noise($0) }, shape: [orders.count] + latentShape)
                let conditioning = try policy.conditioning(prompt)
                for index in sigmas.indices.dropLast() {
                    let step = FlowStep(index, of: sigmas, kind: nil, noiseLevel: 0)
                    let guided =
                        orders.count == 1
                        ? guidance(
                            x, timestep: step.timestep, prompt: conditioning, velocity: velocity, lanes: branchLanes)
                        : guidance(x, timestep: step.timestep, prompt: conditioning, velocity: velocity)
                    x = step.mean(x, velocity_BCHW: guided)
                }
                try NumericalFailure.check(x, "latents of \"\(prompt)\", seed \(seed)")
                try progress(orders.count)
                return x
            }, axis: 0)
    }

    /// Images of the orders, in order, [B, H, W, 3] in [0, 1].
    public func images(
        _ orders: [Order], velocity: @escaping VelocityFunction, lanes: Lanes,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> Tensor {
        try policy.images(latents(orders, velocity: velocity, lanes: lanes, progress: progress), lanes: lanes)
    }

    /// Runs of one prompt, cut into chunks.
    private func pieces(_ orders: [Order]) -> [Range<Int>] {
        var pieces: [Range<Int>] = []
        var start = 0
        while start < orders.count {
            var end = start + 1
            while end < orders.count, end - start < chunks.size, orders[end].prompt == orders[start].prompt { end += 1 }
            pieces.append(start..<end)
            start = end
        }
        return pieces
    }
}
