import LibC
public import TensorCore

/// Side of the squares that `textureTokens` describes.
public let textureSquareSide = 8
/// Numbers that describe one square.
public let textureTokenWidth = 20

/// The texture of each 8 x 8 square of an image in 20 numbers: what a vision transformer trained to ignore it throws away.
///
/// With L(e) = ln(mean of e over the square + 1e-5), for the three channels each: 0-2 L of the variance; 3-5 L(dx²) and 6-8 L(dy²) of
/// forward differences; 9-11 L(Δ²), Δ = 4 x - its four neighbours; 12-14 the same of the image averaged over 2 x 2. Then 15 mean
/// chroma (largest minus smallest channel), 16 L of (chroma - mean of its 3 x 3 neighbourhood)², 17-19 mean colour. Borders
/// repeat the edge pixel. Rows and columns beyond a multiple of 8 are left out.
///
/// - Parameter images_BHWC: [B, H, W, 3] in [0, 1], H and W at least 8.
/// - Returns: fp32 [B, (H/8)(W/8), 20], computed on the host in fp32.
/// - Source: ours; measured in docs/method.md.
public func textureTokens(_ images_BHWC: Tensor) -> Tensor {
    let (B, H, W) = (images_BHWC.shape[0], images_BHWC.shape[1], images_BHWC.shape[2])
    precondition(
        images_BHWC.shape[3] == 3 && H >= textureSquareSide && W >= textureSquareSide,
        "textureTokens: \(images_BHWC.shape)")
    let pixels = images_BHWC.values
    let squares = (H / textureSquareSide) * (W / textureSquareSide)
    guard images_BHWC.engine.computes else { return images_BHWC.engine.zeros([B, squares, textureTokenWidth]) }
    var tokens = [Float](repeating: 0, count: B * squares * textureTokenWidth)
    for image in 0..<B {
        let offset = image * H * W * 3
        let planes = (0..<3).map { channel in
            Plane(height: H, width: W, values: (0..<H * W).map { pixels[offset + $0 * 3 + channel] })
        }
        let described = describe(planes)
        tokens.replaceSubrange(image * described.count..<(image + 1) * described.count, with: described)
    }
    return images_BHWC.engine.tensor(tokens, shape: [B, squares, textureTokenWidth])
}

/// The tokens of one image, row by row.
private func describe(_ planes: [Plane]) -> [Float] {
    let side = textureSquareSide
    let logarithm = { (energy: Float) in log(energy + 1e-5) }
    var columns: [[Float]] = []
    columns += planes.map { plane in
        zip(plane.map { $0 * $0 }.means(side), plane.means(side)).map { logarithm(max($0 - $1 * $1, 0)) }
    }
    columns += planes.map { $0.differences(rows: 0, columns: 1).means(side).map(logarithm) }
    columns += planes.map { $0.differences(rows: 1, columns: 0).means(side).map(logarithm) }
    columns += planes.map { $0.laplacian().means(side).map(logarithm) }
    columns += planes.map { $0.halved().laplacian().means(side / 2).map(logarithm) }
    let chroma = Plane.chroma(planes)
    columns.append(chroma.means(side))
    columns.append(chroma.roughness().means(side).map(logarithm))
    columns += planes.map { $0.means(side) }
    return columns[0].indices.flatMap { square in columns.map { $0[square] } }
}

/// One channel of one image.
private struct Plane {
    let height: Int
    let width: Int
    let values: [Float]

    /// The pixel here, or the nearest one inside.
    private func at(_ row: Int, _ column: Int) -> Float {
        values[min(max(row, 0), height - 1) * width + min(max(column, 0), width - 1)]
    }

    func map(_ transform: (Float) -> Float) -> Plane {
        Plane(height: height, width: width, values: values.map(transform))
    }

    private func mapPixels(_ transform: (Int, Int) -> Float) -> Plane {
        var result: [Float] = []
        result.reserveCapacity(values.count)
        for row in 0..<height {
            for column in 0..<width { result.append(transform(row, column)) }
        }
        return Plane(height: height, width: width, values: result)
    }

    /// Squared difference to the pixel at an offset.
    func differences(rows: Int, columns: Int) -> Plane {
        mapPixels { row, column in
            let difference = at(row + rows, column + columns) - at(row, column)
            return difference * difference
        }
    }

    /// Δ².
    func laplacian() -> Plane {
        mapPixels { row, column in
            let neighbours = at(row, column + 1) + at(row, column - 1) + at(row + 1, column) + at(row - 1, column)
            let value = 4 * at(row, column) - neighbours
            return value * value
        }
    }

    /// Squared distance to the mean of the 3 x 3 neighbourhood.
    func roughness() -> Plane {
        mapPixels { row, column in
            var sum: Float = 0
            for dy in -1...1 {
                for dx in -1...1 { sum += at(row + dy, column + dx) }
            }
            let value = at(row, column) - sum / 9
            return value * value
        }
    }

    /// Averaged over squares of 2 x 2.
    func halved() -> Plane { Plane(height: height / 2, width: width / 2, values: means(2)) }

    /// Mean of each whole square of this side, row by row.
    func means(_ side: Int) -> [Float] {
        let (rows, columns) = (height / side, width / side)
        var sums = [Float](repeating: 0, count: rows * columns)
        for row in 0..<rows * side {
            for column in 0..<columns * side {
                sums[row / side * columns + column / side] += values[row * width + column]
            }
        }
        return sums.map { $0 / Float(side * side) }
    }

    static func chroma(_ planes: [Plane]) -> Plane {
        let values = planes[0].values.indices.map { index in
            let channels = planes.map { $0.values[index] }
            return (channels.max() ?? 0) - (channels.min() ?? 0)
        }
        return Plane(height: planes[0].height, width: planes[0].width, values: values)
    }
}
