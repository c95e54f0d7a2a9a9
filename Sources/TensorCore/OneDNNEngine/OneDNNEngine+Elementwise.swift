import CKernels

extension Activation {
    var kernel: kernel_activation {
        switch self {
        case .silu: kernel_silu
        case .geluTanh: kernel_gelu_tanh
        case .geluErf: kernel_gelu_erf
        case .quickGelu: kernel_quick_gelu
        case .relu: kernel_relu
        case .tanh: kernel_tanh
        case .sigmoid: kernel_sigmoid
        case .exp: kernel_exp
        case .sqrt: kernel_sqrt
        case .softplus: kernel_softplus
        case .square: kernel_square
        }
    }
}

extension OneDNNEngine {
    private typealias Source = UnsafeMutableRawPointer

    /// A result of a's shape and dtype from a alone.
    private func unary(_ a: Tensor, _ kernel: (kernel_type, Source, Int, Source) -> Void) -> Tensor {
        let result = make(like: a)
        kernel(a.dtype.kernel, HostTensors.pointer(a), a.count, result.pointer)
        return result.tensor
    }

    /// A result of a's shape and dtype from two tensors of that shape; where their dtypes differ, computed in fp32.
    private func binary(
        _ a: Tensor, _ b: Tensor, _ kernel: (kernel_type, Source, Source, Int, Source) -> Void
    ) -> Tensor {
        let dtype: DType = a.dtype == b.dtype ? a.dtype : .float32
        let result = make(a.shape, dtype)
        withElements(a, dtype) { first in
            withElements(b, dtype) { second in kernel(dtype.kernel, first, second, a.count, result.pointer) }
        }
        return convert(result.tensor, to: a.dtype)
    }

    public func activate(_ x: Tensor, _ activation: Activation) -> Tensor {
        unary(x) { kernel_activate($0, $1, $2, activation.kernel, $3) }
    }

    public func activateBackward(_ upstream: Tensor, input: Tensor, _ activation: Activation) -> Tensor {
        binary(upstream, input) { kernel_activate_backward($0, $1, $2, $3, activation.kernel, $4) }
    }

    public func add(_ a: Tensor, _ b: Tensor, scale: Float) -> Tensor {
        binary(a, b) { kernel_add($0, $1, $2, scale, $3, $4) }
    }

    public func multiply(_ a: Tensor, _ b: Tensor) -> Tensor {
        binary(a, b) { kernel_multiply($0, $1, $2, $3, $4) }
    }

    public func affine(_ a: Tensor, scale: Float, offset: Float) -> Tensor {
        unary(a) { kernel_affine($0, $1, scale, offset, $2, $3) }
    }

    public func minimum(_ a: Tensor, _ b: Tensor) -> Tensor {
        binary(a, b) { kernel_minimum($0, $1, $2, $3, $4) }
    }

    public func minimumBackward(_ upstream: Tensor, _ a: Tensor, _ b: Tensor, first: Bool) -> Tensor {
        precondition(a.dtype == b.dtype, "minimum: \(a.dtype) and \(b.dtype)")
        let result = make(like: a)
        withElements(upstream, a.dtype) { upstream in
            kernel_minimum_backward(
                a.dtype.kernel, upstream, HostTensors.pointer(a), HostTensors.pointer(b), first ? 1 : 0, a.count,
                result.pointer)
        }
        return convert(result.tensor, to: upstream.dtype)
    }

    public func clamp(_ x: Tensor, low: Float, high: Float) -> Tensor {
        unary(x) { kernel_clamp($0, $1, low, high, $2, $3) }
    }

    public func clampBackward(_ upstream: Tensor, input: Tensor, low: Float, high: Float) -> Tensor {
        binary(upstream, input) { kernel_clamp_backward($0, $1, $2, low, high, $3, $4) }
    }

    // MARK: Broadcasts

    public func multiplyBroadcast(_ a: Tensor, _ b: Tensor, onRows: Bool) -> Tensor {
        let result = make(like: a)
        guard a.count > 0 else { return result.tensor }
        withFloats(b) { factors in
            if onRows {
                kernel_multiply_rows(
                    a.dtype.kernel, HostTensors.pointer(a), factors, b.count, a.count / b.count, result.pointer)
            } else {
                kernel_multiply_columns(
                    a.dtype.kernel, HostTensors.pointer(a), factors, a.count / b.count, b.count, result.pointer)
            }
        }
        return result.tensor
    }

    public func addBroadcast(_ a: Tensor, _ b: Tensor) -> Tensor {
        let result = make(like: a)
        guard a.count > 0 else { return result.tensor }
        withFloats(b) { terms in
            kernel_add_columns(
                a.dtype.kernel, HostTensors.pointer(a), terms, a.count / b.count, b.count, result.pointer)
        }
        return result.tensor
    }

    public func gatedAdd(_ base: Tensor, _ y: Tensor, modulation: Tensor, gate: Int) -> Tensor {
        let (B, S, D, n) = (base.shape[0], base.shape[1], base.shape[2], modulation.shape[1])
        let result = make(like: base)
        let step = S * D * base.dtype.byteCount
        withFloats(modulation) { modulation in
            guard let modulation else { return }
            withElements(y, base.dtype) { y in
                for sample in 0..<B {
                    kernel_gated_add(
                        base.dtype.kernel, HostTensors.pointer(base) + sample * step, y + sample * step,
                        modulation + (sample * n + gate) * D, S, D, result.pointer + sample * step)
                }
            }
        }
        return result.tensor
    }

    public func gatedAddBackward(_ upstream: Tensor, y: Tensor, modulation: Tensor, gate: Int) -> (
        y: Tensor, modulation: Tensor
    ) {
        let (B, S, D, n) = (y.shape[0], y.shape[1], y.shape[2], modulation.shape[1])
        let dy = make(like: y)
        let dModulation = makeZeros(modulation.shape)
        let step = S * D * y.dtype.byteCount
        withFloats(modulation) { modulation in
            guard let modulation else { return }
            withElements(upstream, y.dtype) { upstream in
                for sample in 0..<B {
                    let row = (sample * n + gate) * D
                    kernel_gated_add_backward(
                        y.dtype.kernel, upstream + sample * step, HostTensors.pointer(y) + sample * step,
                        modulation + row, S, D,
                        dy.pointer + sample * step, dModulation.floats + row)
                }
            }
        }
        return (dy.tensor, convert(dModulation.tensor, to: modulation.dtype))
    }

    // MARK: Optimiser

    public func sumOfSquares(_ x: Tensor) -> Double {
        var sum = 0.0
        kernel_sum_of_squares(x.dtype.kernel, HostTensors.pointer(x), x.count, &sum)
        return sum
    }

    public func adam(
        parameter: Tensor, gradient: Tensor, moment1: Tensor, moment2: Tensor, _ step: AdamStep
    ) -> (parameter: Tensor, moment1: Tensor, moment2: Tensor) {
        let shape = parameter.shape
        let (p, m, v) = (make(shape, .float32), make(shape, .float32), make(shape, .float32))
        let sizes = kernel_adam_step(
            step_size: Float(step.learningRate / step.correction(step.beta1)), kept1: Float(step.beta1),
            added1: Float(1 - step.beta1), kept2: Float(step.beta2), added2: Float(1 - step.beta2),
            root_scale: Float(1 / step.correction(step.beta2).squareRoot()), epsilon: Float(step.epsilon),
            decay: Float(1 - step.learningRate * step.weightDecay))
        withFloats(parameter) { parameter in
            withFloats(gradient) { gradient in
                withFloats(moment1) { moment1 in
                    withFloats(moment2) { moment2 in
                        kernel_adam(
                            kernel_float32, parameter, gradient, moment1, moment2, sizes, p.tensor.count, p.floats,
                            m.floats,
                            v.floats)
                    }
                }
            }
        }
        return (p.tensor, m.tensor, v.tensor)
    }
}
