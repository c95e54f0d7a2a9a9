import TensorCore

/// A group's images as the maps of their scores are made of them.
struct MappedImages: Sendable {
    /// [M, H, W, 3] in [0, 1].
    let images_BHWC: Tensor
    /// What they were scored by.
    let table: FeatureTable
    /// What the component reads of images; tracked images give tracked features.
    let read: @Sendable (_ images_BHWC: Tensor) -> FrozenFeatures
    /// How contributions are computed.
    let attribution: Attribution

    /// What the component reads of these images.
    var features: FrozenFeatures { read(images_BHWC) }

    /// The maps of a score that is a differentiable function of the images.
    ///
    /// - Parameter score: of what `read` gives -> fp32 [B].
    func attributed(_ score: @escaping @Sendable (FrozenFeatures) -> Tensor) -> RewardMaps {
        let read = read
        let contributions = attribution.contributions(of: images_BHWC) { score(read($0)) }
        let pixels = PatchGrid(rows: images_BHWC.shape[1], columns: images_BHWC.shape[2])
        return RewardMaps(pixels: pixels, contributions: (contributions.meanOverLastAxis() * 3).values)
    }
}

extension PatchGrid {
    /// The grid of a backbone's patches: as many rows as columns.
    init(square count: Int) {
        let side = Int(Double(count).squareRoot().rounded())
        precondition(side * side == count, "patch grid: \(count) patches are no square")
        self.init(rows: side, columns: side)
    }
}

extension RewardMaps {
    /// Maps over a backbone's patches.
    init(square values: [[Double]]) {
        self.init(grid: PatchGrid(square: values.first?.count ?? 1), values: values)
    }
}
