public import TensorCore

/// What the images of a group differ by: for each, the mean distance to its siblings, in [0, 1].
///
/// The distance of two images is the root of the mean squared difference of their thumbnails, the mean colours of 8 x 8 equal
/// areas: another arrangement, pose or colour shows in it, noise of single pixels does not. It needs no network, so that every run
/// has it, whatever its rewards read.
///
/// - Parameter images_BHWC: [B, H, W, 3] in [0, 1], H and W at least 8.
/// - Returns: B values, 0 for a single image.
public func distancesToSiblings(_ images_BHWC: Tensor) -> [Float] {
    let (B, areas) = (images_BHWC.shape[0], thumbnailSide * thumbnailSide * 3)
    let vectors = thumbnailVector(images_BHWC).values
    var sums = [Double](repeating: 0, count: B)
    for first in 0..<B {
        for second in 0..<first {
            let square = (0..<areas).reduce(0.0) { sum, area in
                let difference = Double(
                    vectors[first * thumbnailWidth + area] - vectors[second * thumbnailWidth + area])
                return sum + difference * difference
            }
            let distance = (square / Double(areas)).squareRoot()
            sums[first] += distance
            sums[second] += distance
        }
    }
    return sums.map { Float($0 / Double(max(1, B - 1))) }
}
