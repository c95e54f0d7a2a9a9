import TensorCore

/// `dino_statistics` and `texture`: one logit an image from pooled statistics, r = h(standardised statistics).
///
/// The vector is the chosen of mean, deviation, maximum and minimum over the tokens of each feature: of the patch tokens of
/// some blocks, one block after the other, or of the image's own texture (`textureTokens`). It is standardised with constants fitted at
/// the first training. One hinge on the image's logit instead of one on every token: it sees what the whole image looks like,
/// and tells the tiny base model's images from references where the released heads do not (docs/method.md).
struct StatisticsHead: DiscriminatorHead {
    let component: RewardComponent
    /// Blocks pooled; nil for the texture.
    let blocks: [Int]?
    /// Features of a token.
    let tokenWidth: Int
    let statistics: [TokenStatistic]
    let hiddenWidth: Int

    private var width: Int { statistics.count * tokenWidth * (blocks?.count ?? 1) }
    var standardizedWidth: Int? { width }
    var layers: [(name: String, input: Int, output: Int)] {
        HeadWeights.perceptronLayers(input: width, hidden: hiddenWidth)
    }

    func extract(_ features: BackboneFeatures?, images_BHWC: Tensor) -> [String: Tensor] {
        guard let blocks else { return [component.rawValue: pooled(textureTokens(images_BHWC))] }
        let vectors = blocks.map { block in
            let tokens = blockOutput(present(features), block)
            return pooled(tokens.sliced(axis: 1, 1..<tokens.shape[1]))
        }
        return [component.rawValue: concatenated(vectors, axis: 1)]
    }

    /// The chosen statistics, in the order of `TokenStatistic`: [B, N, D] -> [B, chosen · D].
    private func pooled(_ tokens_BND: Tensor) -> Tensor {
        let all = tokens_BND.tokenStatistics()
        let parts = TokenStatistic.allCases.enumerated().filter { statistics.contains($0.element) }.map {
            all.sliced(axis: 1, $0.offset * tokenWidth..<($0.offset + 1) * tokenWidth)
        }
        return concatenated(parts, axis: 1)
    }

    private func logits(_ features: FeatureTable, _ weights: HeadWeights) -> Tensor {
        weights.perceptron(weights.standardized(features[component.rawValue]))
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        logits(features, weights)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        let (a, b) = (logits(real, weights), logits(fake, weights))
        return HeadLoss(loss: hingeLoss(real: a, fake: b), realLogits: a, fakeLogits: b)
    }
}
