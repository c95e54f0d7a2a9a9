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
    /// Not differentiable: the backbone under a discriminator is frozen.
    public func tokenStatistics() -> Tensor {
        precondition(rank == 3 && !isTracked, "tokenStatistics: \(shape), tracked: \(isTracked)")
        return engine.tokenStatistics(self)
    }
}
