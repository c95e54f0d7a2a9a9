import COpenBLAS

/// op(a) op(b) by OpenBLAS. a is [m, k] (or [k, m] transposed), b [k, n] (or [n, k] transposed).
func sgemm(
    _ a: [Float], _ b: [Float], m: Int, n: Int, k: Int, transposeA: Bool = false, transposeB: Bool = false,
    scale: Float = 1
) -> [Float] {
    var c = [Float](repeating: 0, count: m * n)
    guard m > 0, n > 0, k > 0 else { return c }
    cblas_sgemm(
        CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans, blasint(m),
        blasint(n),
        blasint(k), scale, a, blasint(transposeA ? m : k), b, blasint(transposeB ? k : n), 0, &c, blasint(n))
    return c
}

extension OpenBLASEngine {
    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, activation: Activation?) -> Tensor {
        let (M, K, N) = (x.shape[0], x.shape[1], weight.shape[0])
        var y = sgemm(x.values, weight.values, m: M, n: N, k: K, transposeB: true)
        if let bias = bias?.values {
            for row in 0..<M { for column in 0..<N { y[row * N + column] += bias[column] } }
        }
        if let activation { y = y.map(activation.value) }
        return result(y, [M, N], like: x)
    }

    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, addedTo base: Tensor) -> Tensor {
        add(base, linear(x, weight: weight, bias: bias, activation: nil), scale: 1)
    }

    public func matmul(_ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, dtype: DType) -> Tensor {
        let (m, k) = transposeA ? (a.shape[1], a.shape[0]) : (a.shape[0], a.shape[1])
        let (inner, n) = transposeB ? (b.shape[1], b.shape[0]) : (b.shape[0], b.shape[1])
        precondition(k == inner, "matmul: \(a.shape) x \(b.shape), transposed \(transposeA), \(transposeB)")
        let c = sgemm(a.values, b.values, m: m, n: n, k: k, transposeA: transposeA, transposeB: transposeB)
        return tensor(c, shape: [m, n], dtype: dtype)
    }

    public func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, headCount: Int, scale: Float, mask: AttentionMask, bias: Tensor?
    ) -> (output: Tensor, logSum: Tensor) {
        let (B, Sq, Sk, D) = (q.shape[0], q.shape[1], k.shape[1], q.shape[2])
        let (keys, values, queries, biases) = (k.values, v.values, q.values, bias?.values)
        let d = D / headCount
        var output = [Float](repeating: 0, count: B * Sq * D)
        var logSums = [Float](repeating: 0, count: B * headCount * Sq)
        for sample in 0..<B {
            for head in 0..<headCount {
                let query = headRows(queries, sample, head, Sq, D, d)
                let key = headRows(keys, sample, head, Sk, D, d)
                let value = headRows(values, sample, head, Sk, D, d)
                let bias = biases.map { Array($0[head * Sq * Sk..<(head + 1) * Sq * Sk]) }
                let (p, logSum) = probabilities(query, key, Sq: Sq, Sk: Sk, d: d, scale: scale, mask: mask, bias: bias)
                let mixed = sgemm(p, value, m: Sq, n: d, k: Sk)
                store(mixed, into: &output, sample, head, Sq, D, d)
                for row in 0..<Sq { logSums[(sample * headCount + head) * Sq + row] = logSum[row] }
            }
        }
        return (result(output, q.shape, like: q), result(logSums, [B, headCount, Sq]))
    }

    public func attentionBackward(
        _ upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, logSum: Tensor, headCount: Int,
        scale: Float,
        mask: AttentionMask, bias: Tensor?
    ) -> (q: Tensor, k: Tensor, v: Tensor) {
        let (B, Sq, Sk, D) = (q.shape[0], q.shape[1], k.shape[1], q.shape[2])
        let (keys, values, queries, biases, up) = (k.values, v.values, q.values, bias?.values, upstream.values)
        let d = D / headCount
        var dq = [Float](repeating: 0, count: q.count)
        var dk = [Float](repeating: 0, count: k.count)
        var dv = [Float](repeating: 0, count: v.count)
        for sample in 0..<B {
            for head in 0..<headCount {
                let query = headRows(queries, sample, head, Sq, D, d)
                let key = headRows(keys, sample, head, Sk, D, d)
                let value = headRows(values, sample, head, Sk, D, d)
                let bias = biases.map { Array($0[head * Sq * Sk..<(head + 1) * Sq * Sk]) }
                let (p, _) = probabilities(query, key, Sq: Sq, Sk: Sk, d: d, scale: scale, mask: mask, bias: bias)
                let dOut = headRows(up, sample, head, Sq, D, d)
                store(sgemm(p, dOut, m: Sk, n: d, k: Sq, transposeA: true), into: &dv, sample, head, Sk, D, d)
                var dScores = sgemm(dOut, value, m: Sq, n: Sk, k: d, transposeB: true)
                for row in 0..<Sq {
                    var inner: Float = 0
                    for column in 0..<Sk { inner += dScores[row * Sk + column] * p[row * Sk + column] }
                    for column in 0..<Sk {
                        let index = row * Sk + column
                        dScores[index] = (dScores[index] - inner) * p[index]
                    }
                }
                store(sgemm(dScores, key, m: Sq, n: d, k: Sk, scale: scale), into: &dq, sample, head, Sq, D, d)
                store(
                    sgemm(dScores, query, m: Sk, n: d, k: Sq, transposeA: true, scale: scale), into: &dk, sample, head,
                    Sk, D, d)
            }
        }
        return (result(dq, q.shape, like: q), result(dk, k.shape, like: k), result(dv, v.shape, like: v))
    }

    /// softmax(scale q kᵀ + bias) [Sq, Sk] and the log of each row's sum.
    private func probabilities(
        _ query: [Float], _ key: [Float], Sq: Int, Sk: Int, d: Int, scale: Float, mask: AttentionMask, bias: [Float]?
    ) -> ([Float], [Float]) {
        var scores = sgemm(query, key, m: Sq, n: Sk, k: d, transposeB: true, scale: scale)
        if let bias { for index in scores.indices { scores[index] += bias[index] } }
        var logSums = [Float](repeating: 0, count: Sq)
        for row in 0..<Sq {
            let visible = mask == .causal ? row + 1 : Sk
            let range = row * Sk..<row * Sk + visible
            let top = scores[range].max() ?? 0
            var sum: Float = 0
            for index in range {
                scores[index] = exp32(scores[index] - top)
                sum += scores[index]
            }
            for index in range { scores[index] /= sum }
            for index in range.upperBound..<(row + 1) * Sk { scores[index] = 0 }
            logSums[row] = top + log32(sum)
        }
        return (scores, logSums)
    }

    private func headRows(_ x: [Float], _ sample: Int, _ head: Int, _ S: Int, _ D: Int, _ d: Int) -> [Float] {
        var rows: [Float] = []
        rows.reserveCapacity(S * d)
        for token in 0..<S {
            let start = (sample * S + token) * D + head * d
            rows.append(contentsOf: x[start..<start + d])
        }
        return rows
    }

    private func store(_ rows: [Float], into x: inout [Float], _ sample: Int, _ head: Int, _ S: Int, _ D: Int, _ d: Int)
    {
        for token in 0..<S {
            let start = (sample * S + token) * D + head * d
            for column in 0..<d { x[start + column] = rows[token * d + column] }
        }
    }
}
