import COpenBLAS

/// A small dense matrix in double precision, row-major, on the host: for statistics that fp32 would spoil.
public struct DoubleMatrix: Sendable, Equatable {
    /// Rows and columns.
    public let rows: Int, columns: Int
    /// Elements, row by row.
    public let elements: [Double]

    /// - Precondition: `elements` has rows · columns entries.
    public init(rows: Int, columns: Int, elements: [Double]) {
        precondition(elements.count == rows * columns, "matrix: \(elements.count) elements for \(rows) x \(columns)")
        self.rows = rows
        self.columns = columns
        self.elements = elements
    }

    /// op(self) op(other), each transposed when asked.
    public func product(_ other: DoubleMatrix, transposeSelf: Bool = false, transposeOther: Bool = false)
        -> DoubleMatrix
    {
        let (m, k) = transposeSelf ? (columns, rows) : (rows, columns)
        let (inner, n) = transposeOther ? (other.columns, other.rows) : (other.rows, other.columns)
        precondition(k == inner, "matrix product: \(m) x \(k) by \(inner) x \(n)")
        var result = [Double](repeating: 0, count: m * n)
        openblas_set_num_threads(1)
        if !result.isEmpty && k > 0 {
            cblas_dgemm(
                CblasRowMajor, transposeSelf ? CblasTrans : CblasNoTrans, transposeOther ? CblasTrans : CblasNoTrans,
                blasint(m), blasint(n), blasint(k), 1, elements, blasint(columns), other.elements,
                blasint(other.columns), 0, &result, blasint(n))
        }
        return DoubleMatrix(rows: m, columns: n, elements: result)
    }

    /// Eigenvalues, ascending, and eigenvectors, one a row, of a symmetric matrix; the lower triangle is read.
    ///
    /// - Precondition: square, all elements finite.
    /// - Source: LAPACK `dsyevd` in OpenBLAS.
    public func symmetricEigen() -> (values: [Double], vectors: DoubleMatrix) { symmetricEigen(vectors: true) }

    /// The same without eigenvectors, in less than half the time.
    public func symmetricEigenvalues() -> [Double] { symmetricEigen(vectors: false).values }

    private func symmetricEigen(vectors wanted: Bool) -> (values: [Double], vectors: DoubleMatrix) {
        precondition(rows == columns && elements.allSatisfy(\.isFinite), "eigenvalues of \(rows) x \(columns)")
        guard rows > 0 else { return ([], self) }
        openblas_set_num_threads(1)
        var vectors = elements
        var values = [Double](repeating: 0, count: rows)
        var work = [Double](repeating: 0, count: 1 + 6 * rows + 2 * rows * rows)
        var integers = [blasint](repeating: 0, count: 3 + 5 * rows)
        // Column-major storage turns the lower triangle into the upper one and its eigenvector columns into our rows.
        let information = symmetric_eigen(
            CChar(UInt8(ascii: wanted ? "V" : "N")), blasint(rows), &vectors, &values, &work, blasint(work.count),
            &integers, blasint(integers.count))
        precondition(information == 0, "eigenvalues: dsyevd gave up with \(information)")
        return (values, DoubleMatrix(rows: rows, columns: rows, elements: vectors))
    }
}
