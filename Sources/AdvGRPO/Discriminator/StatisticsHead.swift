import TensorCore

/// What a `StatisticsHead` reads of an image.
enum ImageStatistics: Sendable {
    /// Chosen statistics of the patch tokens of some blocks, one block after the other.
    case blocks([Int], tokenWidth: Int, [TokenStatistic])
    /// Chosen statistics of the image's own texture (`textureTokens`).
    case texture([TokenStatistic])
    /// The image's thumbnail and its colours (`thumbnailVector`).
    case thumbnail

    /// Length of the vector.
    var width: Int {
        switch self {
        case .blocks(let blocks, let tokenWidth, let statistics): statistics.count * tokenWidth * blocks.count
        case .texture(let statistics): statistics.count * textureTokenWidth
        case .thumbnail: thumbnailWidth
        }
    }
}

/// `dino_statistics`, `texture` and `thumbnail`: one logit an image from one vector of numbers, r = h(standardised vector).
///
/// The vector is standardised with constants fitted at the first training; `Discriminator+Features` makes it relative to the
/// prompt's references where that is asked for. One hinge on the image's logit instead of one on every token: it sees what the
/// whole image looks like, and tells the tiny base model's images from references where the released heads do not (docs/method.md).
struct StatisticsHead: RandomHead {
    let component: RewardComponent
    let statistics: ImageStatistics
    let isRelative: Bool
    let hiddenWidth: Int

    var blocks: [Int]? { if case .blocks(let blocks, _, _) = statistics { blocks } else { nil } }
    var standardizedWidth: Int? { statistics.width }
    var layers: [(name: String, input: Int, output: Int)] {
        HeadWeights.perceptronLayers(input: statistics.width, hidden: hiddenWidth)
    }

    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        let vector =
            switch statistics {
            case .thumbnail: thumbnailVector(features.images_BHWC)
            case .texture(let chosen): pooled(textureTokens(features.images_BHWC), chosen)
            case .blocks(let blocks, _, let chosen):
                concatenated(
                    blocks.map { block in
                        let tokens = blockOutput(present(features.backbone), block)
                        return pooled(tokens.sliced(axis: 1, 1..<tokens.shape[1]), chosen)
                    }, axis: 1)
            }
        return [component.rawValue: vector]
    }

    /// The chosen statistics, in the order of `TokenStatistic`: [B, N, D] -> [B, chosen · D].
    private func pooled(_ tokens_BND: Tensor, _ chosen: [TokenStatistic]) -> Tensor {
        let (all, D) = (tokens_BND.tokenStatistics(), tokens_BND.shape[2])
        let parts = TokenStatistic.allCases.enumerated().filter { chosen.contains($0.element) }.map {
            all.sliced(axis: 1, $0.offset * D..<($0.offset + 1) * D)
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
