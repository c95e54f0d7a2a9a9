#if canImport(Glibc)
    import Glibc
#endif

/// Places of an image: rows and columns of equal areas.
public struct PatchGrid: Sendable, Equatable {
    /// Numbers of areas, both at least 1.
    public let rows: Int, columns: Int

    /// - Precondition: both at least 1.
    public init(rows: Int, columns: Int) {
        precondition(rows >= 1 && columns >= 1, "patch grid: \(rows) x \(columns)")
        self.rows = rows
        self.columns = columns
    }

    /// Number of places.
    public var count: Int { rows * columns }
}

/// Where in its image each reward of a group comes from: one map an image.
///
/// The mean of a map is the image's reward, up to a number that all images of the group share: no advantage sees it.
public struct RewardMaps: Sendable, Equatable {
    /// The places of each map.
    public let grid: PatchGrid
    /// One list an image, row by row.
    public let values: [[Double]]

    /// - Precondition: every list has one number a place.
    public init(grid: PatchGrid, values: [[Double]]) {
        precondition(
            values.allSatisfy { $0.count == grid.count }, "reward maps: \(values.map(\.count)) for \(grid)")
        self.grid = grid
        self.values = values
    }

    /// Maps as they travel: fp32 [M, rows, columns], flat.
    ///
    /// - Precondition: a whole number of maps.
    public init(grid: PatchGrid, floats: [Float]) {
        precondition(floats.count % grid.count == 0, "reward maps: \(floats.count) numbers for \(grid)")
        self.init(
            grid: grid,
            values: stride(from: 0, to: floats.count, by: grid.count).map { first in
                floats[first..<first + grid.count].map(Double.init)
            })
    }

    /// Scores that come from no place in particular: each at every place of its image.
    public init(grid: PatchGrid, flat scores: [Float]) {
        self.init(grid: grid, values: scores.map { [Double](repeating: Double($0), count: grid.count) })
    }

    /// fp32 [M, rows, columns], flat.
    public var floats: [Float] { values.flatMap { $0.map { Float($0) } } }

    /// The maps on other places, each the mean over its area. Means of maps stay what they are.
    public func resampled(to other: PatchGrid) -> RewardMaps {
        if other == grid { return self }
        let down = AxisWeights(averaging: grid.rows, to: other.rows)
        let across = AxisWeights(averaging: grid.columns, to: other.columns)
        return RewardMaps(grid: other, values: values.map { across.alongRows(down.alongColumns($0, of: grid.columns)) })
    }

    /// Each map smoothed by a Gaussian of this deviation, in places; reflected at the edges, so that means stay what they are.
    public func blurred(_ deviation: Double) -> RewardMaps {
        if deviation == 0 { return self }
        let down = AxisWeights(smoothing: grid.rows, deviation: deviation)
        let across = AxisWeights(smoothing: grid.columns, deviation: deviation)
        return RewardMaps(grid: grid, values: values.map { across.alongRows(down.alongColumns($0, of: grid.columns)) })
    }

    /// The maps, each moved by one number so that its mean is the given one: the image's reward.
    ///
    /// - Precondition: one mean a map.
    public func moved(toMeans means: [Float]) -> RewardMaps {
        precondition(means.count == values.count, "reward maps: \(means.count) means of \(values.count)")
        return RewardMaps(
            grid: grid,
            values: zip(values, means).map { map, mean in
                let shift = Double(mean) - Moments(map).mean
                return map.map { $0 + shift }
            })
    }

    /// Σ weight · maps, on a grid as fine as the finest.
    ///
    /// - Precondition: at least one part; all of the same images.
    public static func sum(_ parts: [(weight: Double, maps: RewardMaps)]) -> RewardMaps {
        precondition(!parts.isEmpty && Set(parts.map(\.maps.values.count)).count == 1, "reward maps of several groups")
        let grid = PatchGrid(
            rows: parts.reduce(1) { max($0, $1.maps.grid.rows) },
            columns: parts.reduce(1) { max($0, $1.maps.grid.columns) })
        let scaled = parts.map { part in (part.weight, part.maps.resampled(to: grid).values) }
        return RewardMaps(
            grid: grid,
            values: scaled[0].1.indices.map { image in
                (0..<grid.count).map { place in scaled.reduce(0) { $0 + $1.0 * $1.1[image][place] } }
            })
    }
}

/// A linear map along one axis: row i of the result is Σ_j weights[i][j] · row j.
private struct AxisWeights {
    let weights: [[Double]]

    /// Mean over each of `targets` equal areas of `sources` equal areas. In units of 1 / (sources · targets) source j covers
    /// [j · targets, (j + 1) · targets) and target i [i · sources, (i + 1) · sources).
    init(averaging sources: Int, to targets: Int) {
        weights = (0..<targets).map { i in
            (0..<sources).map { j in
                let overlap = min((i + 1) * sources, (j + 1) * targets) - max(i * sources, j * targets)
                return Double(max(0, overlap)) / Double(sources)
            }
        }
    }

    /// Gaussian weights up to four deviations away. What lies outside is the inside mirrored, edge included, again and again: the
    /// matrix is symmetric and its rows add up to 1, so its columns do.
    init(smoothing count: Int, deviation: Double) {
        let radius = Int(4 * deviation + 0.5)
        let kernel = (-radius...radius).map { exp(-Double($0 * $0) / (2 * deviation * deviation)) }
        let total = kernel.reduce(0, +)
        weights = (0..<count).map { i in
            var row = [Double](repeating: 0, count: count)
            for (offset, weight) in zip(-radius...radius, kernel) {
                let period = ((i + offset) % (2 * count) + 2 * count) % (2 * count)
                row[min(period, 2 * count - 1 - period)] += weight / total
            }
            return row
        }
    }

    /// Applied to each column of a table with `columns` columns.
    func alongColumns(_ values: [Double], of columns: Int) -> [Double] {
        weights.flatMap { row in
            (0..<columns).map { column in
                row.enumerated().reduce(0) { $0 + $1.element * values[$1.offset * columns + column] }
            }
        }
    }

    /// Applied to each row of a table.
    func alongRows(_ values: [Double]) -> [Double] {
        let length = weights[0].count
        return stride(from: 0, to: values.count, by: length).flatMap { first in
            weights.map { row in row.enumerated().reduce(0) { $0 + $1.element * values[first + $1.offset] } }
        }
    }
}
