/// Size of a fresh low-rank adapter and which layers it changes.
public struct LoRAConfiguration: Sendable, Equatable {
    /// r, rows of A.
    public var rank: Int
    /// The update is multiplied by alpha / r.
    public var alpha: Double
    /// Ends of layer names, whole components: `attn.to_q` matches `transformer_blocks.0.attn.to_q`, not `attn2.to_q`.
    public var targets: [String]

    /// The method's adapter is r 32, alpha 64 on the eight projections of the joint attention.
    public init(rank: Int = 32, alpha: Double = 64, targets: [String] = LoRAConfiguration.jointAttention) {
        self.rank = rank
        self.alpha = alpha
        self.targets = targets
    }

    /// The projections of the joint attention of SD3's transformer; `attn2` is left alone.
    public static let jointAttention = [
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
        "attn.to_add_out",
    ]

    /// Whether a layer of this name is adapted.
    public func matches(_ layer: String) -> Bool { targets.contains { layer == $0 || layer.hasSuffix("." + $0) } }
}
