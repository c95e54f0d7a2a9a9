import TensorCore

/// What a `StatisticsHead` reads of an image.
enum ImageStatistics: Sendable {
    /// Chosen statistics of the patch tokens of some blocks, one block after the other; of each token brought to mean 0 and
    /// variance 1 where `normalized`, so that blocks of any scale count alike.
    case blocks([Int], tokenWidth: Int, [TokenStatistic], normalized: Bool)
    /// Chosen statistics of the image's own texture (`textureTokens`).
    case texture([TokenStatistic])
    /// The image's thumbnail and its colours (`thumbnailVector`).
    case thumbnail

    /// Length of the vector.
    var width: Int {
        switch self {
        case .blocks(let blocks, let tokenWidth, let statistics, _): statistics.count * tokenWidth * blocks.count
        case .texture(let statistics): statistics.count * textureTokenWidth
        case .thumbnail: thumbnailWidth
        }
    }
}

/// `dino_statistics`, `texture`, `thumbnail` and `dino_relative`: one logit an image from one vector of numbers, r = h(standardised
/// vector).
///
/// The vector is standardised with constants fitted at the first training; `Discriminator+Features` makes it relative to the
/// prompt's references where that is asked for. One hinge on the image's logit instead of one on every token: it sees what the
/// whole image looks like, and tells the tiny base model's images from references where the released heads do not (docs/method.md).
///
/// With the others' mean m beside the image's f, the vector is f and |f - m|: `dino_relative`.
struct StatisticsHead: RandomHead {
    let component: RewardComponent
    let statistics: ImageStatistics
    let relation: ReferenceRelation
    let hiddenWidth: Int

    var blocks: [Int]? { if case .blocks(let blocks, _, _, _) = statistics { blocks } else { nil } }
    private var width: Int { relation == .others ? 2 * statistics.width : statistics.width }
    var standardizedWidth: Int? { width }
    var layers: [(name: String, input: Int, output: Int)] {
        HeadWeights.perceptronLayers(input: width, hidden: hiddenWidth)
    }

    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        [component.rawValue: vector(tokens(features))]
    }

    /// What is pooled, [B, N, D] each: of every block, of the texture; of a thumbnail the vector itself, [B, 198].
    private func tokens(_ features: FrozenFeatures) -> [Tensor] {
        switch statistics {
        case .thumbnail: [thumbnailVector(features.images_BHWC)]
        case .texture: [textureTokens(features.images_BHWC)]
        case .blocks(let blocks, _, _, let normalized):
            blocks.map { block in
                let tokens = blockOutput(present(features.backbone), block)
                let patches = tokens.sliced(axis: 1, 1..<tokens.shape[1])
                return normalized ? layerNorm(patches, epsilon: 1e-5) : patches
            }
        }
    }

    private func vector(_ tokens: [Tensor]) -> Tensor {
        switch statistics {
        case .thumbnail: tokens[0]
        case .texture(let chosen), .blocks(_, _, let chosen, _):
            concatenated(tokens.map { pooled($0, chosen) }, axis: 1)
        }
    }

    /// By attribution to the tokens, each of which has a place; of a thumbnail to its areas, the colours' moments to all alike.
    ///
    /// What an image is compared with is the same for all of the group.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? {
        let tokens = tokens(images.features)
        let compared = compared(images.table, vector(tokens))
        let (widths, last) = (tokens.map { $0.size(-1) }, tokens[0].rank - 1)
        let contributions = images.attribution.contributions(of: concatenated(tokens, axis: last)) { joined in
            var first = 0
            let parts = widths.map { width in
                defer { first += width }
                return joined.sliced(axis: last, first..<first + width)
            }
            return weights.perceptron(weights.standardized(compared(vector(parts))))
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

    /// Vectors of a group's images -> what is standardised of them, from what the table has.
    private func compared(_ table: FeatureTable, _ vectors: Tensor) -> @Sendable (Tensor) -> Tensor {
        switch relation {
        case .none: return { $0 }
        case .difference:
            let shift = (table[component.rawValue] - vectors).rows(0..<1).reshaped(-1)
            return { $0 + shift }
        case .others:
            let others = table[component.rawValue + othersSuffix]
            return { besideDistance($0, others.gatheredRows([Int32](repeating: 0, count: $0.shape[0]))) }
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

    func standardizedVector(_ features: FeatureTable) -> Tensor {
        let own = features[component.rawValue]
        return relation == .others ? besideDistance(own, features[component.rawValue + othersSuffix]) : own
    }

    private func logits(_ features: FeatureTable, _ weights: HeadWeights) -> Tensor {
        weights.perceptron(weights.standardized(standardizedVector(features)))
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        logits(features, weights)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        let (a, b) = (logits(real, weights), logits(fake, weights))
        return HeadLoss(loss: weights.hinge(real: a, fake: b), realLogits: a, fakeLogits: b)
    }
}

/// f and |f - m|, where there are no others f and 0: [B, D], m and 1 or zeros [B, D + 1] -> [B, 2 D].
private func besideDistance(_ features_BD: Tensor, _ others: Tensor) -> Tensor {
    let D = features_BD.shape[1]
    let exist = others.sliced(axis: 1, D..<D + 1).reshaped(-1)
    let difference = features_BD.scaledRows(by: exist) - others.sliced(axis: 1, 0..<D)
    return concatenated([features_BD, difference.activated(.relu) + (-difference).activated(.relu)], axis: 1)
}
