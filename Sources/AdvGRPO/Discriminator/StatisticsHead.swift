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
        [component.rawValue: vector(tokens(features))]
    }

    /// What is pooled, [B, N, D] each: of every block, of the texture; of a thumbnail the vector itself, [B, 198].
    private func tokens(_ features: FrozenFeatures) -> [Tensor] {
        switch statistics {
        case .thumbnail: [thumbnailVector(features.images_BHWC)]
        case .texture: [textureTokens(features.images_BHWC)]
        case .blocks(let blocks, _, _):
            blocks.map { block in
                let tokens = blockOutput(present(features.backbone), block)
                return tokens.sliced(axis: 1, 1..<tokens.shape[1])
            }
        }
    }

    private func vector(_ tokens: [Tensor]) -> Tensor {
        switch statistics {
        case .thumbnail: tokens[0]
        case .texture(let chosen), .blocks(_, _, let chosen):
            concatenated(tokens.map { pooled($0, chosen) }, axis: 1)
        }
    }

    /// By attribution to the tokens, each of which has a place; of a thumbnail to its areas, the colours' moments to all alike.
    ///
    /// A relative head reads the vector less that of the references, which is the same for all images of a prompt.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? {
        let tokens = tokens(images.features)
        let shift = isRelative ? (images.table[component.rawValue] - vector(tokens)).rows(0..<1).reshaped(-1) : nil
        let widths = tokens.map { $0.size(-1) }
        let contributions = images.attribution.contributions(of: concatenated(tokens, axis: -1)) { joined in
            var first = 0
            let parts = widths.map { width in
                defer { first += width }
                return joined.sliced(axis: -1, first..<first + width)
            }
            let vector = vector(parts)
            return weights.perceptron(weights.standardized(shift.map { vector + $0 } ?? vector))
        }
        switch statistics {
        case .thumbnail: return thumbnailMaps(contributions)
        case .texture, .blocks:
            let sums = (contributions.meanOverLastAxis() * Float(contributions.size(-1))).values
            let grid =
                if case .texture = statistics {
                    PatchGrid(
                        rows: images.images_BHWC.shape[1] / textureSquareSide,
                        columns: images.images_BHWC.shape[2] / textureSquareSide)
                } else { PatchGrid(square: contributions.shape[1]) }
            return RewardMaps(grid: grid, floats: sums.map { $0 * Float(grid.count) })
        }
    }

    private func thumbnailMaps(_ contributions: Tensor) -> RewardMaps {
        let grid = PatchGrid(rows: thumbnailSide, columns: thumbnailSide)
        let values = contributions.values
        return RewardMaps(
            grid: grid,
            values: stride(from: 0, to: values.count, by: thumbnailWidth).map { first in
                let own = values[first..<first + thumbnailWidth].map(Double.init)
                let everywhere = own[(3 * grid.count)...].reduce(0, +)
                return (0..<grid.count).map { place in
                    Double(grid.count) * own[3 * place..<3 * place + 3].reduce(0, +) + everywhere
                }
            })
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
