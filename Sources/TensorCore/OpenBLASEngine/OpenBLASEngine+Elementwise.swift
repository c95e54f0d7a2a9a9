import LibC

func exp32(_ x: Float) -> Float { expf(x) }
func log32(_ x: Float) -> Float { logf(x) }

extension Activation {
    /// f(x).
    func value(_ x: Float) -> Float {
        switch self {
        case .silu: x / (1 + expf(-x))
        case .geluTanh: 0.5 * x * (1 + tanhf(0.797_884_56 * (x + 0.044_715 * x * x * x)))
        case .geluErf: 0.5 * x * (1 + erff(x * 0.707_106_77))
        case .quickGelu: x / (1 + expf(-1.702 * x))
        case .relu: max(x, 0)
        case .tanh: tanhf(x)
        case .sigmoid: 1 / (1 + expf(-x))
        case .exp: expf(x)
        case .sqrt: x.squareRoot()
        case .softplus: max(x, 0) + log1pf(expf(-abs(x)))
        case .square: x * x
        }
    }

    /// f'(x).
    func slope(_ x: Float) -> Float {
        switch self {
        case .silu:
            let s = 1 / (1 + expf(-x))
            return s * (1 + x * (1 - s))
        case .geluTanh:
            let t = tanhf(0.797_884_56 * (x + 0.044_715 * x * x * x))
            return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.797_884_56 * (1 + 3 * 0.044_715 * x * x)
        case .geluErf: return 0.5 * (1 + erff(x * 0.707_106_77)) + x * 0.398_942_28 * expf(-0.5 * x * x)
        case .quickGelu:
            let s = 1 / (1 + expf(-1.702 * x))
            return s * (1 + 1.702 * x * (1 - s))
        case .relu: return x > 0 ? 1 : 0
        case .tanh:
            let t = tanhf(x)
            return 1 - t * t
        case .sigmoid:
            let s = 1 / (1 + expf(-x))
            return s * (1 - s)
        case .exp: return expf(x)
        case .sqrt: return 0.5 / x.squareRoot()
        case .softplus: return 1 / (1 + expf(-x))
        case .square: return 2 * x
        }
    }
}

extension OpenBLASEngine {
    private func zip2(_ a: Tensor, _ b: Tensor, _ f: (Float, Float) -> Float) -> Tensor {
        let (x, y) = (a.values, b.values)
        return result(x.indices.map { f(x[$0], y[$0]) }, a.shape, like: a)
    }

    public func activate(_ x: Tensor, _ activation: Activation) -> Tensor {
        result(x.values.map(activation.value), x.shape, like: x)
    }

    public func activateBackward(_ upstream: Tensor, input: Tensor, _ activation: Activation) -> Tensor {
        zip2(upstream, input) { $0 * activation.slope($1) }
    }

    public func add(_ a: Tensor, _ b: Tensor, scale: Float) -> Tensor { zip2(a, b) { $0 + scale * $1 } }

    public func multiply(_ a: Tensor, _ b: Tensor) -> Tensor { zip2(a, b) { $0 * $1 } }

    public func affine(_ a: Tensor, scale: Float, offset: Float) -> Tensor {
        result(a.values.map { scale * $0 + offset }, a.shape, like: a)
    }

    public func multiplyBroadcast(_ a: Tensor, _ b: Tensor, onRows: Bool) -> Tensor {
        let (x, y) = (a.values, b.values)
        let block = onRows ? x.count / max(y.count, 1) : 0
        return result(x.indices.map { x[$0] * (onRows ? y[$0 / block] : y[$0 % y.count]) }, a.shape, like: a)
    }

    public func addBroadcast(_ a: Tensor, _ b: Tensor) -> Tensor {
        let (x, y) = (a.values, b.values)
        return result(x.indices.map { x[$0] + y[$0 % y.count] }, a.shape, like: a)
    }

    public func gatedAdd(_ base: Tensor, _ y: Tensor, modulation: Tensor, gate: Int) -> Tensor {
        let (B, S, D, n) = (base.shape[0], base.shape[1], base.shape[2], modulation.shape[1])
        var out = base.values
        let (branch, rows) = (y.values, modulation.values)
        for sample in 0..<B {
            for token in 0..<S {
                for feature in 0..<D {
                    let index = (sample * S + token) * D + feature
                    out[index] += rows[(sample * n + gate) * D + feature] * branch[index]
                }
            }
        }
        return result(out, base.shape, like: base)
    }

    public func gatedAddBackward(
        _ upstream: Tensor, y: Tensor, modulation: Tensor, gate: Int
    ) -> (y: Tensor, modulation: Tensor) {
        let (B, S, D, n) = (y.shape[0], y.shape[1], y.shape[2], modulation.shape[1])
        let (up, branch, rows) = (upstream.values, y.values, modulation.values)
        var dy = up
        var dModulation = [Float](repeating: 0, count: rows.count)
        for sample in 0..<B {
            for token in 0..<S {
                for feature in 0..<D {
                    let index = (sample * S + token) * D + feature
                    let row = (sample * n + gate) * D + feature
                    dy[index] = up[index] * rows[row]
                    dModulation[row] += up[index] * branch[index]
                }
            }
        }
        return (result(dy, y.shape, like: y), result(dModulation, modulation.shape, like: modulation))
    }

    public func minimum(_ a: Tensor, _ b: Tensor) -> Tensor { zip2(a, b) { min($0, $1) } }

    public func minimumBackward(_ upstream: Tensor, _ a: Tensor, _ b: Tensor, first: Bool) -> Tensor {
        let (up, x, y) = (upstream.values, a.values, b.values)
        return result(up.indices.map { (x[$0] <= y[$0]) == first ? up[$0] : 0 }, upstream.shape, like: upstream)
    }

    public func clamp(_ x: Tensor, low: Float, high: Float) -> Tensor {
        result(x.values.map { min(max($0, low), high) }, x.shape, like: x)
    }

    public func clampBackward(_ upstream: Tensor, input: Tensor, low: Float, high: Float) -> Tensor {
        zip2(upstream, input) { $1 >= low && $1 <= high ? $0 : 0 }
    }

    public func sumOfSquares(_ x: Tensor) -> Double { x.values.reduce(0.0) { $0 + Double($1) * Double($1) } }

    public func adam(
        parameter: Tensor, gradient: Tensor, moment1: Tensor, moment2: Tensor, _ step: AdamStep
    ) -> (parameter: Tensor, moment1: Tensor, moment2: Tensor) {
        var (p, m, v) = (parameter.values, moment1.values, moment2.values)
        let g = gradient.values
        let size = Float(step.learningRate / step.correction(step.beta1))
        let root = Float(step.correction(step.beta2).squareRoot())
        let (decay, epsilon) = (Float(1 - step.learningRate * step.weightDecay), Float(step.epsilon))
        let (added1, kept2, added2) = (Float(1 - step.beta1), Float(step.beta2), Float(1 - step.beta2))
        for index in p.indices {
            p[index] *= decay
            m[index] += (g[index] - m[index]) * added1
            v[index] = v[index] * kept2 + g[index] * g[index] * added2
            p[index] -= size * m[index] / (v[index].squareRoot() / root + epsilon)
        }
        return (
            result(p, parameter.shape, like: parameter), result(m, moment1.shape, like: moment1),
            result(v, moment2.shape, like: moment2)
        )
    }
}
