public import TensorCore

/// Side of the thumbnail that `thumbnailVector` takes.
public let thumbnailSide = 8
/// Numbers of `thumbnailVector`.
public let thumbnailWidth = thumbnailSide * thumbnailSide * 3 + 2 * 3

/// What an image shows from afar: mean colours of 8 x 8 equal areas, row by row, then mean and population deviation of each channel.
///
/// Rows and columns beyond a multiple of 8 are left out of the areas.
///
/// - Parameter images_BHWC: [B, H, W, 3] in [0, 1], H and W at least 8.
/// - Returns: fp32 [B, 198], computed on the host: means of areas summed in fp32 row by row, channel moments in fp64.
/// - Source: ours; measured in docs/decisions/007-learning.md.
public func thumbnailVector(_ images_BHWC: Tensor) -> Tensor {
    let (B, H, W) = (images_BHWC.shape[0], images_BHWC.shape[1], images_BHWC.shape[2])
    precondition(
        images_BHWC.shape[3] == 3 && H >= thumbnailSide && W >= thumbnailSide, "thumbnailVector: \(images_BHWC.shape)")
    let pixels = images_BHWC.values
    let (height, width) = (H / thumbnailSide, W / thumbnailSide)
    var vectors: [Float] = []
    vectors.reserveCapacity(B * thumbnailWidth)
    for image in 0..<B {
        let first = image * H * W * 3
        var areas = [Float](repeating: 0, count: thumbnailSide * thumbnailSide * 3)
        for row in 0..<height * thumbnailSide {
            for column in 0..<width * thumbnailSide {
                let area = (row / height * thumbnailSide + column / width) * 3
                let pixel = first + (row * W + column) * 3
                for channel in 0..<3 { areas[area + channel] += pixels[pixel + channel] }
            }
        }
        let channels = (0..<3).map { channel in
            Moments(stride(from: first + channel, to: first + H * W * 3, by: 3).map { Double(pixels[$0]) })
        }
        vectors += areas.map { $0 / Float(height * width) }
        vectors += channels.map { Float($0.mean) } + channels.map { Float($0.deviation) }
    }
    return images_BHWC.engine.tensor(vectors, shape: [B, thumbnailWidth])
}
