extension Tensor {
    /// Mean of all elements, an fp32 scalar.
    public func mean() -> Tensor { meanPerBlock(1).reshaped([]) }

    /// Sum of all elements, an fp32 scalar.
    public func sum() -> Tensor { mean() * Float(count) }

    /// Mean over all axes but the first: [B, ...] -> fp32 [B]. The M[·] of method.md.
    public func meanPerSample() -> Tensor { meanPerBlock(shape[0]) }

    /// Mean over the last axis: [..., N] -> fp32 [...].
    public func meanOverLastAxis() -> Tensor {
        meanPerBlock(count / size(-1)).reshaped(Array(shape.dropLast()))
    }

    private func meanPerBlock(_ rows: Int) -> Tensor {
        let (shape, dtype) = (shape, dtype)
        let perRow = Float(count / rows)
        return engine.meanBlocks(self, rows: rows).recording([self]) { upstream in
            let scaled = upstream.engine.affine(upstream, scale: 1 / perRow, offset: 0)
            return [upstream.engine.spread(scaled, to: shape, dtype: dtype)]
        }
    }

    /// Mean of the `count` largest values of the last axis: [M, N] -> fp32 [M].
    public func topMean(_ count: Int) -> Tensor {
        precondition(rank == 2 && count >= 1 && count <= shape[1], "topMean: \(count) of \(shape)")
        return engine.topMean(self, count: count).recording([self]) {
            [$0.engine.topMeanBackward($0, input: self, count: count)]
        }
    }

    /// Mean, population standard deviation, maximum and minimum of each feature over the tokens: [B, N, D] -> fp32 [B, 4·D].
    ///
    /// The gradient of a maximum or minimum is shared by the tokens that have it, that of a deviation of 0 is 0; it is computed on
    /// the host.
    public func tokenStatistics() -> Tensor {
        precondition(rank == 3, "tokenStatistics: \(shape)")
        let statistics = engine.tokenStatistics(self)
        return statistics.recording([self]) { [self.tokenStatisticsGradient($0, statistics: statistics)] }
    }

    private func tokenStatisticsGradient(_ upstream: Tensor, statistics: Tensor) -> Tensor {
        guard engine.computes else { return engine.zeros(shape, dtype: dtype) }
        let (B, N, D) = (shape[0], shape[1], shape[2])
        let (x, found, given) = (values, statistics.values, upstream.values)
        var gradient = [Float](repeating: 0, count: x.count)
        for sample in 0..<B {
            for feature in 0..<D {
                let own = (0..<4).map { (sample * 4 + $0) * D + feature }
                let (mean, deviation, highest, lowest) = (found[own[0]], found[own[1]], found[own[2]], found[own[3]])
                let column = (0..<N).map { (sample * N + $0) * D + feature }
                let top = given[own[2]] / Float(max(1, column.count { x[$0] == highest }))
                let bottom = given[own[3]] / Float(max(1, column.count { x[$0] == lowest }))
                let slope = deviation > 0 ? given[own[1]] / (Float(N) * deviation) : 0
                for index in column {
                    gradient[index] = given[own[0]] / Float(N) + slope * (x[index] - mean)
                    if x[index] == highest { gradient[index] += top }
                    if x[index] == lowest { gradient[index] += bottom }
                }
            }
        }
        return engine.tensor(gradient, shape: shape, dtype: dtype)
    }
}
