public import NeuralNetworks
public import TensorCore

/// A prompt's conditioning and that of the empty prompt, one row each.
public struct PromptConditioning: Sendable {
    /// Of the prompt.
    public var positive: Conditioning
    /// Of the empty string; guidance points away from it.
    public var negative: Conditioning

    /// - Precondition: one row each, equal shapes.
    public init(positive: Conditioning, negative: Conditioning) {
        precondition(
            positive.text_BSD.shape == negative.text_BSD.shape && positive.pooled_BP.shape == negative.pooled_BP.shape
                && positive.text_BSD.shape[0] == 1,
            "prompt conditioning: \(positive.text_BSD.shape) and \(negative.text_BSD.shape)")
        self.positive = positive
        self.negative = negative
    }

    /// Rows for a batch of `count` samples: [negative; positive] with guidance, positive alone without.
    func batch(_ count: Int, guided: Bool) -> Conditioning {
        let rows = [Int32](repeating: 0, count: guided ? count : 0) + [Int32](repeating: 1, count: count)
        func repeated(_ negative: Tensor, _ positive: Tensor) -> Tensor {
            let table = concatenated([negative, positive], axis: 0).reshaped(2, -1)
            return table.gatheredRows(rows).reshaped([rows.count] + negative.shape.dropFirst())
        }
        return Conditioning(
            text_BSD: repeated(negative.text_BSD, positive.text_BSD),
            pooled_BP: repeated(negative.pooled_BP, positive.pooled_BP))
    }
}

/// The policy as a function: latents [B, C, H, W] fp32, timesteps 1000 σ and conditioning of B samples -> velocity [B, C, H, W].
public typealias VelocityFunction =
    @Sendable (_ latents_BCHW: Tensor, _ timesteps: [Float], _ conditioning: Conditioning) -> Tensor

/// Classifier-free guidance, v = v₋ + w (v₊ - v₋), in fp32.
///
/// One model call with the batch [negative; positive]. Rollout and training use this same function: their ratio is 1 only
/// if both branches, their order and the combination agree.
///
/// - Source: method.md 1.3. Difference: the released code combines in bf16 (method.md 4.25).
public struct GuidedVelocity: Sendable {
    /// w; 1 calls the model with the prompt alone.
    public let scale: Float

    /// - Parameter scale: at least 1.
    public init(scale: Double) { self.scale = Float(scale) }

    /// v at `x_BCHW`, fp32.
    public func callAsFunction(
        _ x_BCHW: Tensor, timestep: Float, prompt: PromptConditioning, velocity: VelocityFunction
    ) -> Tensor {
        let B = x_BCHW.shape[0]
        guard scale != 1 else {
            return velocity(x_BCHW, times(timestep, B), prompt.batch(B, guided: false)).converted(to: .float32)
        }
        let both = velocity(
            concatenated([x_BCHW, x_BCHW], axis: 0), times(timestep, 2 * B), prompt.batch(B, guided: true)
        ).converted(to: .float32)
        let (negative, positive) = (both.rows(0..<B), both.rows(B..<2 * B))
        return negative + (positive - negative) * scale
    }

    /// v at `x_BCHW`, fp32, each branch a model call of its own on the lanes: one image alone keeps two processors busy.
    public func callAsFunction(
        _ x_BCHW: Tensor, timestep: Float, prompt: PromptConditioning, velocity: @escaping VelocityFunction,
        lanes: Lanes
    ) -> Tensor {
        let B = x_BCHW.shape[0]
        guard scale != 1 else { return self(x_BCHW, timestep: timestep, prompt: prompt, velocity: velocity) }
        let both = prompt.batch(B, guided: true)
        let velocities = lanes.map(2) { branch in
            velocity(x_BCHW, times(timestep, B), both.rows(branch * B..<(branch + 1) * B)).converted(to: .float32)
        }
        return velocities[0] + (velocities[1] - velocities[0]) * scale
    }

    /// One timestep for all samples.
    private func times(_ timestep: Float, _ count: Int) -> [Float] { [Float](repeating: timestep, count: count) }
}
