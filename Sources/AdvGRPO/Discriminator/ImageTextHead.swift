public import NeuralNetworks
public import TensorCore

/// The trained end of a dual encoder, for a discriminator that is one.
public struct TunedEncoder: Sendable {
    /// Logits of images and their own texts from the trunk's features and the trained tensors: fp32 [B]. The precision is that of
    /// the trained layers' arithmetic.
    public typealias LogitFunction =
        @Sendable (_ features: TrunkFeatures, _ parameters: Parameters, _ dtype: DType) -> Tensor

    /// The trained tensors as the model's files have them, fp32.
    public let parameters: Parameters
    /// Images computed at once.
    public let chunks: Chunks
    /// See `LogitFunction`.
    public let logits: LogitFunction

    /// All parts.
    public init(parameters: Parameters, chunks: Chunks, logits: @escaping LogitFunction) {
        self.parameters = parameters
        self.chunks = chunks
        self.logits = logits
    }
}

/// `pickscore_adversarial`: r = s / 26 with s = exp(logit_scale) cos(image, text), the last layers of whose vision tower learn.
///
/// L = mean_i softplus(-(s_ref,i - s_gen,i)): Bradley and Terry's, over pairs of a reference and a generated image of one prompt;
/// with smoothing s, 1 - s/2 of it and s/2 of the same with the sides changed.
///
/// - Source: method.md 1.13; Adv-GRPO@8287f90 `train_sd3_fast_pickscore.py`, `pick_score_training.py`. Difference: fp32 weights.
struct ImageTextHead: DiscriminatorHead {
    let encoder: TunedEncoder

    var component: RewardComponent { .pickScoreAdversarial }
    var blocks: [Int]? { nil }
    var pairsAtOnce: Chunks? { encoder.chunks }

    func initialParameters(seed: UInt64, engine: any Engine) -> Parameters { encoder.parameters }

    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        guard let trunk = features.trunk else { preconditionFailure("\(component.rawValue) got no features") }
        return [statesName: trunk.states_BTD, textsName: trunk.texts_BP]
    }

    /// s of each image, fp32 [B]; pieces of a large table one after the other.
    private func logits(_ features: FeatureTable, _ weights: HeadWeights) -> Tensor {
        let (own, ranges) = (weights.own, encoder.chunks.ranges(features.count))
        return concatenated(
            ranges.map { range in
                let rows = TrunkFeatures(
                    states_BTD: features[statesName].rows(range), texts_BP: features[textsName].rows(range))
                return encoder.logits(rows, own, weights.dtype)
            }, axis: 0)
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        logits(features, weights) * (1 / component.divisor)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        precondition(real.count == fake.count, "\(component.rawValue): \(real.count) references, \(fake.count) images")
        let (a, b) = (logits(real, weights), logits(fake, weights))
        let loss = (b - a).activated(.softplus).mean()
        let flipped = weights.labelSmoothing / 2
        return HeadLoss(
            loss: flipped == 0 ? loss : loss * (1 - flipped) + (a - b).activated(.softplus).mean() * flipped,
            realLogits: a, fakeLogits: b)
    }

    private var statesName: String { component.rawValue + ".states" }
    private var textsName: String { component.rawValue + ".texts" }
}
