import CKernels

extension OneDNNEngine {
    public func layerNorm(_ x: Tensor, weight: Tensor?, bias: Tensor?, epsilon: Float) -> Tensor {
        let result = make(like: x)
        withFloats(weight) { weight in
            withFloats(bias) { bias in
                kernel_layer_norm(
                    x.dtype.kernel, HostTensors.pointer(x), weight, bias, epsilon, x.shape[0], x.shape[1],
                    result.pointer)
            }
        }
        return result.tensor
    }

    public func layerNormBackward(
        _ upstream: Tensor, input: Tensor, weight: Tensor?, epsilon: Float
    ) -> (input: Tensor, weight: Tensor?, bias: Tensor?) {
        let (M, D) = (input.shape[0], input.shape[1])
        let dx = make(like: input)
        let dWeight = weight.map { _ in make([D], .float32) }
        let dBias = weight.map { _ in make([D], .float32) }
        withElements(upstream, input.dtype) { upstream in
            withFloats(weight) { weight in
                kernel_layer_norm_backward(
                    input.dtype.kernel, upstream, HostTensors.pointer(input), weight, epsilon, M, D, dx.pointer,
                    dWeight?.floats,
                    dBias?.floats)
            }
        }
        return (dx.tensor, dWeight?.tensor, dBias?.tensor)
    }

    /// 1 + scale row of one sample, the weight its layer norm has.
    private func gain(_ modulation: UnsafePointer<Float>, _ D: Int, into gain: UnsafeMutablePointer<Float>) {
        kernel_affine(kernel_float32, modulation, 1, 1, D, gain)
    }

    public func modulatedLayerNorm(_ x: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float) -> Tensor {
        let (B, S, D, n) = (x.shape[0], x.shape[1], x.shape[2], modulation.shape[1])
        let result = make(like: x)
        let step = S * D * x.dtype.byteCount
        withFloats(modulation) { modulation in
            guard let modulation else { return }
            withScratch(D) { weight in
                for sample in 0..<B {
                    gain(modulation + (sample * n + scale) * D, D, into: weight)
                    kernel_layer_norm(
                        x.dtype.kernel, HostTensors.pointer(x) + sample * step, weight,
                        modulation + (sample * n + shift) * D,
                        epsilon, S, D, result.pointer + sample * step)
                }
            }
        }
        return result.tensor
    }

    public func modulatedLayerNormBackward(
        _ upstream: Tensor, input: Tensor, modulation: Tensor, shift: Int, scale: Int, epsilon: Float
    ) -> (input: Tensor, modulation: Tensor) {
        let (B, S, D, n) = (input.shape[0], input.shape[1], input.shape[2], modulation.shape[1])
        let dx = make(like: input)
        let dModulation = makeZeros(modulation.shape)
        let step = S * D * input.dtype.byteCount
        withElements(upstream, input.dtype) { upstream in
            withFloats(modulation) { modulation in
                guard let modulation else { return }
                withScratch(D) { weight in
                    for sample in 0..<B {
                        gain(modulation + (sample * n + scale) * D, D, into: weight)
                        kernel_layer_norm_backward(
                            input.dtype.kernel, upstream + sample * step, HostTensors.pointer(input) + sample * step,
                            weight,
                            epsilon, S, D, dx.pointer + sample * step, dModulation.floats + (sample * n + scale) * D,
                            dModulation.floats + (sample * n + shift) * D)
                    }
                }
            }
        }
        return (dx.tensor, convert(dModulation.tensor, to: modulation.dtype))
    }

    public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) -> Tensor {
        let result = make(like: x)
        withFloats(weight) {
            kernel_rms_norm(x.dtype.kernel, HostTensors.pointer(x), $0, epsilon, x.shape[0], x.shape[1], result.pointer)
        }
        return result.tensor
    }

    public func rmsNormBackward(
        _ upstream: Tensor, input: Tensor, weight: Tensor, epsilon: Float
    ) -> (input: Tensor, weight: Tensor) {
        let (M, D) = (input.shape[0], input.shape[1])
        let (dx, dWeight) = (make(like: input), make([D], .float32))
        withElements(upstream, input.dtype) { upstream in
            withFloats(weight) { weight in
                kernel_rms_norm_backward(
                    input.dtype.kernel, upstream, HostTensors.pointer(input), weight, epsilon, M, D, dx.pointer,
                    dWeight.floats)
            }
        }
        return (dx.tensor, dWeight.tensor)
    }

    public func groupNorm(
        _ x: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> Tensor {
        let (B, C) = (x.shape[0], x.size(-1))
        let P = x.count / max(B * C, 1)
        let step = P * C * x.dtype.byteCount
        let result = make(like: x)
        withFloats(weight) { weight in
            withFloats(bias) { bias in
                withScratch(3 * C) { scratch in
                    for sample in 0..<B {
                        kernel_group_norm(
                            x.dtype.kernel, HostTensors.pointer(x) + sample * step, P, C, groupCount, weight, bias,
                            epsilon,
                            silu ? 1 : 0, scratch, result.pointer + sample * step)
                    }
                }
            }
        }
        return result.tensor
    }

    public func groupNormBackward(
        _ upstream: Tensor, input: Tensor, groupCount: Int, weight: Tensor, bias: Tensor, epsilon: Float, silu: Bool
    ) -> (input: Tensor, weight: Tensor, bias: Tensor) {
        let (B, C) = (input.shape[0], input.size(-1))
        let P = input.count / max(B * C, 1)
        let step = P * C * input.dtype.byteCount
        let (dx, dWeight, dBias) = (make(like: input), makeZeros([C]), makeZeros([C]))
        withElements(upstream, input.dtype) { upstream in
            withFloats(weight) { weight in
                withFloats(bias) { bias in
                    withScratch(6 * C) { scratch in
                        for sample in 0..<B {
                            kernel_group_norm_backward(
                                input.dtype.kernel, upstream + sample * step,
                                HostTensors.pointer(input) + sample * step, P, C,
                                groupCount, weight, bias, epsilon, silu ? 1 : 0, scratch, dx.pointer + sample * step,
                                dWeight.floats, dBias.floats)
                        }
                    }
                }
            }
        }
        return (dx.tensor, dWeight.tensor, dBias.tensor)
    }

    public func softmax(_ x: Tensor) -> Tensor {
        let (result, N) = (make(like: x), x.size(-1))
        kernel_softmax(x.dtype.kernel, HostTensors.pointer(x), x.count / N, N, result.pointer)
        return result.tensor
    }

    public func softmaxBackward(_ upstream: Tensor, output: Tensor) -> Tensor {
        let (result, N) = (make(like: output), output.size(-1))
        withElements(upstream, output.dtype) {
            kernel_softmax_backward(
                output.dtype.kernel, $0, HostTensors.pointer(output), output.count / N, N, result.pointer)
        }
        return result.tensor
    }

    public func unitNorm(_ x: Tensor, epsilon: Float) -> Tensor {
        let (result, N) = (make(like: x), x.size(-1))
        kernel_unit_norm(x.dtype.kernel, HostTensors.pointer(x), epsilon, x.count / N, N, result.pointer)
        return result.tensor
    }

    public func unitNormBackward(_ upstream: Tensor, input: Tensor, epsilon: Float) -> Tensor {
        let (result, N) = (make(like: input), input.size(-1))
        withElements(upstream, input.dtype) {
            kernel_unit_norm_backward(
                input.dtype.kernel, $0, HostTensors.pointer(input), epsilon, input.count / N, N, result.pointer)
        }
        return result.tensor
    }
}
