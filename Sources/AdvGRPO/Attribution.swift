public import TensorCore

/// How much each element of an image adds to its reward over the mean image of its group: path attribution.
///
/// With x̄ the group's mean image, r(x) - r(x̄) = Σ_n (x - x̄)_n ∫ ∂_n r(x̄ + t (x - x̄)) dt over t from 0 to 1; element n's term is its
/// contribution. The integral is Simpson's: the gradient at the mean (weight 1/6; one backward pass for the whole group), half way
/// (4/6) and at the image (1/6). So contributions add up to the reward's difference, exactly for rewards of degree four along
/// the way, else up to |d⁵r/dt⁵| / 2880.
///
/// - Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, arXiv 1703.01365; ours: the group's mean as the
///   baseline, three points. docs/method.md, "An advantage for every patch".
public struct Attribution: Sendable {
    /// Images whose gradients are computed at once.
    public let chunks: Chunks
    let lanes: Lanes

    /// - Parameter lanes: pieces of a group run on them.
    public init(chunks: Chunks, lanes: Lanes) {
        self.chunks = chunks
        self.lanes = lanes
    }

    /// Every element's contribution.
    ///
    /// - Parameters:
    ///   - inputs: the images of a group, or features of theirs: fp32 [M, ...].
    ///   - reward: [B, ...] -> fp32 [B], row by row, differentiable; the same function for all of the group.
    /// - Returns: of `inputs`' shape; a row adds up to the reward of its image less that of the mean.
    public func contributions(of inputs: Tensor, reward: @escaping @Sendable (Tensor) -> Tensor) -> Tensor {
        let (M, one) = (inputs.shape[0], Array(inputs.shape.dropFirst()))
        let mean = inputs.reshaped(M, -1).transposed(1, 0).meanOverLastAxis().reshaped(one)
        let difference = inputs + -mean
        let atMean = gradient(of: reward, at: mean.reshaped([1] + one)).reshaped(one)
        let ranges = chunks.ranges(M)
        let pieces = lanes.map(ranges.count) { piece in
            let (x, d) = (inputs.rows(ranges[piece]), difference.rows(ranges[piece]))
            let halfWay = gradient(of: reward, at: d * 0.5 + mean)
            return ((halfWay * 4 + gradient(of: reward, at: x) + atMean) * (1.0 / 6)) * d
        }
        return concatenated(pieces, axis: 0)
    }

    private func gradient(of reward: (Tensor) -> Tensor, at inputs: Tensor) -> Tensor {
        let leaf = inputs.detached.tracked()
        guard let gradient = reward(leaf).sum().gradients()[leaf] else {
            preconditionFailure("attribution: the reward is no differentiable function of \(inputs.shape)")
        }
        return gradient
    }
}

extension RewardMaps {
    /// Side of the squares that pixels are gathered in: not larger than a token of any supported model.
    private static let squareSide = 8

    /// What pixels contribute, gathered in squares of 8 x 8 or a little less.
    ///
    /// - Parameter contributions: [M, rows, columns], flat; those of an image add up to the mean of its map.
    public init(pixels: PatchGrid, contributions: [Float]) {
        let side = Self.squareSide
        let squares = PatchGrid(rows: (pixels.rows + side - 1) / side, columns: (pixels.columns + side - 1) / side)
        self = RewardMaps(grid: pixels, floats: contributions.map { $0 * Float(pixels.count) }).resampled(to: squares)
    }
}
