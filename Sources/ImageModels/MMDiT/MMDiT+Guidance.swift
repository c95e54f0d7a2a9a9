public import NeuralNetworks
public import TensorCore

/// Conditioning of both branches of classifier-free guidance, as one batch [negative ; positive].
public struct GuidedConditioning: Sendable {
    /// 2B rows, the negative ones first.
    public let joined: TextConditioning

    /// Both branches, B rows each.
    public init(negative: TextConditioning, positive: TextConditioning) {
        precondition(
            negative.count == positive.count, "guidance: \(negative.count) negative and \(positive.count) positive rows"
        )
        joined = .joined([negative, positive])
    }

    /// B.
    public var count: Int { joined.count / 2 }
    /// The branch of the prompts.
    public var positive: TextConditioning { joined.rows(count..<2 * count) }
    /// The branch of the negative prompt.
    public var negative: TextConditioning { joined.rows(0..<count) }

    /// Samples `range` of both branches.
    public func rows(_ range: Range<Int>) -> GuidedConditioning {
        GuidedConditioning(negative: negative.rows(range), positive: positive.rows(range))
    }
}

extension MMDiT {
    /// Classifier-free guidance in one batch: v_negative + guidance · (v_positive - v_negative), combined in fp32; at guidance 1
    /// only the positive branch is computed.
    ///
    /// - Parameters:
    ///   - latents_BCHW: B samples. timestep: T · sigma of all samples. conditioning: of B samples.
    /// - Returns: fp32 [B, C, H, W].
    public func guidedVelocity(
        _ latents_BCHW: Tensor, timestep: Float, guidance: Float, conditioning: GuidedConditioning,
        adapter: LoRAAdapter? = nil
    ) -> Tensor {
        let B = latents_BCHW.shape[0]
        if guidance == 1 {
            return velocity(
                latents_BCHW, timesteps: [Float](repeating: timestep, count: B), conditioning: conditioning.positive,
                adapter: adapter)
        }
        let both = velocity(
            concatenated([latents_BCHW, latents_BCHW], axis: 0), timesteps: [Float](repeating: timestep, count: 2 * B),
            conditioning: conditioning.joined, adapter: adapter)
        let (without, with) = (both.rows(0..<B), both.rows(B..<2 * B))
        return without + (with - without) * guidance
    }
}
