import TensorCore

/// A Gaussian fitted to rows of features, some of which may count several times or not at all.
struct Gaussian: Sendable {
    /// [D].
    let mean: [Double]
    /// F [n, D] with FᵀF = Σ: rows less their mean, times the root of their count over N - 1.
    let factor: DoubleMatrix

    /// - Parameters:
    ///   - features_ND: rows.
    ///   - counts: how often each row counts, not negative; their sum N is at least two.
    init(_ features_ND: DoubleMatrix, counts: [Int]) {
        let total = counts.reduce(0, +)
        precondition(
            counts.count == features_ND.rows && total >= 2, "Gaussian of \(features_ND.rows) rows, \(total) counted")
        let D = features_ND.columns
        let rows = counts.indices.filter { counts[$0] > 0 }
        var mean = [Double](repeating: 0, count: D)
        for row in rows {
            let weight = Double(counts[row]) / Double(total)
            for column in 0..<D { mean[column] += weight * features_ND.elements[row * D + column] }
        }
        var elements: [Double] = []
        elements.reserveCapacity(rows.count * D)
        for row in rows {
            let scale = (Double(counts[row]) / Double(total - 1)).squareRoot()
            for column in 0..<D { elements.append(scale * (features_ND.elements[row * D + column] - mean[column])) }
        }
        self.mean = mean
        factor = DoubleMatrix(rows: rows.count, columns: D, elements: elements)
    }

    /// The Fréchet distance; see `frechetDistance`.
    ///
    /// (Σ1^½ Σ2 Σ1^½)^½ has the singular values of F1 F2ᵀ, whatever the factors: F1 may have as many rows as there are
    /// images or as many as features, and the smaller decides what a distance costs.
    func distance(to other: Gaussian) -> Double {
        let (small, large) = factor.rows <= other.factor.rows ? (self, other) : (other, self)
        let product = small.compactFactor.product(large.factor, transposeOther: true)
        // Rounding may leave some eigenvalues slightly below zero; they count as zero.
        let traceOfRoot = product.product(product, transposeOther: true).symmetricEigenvalues()
            .reduce(0) { $0 + max($1, 0).squareRoot() }
        let gap = zip(mean, other.mean).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        return gap + trace + other.trace - 2 * traceOfRoot
    }

    /// A factor with at most D rows: the rows themselves, else Λ^½ V of Σ = Vᵀ Λ V.
    private var compactFactor: DoubleMatrix {
        let D = factor.columns
        guard factor.rows > D else { return factor }
        let (values, vectors) = factor.product(factor, transposeSelf: true).symmetricEigen()
        let roots = values.map { max($0, 0).squareRoot() }
        return DoubleMatrix(
            rows: D, columns: D, elements: vectors.elements.indices.map { vectors.elements[$0] * roots[$0 / D] })
    }

    /// Of the covariance.
    private var trace: Double { factor.elements.reduce(0) { $0 + $1 * $1 } }
}

extension Tensor {
    /// fp32 [N, D] in double precision.
    var matrix: DoubleMatrix {
        precondition(rank == 2, "a matrix of shape \(shape)")
        return DoubleMatrix(rows: shape[0], columns: shape[1], elements: values.map(Double.init))
    }
}
