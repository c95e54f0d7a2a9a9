/// Position tables resized to another grid, once, when a model is loaded.
enum PositionTable {
    /// Bicubic interpolation of a table [side · side, D] to rows x columns.
    ///
    /// - Parameter antialias: whether the kernel widens when the grid shrinks (and is Keys' a = -1/2, as in Pillow and torch's
    ///   antialiased mode) or not (a = -3/4, indices clamped at the border).
    /// - Source: torch `interpolate(mode: bicubic, align_corners: false)`; timm layers/pos_embed.py (antialias),
    ///   transformers modeling_dinov2.py (without) and modeling_dinov2_with_registers.py (with).
    static func resized(
        _ table: [Float], side: Int, width: Int, rows: Int, columns: Int, antialias: Bool
    ) -> [Float] {
        let vertical = weights(from: side, to: rows, antialias: antialias)
        let horizontal = weights(from: side, to: columns, antialias: antialias)
        var result = [Float](repeating: 0, count: rows * columns * width)
        for (row, rowTerms) in vertical.enumerated() {
            for (column, columnTerms) in horizontal.enumerated() {
                let start = (row * columns + column) * width
                for (y, yWeight) in rowTerms {
                    for (x, xWeight) in columnTerms {
                        let source = (y * side + x) * width
                        let weight = Float(yWeight * xWeight)
                        for index in 0..<width { result[start + index] += weight * table[source + index] }
                    }
                }
            }
        }
        return result
    }

    /// For each position of the new axis the old ones it is made of, with their weights.
    private static func weights(from old: Int, to new: Int, antialias: Bool) -> [[(index: Int, weight: Double)]] {
        let scale = Double(old) / Double(new)
        return (0..<new).map { position in
            let centre = scale * (Double(position) + 0.5)
            guard antialias else {
                let first = Int((centre - 0.5).rounded(.down))
                return (first - 1...first + 2).map { index in
                    (min(max(index, 0), old - 1), kernel(Double(index) + 0.5 - centre, a: -0.75))
                }
            }
            let widening = max(scale, 1)
            let low = max(Int(centre - 2 * widening + 0.5), 0)
            let high = min(Int(centre + 2 * widening + 0.5), old)
            let terms = (low..<high).map { ($0, kernel((Double($0) + 0.5 - centre) / widening, a: -0.5)) }
            let sum = terms.reduce(0) { $0 + $1.1 }
            return terms.map { ($0.0, $0.1 / sum) }
        }
    }

    /// Keys' cubic convolution kernel.
    private static func kernel(_ x: Double, a: Double) -> Double {
        let x = abs(x)
        if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
    }
}
