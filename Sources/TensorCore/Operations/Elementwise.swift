extension Tensor {
    /// f(x).
    public func activated(_ activation: Activation) -> Tensor {
        engine.activate(self, activation).recording([self]) {
            [$0.engine.activateBackward($0, input: self, activation)]
        }
    }

    /// a + b. The shapes are equal, or b's is a's without leading axes.
    public static func + (a: Tensor, b: Tensor) -> Tensor {
        if a.shape == b.shape {
            return a.engine.add(a, b, scale: 1).recording([a, b]) { [$0, $0] }
        }
        precondition(Array(a.shape.suffix(b.rank)) == b.shape, "+: \(a.shape) and \(b.shape)")
        let shape = b.shape
        return a.engine.addBroadcast(a, b).recording([a, b]) { upstream in
            [upstream, b.isTracked ? upstream.engine.sumRows(upstream, trailing: b.count).reshaped(shape) : nil]
        }
    }

    /// a - b, same shapes.
    public static func - (a: Tensor, b: Tensor) -> Tensor {
        precondition(a.shape == b.shape, "-: \(a.shape) and \(b.shape)")
        return a.engine.add(a, b, scale: -1).recording([a, b]) { [$0, $0 * -1] }
    }

    /// a · b. The shapes are equal, or b is a vector over the last axis.
    public static func * (a: Tensor, b: Tensor) -> Tensor {
        if a.shape == b.shape {
            return a.engine.multiply(a, b).recording([a, b]) { upstream in
                [
                    a.isTracked ? upstream.engine.multiply(upstream, b) : nil,
                    b.isTracked ? upstream.engine.multiply(upstream, a) : nil,
                ]
            }
        }
        precondition(b.rank == 1 && a.size(-1) == b.count, "*: \(a.shape) and \(b.shape)")
        return a.engine.multiplyBroadcast(a, b, onRows: false).recording([a, b]) { upstream in
            let engine = upstream.engine
            return [
                a.isTracked ? engine.multiplyBroadcast(upstream, b, onRows: false) : nil,
                b.isTracked ? engine.sumRows(engine.multiply(upstream, a), trailing: b.count) : nil,
            ]
        }
    }

    /// Each leading row of a (axis 0) times its own factor [rows].
    public func scaledRows(by factors: Tensor) -> Tensor {
        precondition(factors.shape == [shape[0]], "scaledRows: \(shape) by \(factors.shape)")
        return engine.multiplyBroadcast(self, factors, onRows: true).recording([self, factors]) { upstream in
            let engine = upstream.engine
            let perRow = Float(self.count / self.shape[0])
            return [
                self.isTracked ? engine.multiplyBroadcast(upstream, factors, onRows: true) : nil,
                factors.isTracked
                    ? engine.affine(
                        engine.meanBlocks(engine.multiply(upstream, self), rows: self.shape[0]), scale: perRow,
                        offset: 0) : nil,
            ]
        }
    }

    /// a · factor.
    public static func * (a: Tensor, factor: Float) -> Tensor {
        a.engine.affine(a, scale: factor, offset: 0).recording([a]) { [$0.engine.affine($0, scale: factor, offset: 0)] }
    }

    /// a + offset.
    public static func + (a: Tensor, offset: Float) -> Tensor {
        a.engine.affine(a, scale: 1, offset: offset).recording([a]) { [$0] }
    }

    /// -a.
    public static prefix func - (a: Tensor) -> Tensor { a * -1 }

    /// Each value kept inside the range; no gradient flows outside it.
    public func clamped(to range: ClosedRange<Float>) -> Tensor {
        let (low, high) = (range.lowerBound, range.upperBound)
        return engine.clamp(self, low: low, high: high).recording([self]) {
            [$0.engine.clampBackward($0, input: self, low: low, high: high)]
        }
    }

    /// base + gate · y, gate one row of a sample's modulation (adaLN-Zero).
    ///
    /// - Parameters: self and y [B, S, D], modulation [B, n, D], gate in [0, n).
    public func adding(_ y: Tensor, gatedBy modulation: Tensor, row gate: Int) -> Tensor {
        precondition(
            shape == y.shape && rank == 3 && modulation.rank == 3 && modulation.shape[0] == shape[0]
                && modulation.shape[2] == shape[2] && gate < modulation.shape[1],
            "gated add: \(shape), \(y.shape), \(modulation.shape), row \(gate)")
        return engine.gatedAdd(self, y, modulation: modulation, gate: gate).recording([self, y, modulation]) {
            upstream in
            guard y.isTracked || modulation.isTracked else { return [upstream, nil, nil] }
            let gradients = upstream.engine.gatedAddBackward(upstream, y: y, modulation: modulation, gate: gate)
            return [upstream, gradients.y, gradients.modulation]
        }
    }
}

/// Element-wise minimum; at a tie the gradient goes to `a`.
public func minimum(_ a: Tensor, _ b: Tensor) -> Tensor {
    precondition(a.shape == b.shape, "minimum: \(a.shape) and \(b.shape)")
    return a.engine.minimum(a, b).recording([a, b]) { upstream in
        [
            upstream.engine.minimumBackward(upstream, a, b, first: true),
            upstream.engine.minimumBackward(upstream, a, b, first: false),
        ]
    }
}
