import COneDNN

/// One compiled convolution pass: forward of one image at a time, so that the algorithm that the library takes, and with it an
/// image's bits, do not depend on the images beside it; backward of a whole batch.
struct ConvolutionKey: Hashable, Sendable {
    enum Pass: Hashable, Sendable { case forward, inputGradient, weightGradient }
    var pass: Pass
    /// [B, H, W, Cin], where B is 1 in the forward pass, and [Cout, Cin, kh, kw].
    var input: [Int], weight: [Int]
    var geometry: ConvolutionGeometry
    var operands: DType, result: DType
    var hasBias: Bool

    /// A pass over tensors of dtypes `a` and `b`; see `ProductKey` for what is computed in which precision.
    init(
        _ pass: Pass, _ a: DType, _ b: DType, input: [Int], weight: [Int], _ geometry: ConvolutionGeometry,
        result: DType, hasBias: Bool = false
    ) {
        let narrow = a == .bfloat16 && b == .bfloat16 && OneDNN.multipliesBFloat16
        (self.pass, self.input, self.weight, self.geometry) = (pass, input, weight, geometry)
        if pass == .forward { self.input[0] = 1 }
        operands = narrow ? .bfloat16 : .float32
        self.result = narrow ? result : .float32
        self.hasBias = hasBias
    }
}

extension OneDNNEngine {
    public func convolution(_ x: Tensor, weight: Tensor, bias: Tensor?, geometry: ConvolutionGeometry) -> Tensor {
        if geometry.isPointwise(weight) {
            // A product of pixels and weight, which the library computes faster as such.
            let pixels = x.detached.reshaped(-1, x.shape[3])
            let matrix = weight.detached.reshaped(weight.shape[0], weight.shape[1])
            let y = linear(pixels, weight: matrix, bias: bias, activation: nil)
            return y.reshaped(Array(x.shape.dropLast()) + [weight.shape[0]])
        }
        let key = ConvolutionKey(
            .forward, x.dtype, weight.dtype, input: x.shape, weight: weight.shape, geometry, result: x.dtype,
            hasBias: bias != nil)
        let primitive = convolutions.primitive(key) { key.compile() }
        let result = make([x.shape[0]] + key.output.dropFirst(), key.result)
        convolve(x, bias, key, primitive, packed(weight, key, primitive), into: result.pointer)
        return convert(result.tensor, to: x.dtype)
    }

    /// Image by image. A function of its own, so that the copies are free again before the result is converted.
    @inline(never)
    private func convolve(
        _ x: Tensor, _ bias: Tensor?, _ key: ConvolutionKey, _ primitive: Primitive, _ kernel: HostBuffer,
        into result: UnsafeMutableRawPointer
    ) {
        let image = (input: key.image(key.input, key.operands), output: key.image(key.output, key.result))
        let input = primitive.buffer(unless: image.input, is: DNNL_ARG_SRC)
        let output = primitive.buffer(unless: image.output, is: DNNL_ARG_DST)
        withElements(x, key.operands) { pixels in
            withFloats(bias) { bias in
                withExtendedLifetime((kernel, input, output)) {
                    for index in 0..<x.shape[0] {
                        let source = pixels + index * image.input.byteCount
                        let target = result + index * image.output.byteCount
                        primitive.convert(source, image.input, to: input, of: DNNL_ARG_SRC)
                        primitive(
                            (DNNL_ARG_SRC, input?.pointer ?? source), (DNNL_ARG_WEIGHTS, kernel.pointer),
                            (DNNL_ARG_BIAS, bias.map { UnsafeMutableRawPointer(mutating: $0) }),
                            (DNNL_ARG_DST, output?.pointer ?? target))
                        primitive.convert(output, of: DNNL_ARG_DST, to: target, image.output)
                    }
                }
            }
        }
    }

    public func convolutionInputGradient(
        _ upstream: Tensor, weight: Tensor, inputShape: [Int], geometry: ConvolutionGeometry
    ) -> Tensor {
        let key = ConvolutionKey(
            .inputGradient, upstream.dtype, weight.dtype, input: inputShape, weight: weight.shape, geometry,
            result: upstream.dtype)
        let primitive = convolutions.primitive(key) { key.compile() }
        let result = make(inputShape, key.result)
        let kernel = packed(weight, key, primitive)
        withElements(upstream, key.operands) { upstream in
            withExtendedLifetime(kernel) {
                primitive(
                    (DNNL_ARG_DIFF_DST, upstream), (DNNL_ARG_WEIGHTS, kernel.pointer),
                    (DNNL_ARG_DIFF_SRC, result.pointer))
            }
        }
        return convert(result.tensor, to: upstream.dtype)
    }

    public func convolutionWeightGradient(
        _ upstream: Tensor, input: Tensor, weightShape: [Int], geometry: ConvolutionGeometry
    ) -> Tensor {
        let key = ConvolutionKey(
            .weightGradient, upstream.dtype, input.dtype, input: input.shape, weight: weightShape, geometry,
            result: .float32)
        let primitive = convolutions.primitive(key) { key.compile() }
        guard let layout = primitive.layouts[DNNL_ARG_DIFF_WEIGHTS] else { preconditionFailure("no weight layout") }
        let result = make(weightShape, .float32)
        let blocked = HostBuffer(byteCount: layout.byteCount)
        withElements(upstream, key.operands) { upstream in
            withElements(input, key.operands) { input in
                primitive(
                    (DNNL_ARG_SRC, input), (DNNL_ARG_DIFF_DST, upstream), (DNNL_ARG_DIFF_WEIGHTS, blocked.pointer))
            }
        }
        Primitive.reorder(blocked.pointer, layout, result.pointer, TensorLayout(weightShape, tag: dnnl_oihw, .float32))
        return withExtendedLifetime(blocked) { result.tensor }
    }

    private func packed(_ weight: Tensor, _ key: ConvolutionKey, _ primitive: Primitive) -> HostBuffer {
        guard let buffer = weight.buffer as? HostBuffer, let wanted = primitive.layouts[DNNL_ARG_WEIGHTS] else {
            preconditionFailure("a weight of engine \(weight.engine.name) is not in host memory")
        }
        let derived = DerivedKey(maker: primitive.memory.weightsLayout, offset: weight.offset, shape: key.weight)
        return buffer.derivedBuffer(derived) {
            let copy = HostBuffer(byteCount: wanted.byteCount)
            // Converted first: the library rearranges for Winograd's algorithm what is fp32 already.
            withElements(weight, key.operands) { elements in
                Primitive.reorder(
                    elements, TensorLayout(key.weight, tag: dnnl_oihw, key.operands), copy.pointer, wanted)
            }
            buffer.releasePages()
            return copy
        }
    }
}

extension ConvolutionGeometry {
    /// Whether each output pixel sees the input pixel at its own place only.
    func isPointwise(_ weight: Tensor) -> Bool {
        weight.shape[2] == 1 && weight.shape[3] == 1 && self == ConvolutionGeometry(padding: 0)
    }
}

extension ConvolutionKey {
    /// [B, H', W', Cout].
    var output: [Int] {
        [
            input[0], geometry.outputSize(input[1], kernel: weight[2], before: geometry.top, after: geometry.bottom),
            geometry.outputSize(input[2], kernel: weight[3], before: geometry.left, after: geometry.right), weight[0],
        ]
    }

    /// Our images: the library names axes (batch, channel, row, column), and channels come last in memory.
    func image(_ shape: [Int], _ dtype: DType) -> TensorLayout {
        TensorLayout([shape[0], shape[3], shape[1], shape[2]], tag: dnnl_nhwc, dtype)
    }

    /// What the primitive reads and writes: our images, or a layout of the library's choice for Winograd's algorithm, which knows
    /// no other, and in the forward pass without AVX-512, whose kernels then outrun those for channels last by more than the copies cost.
    private func operand(_ shape: [Int], _ dtype: DType, _ algorithm: dnnl_alg_kind_t) -> TensorLayout {
        if algorithm != dnnl_convolution_winograd, OneDNN.rowsAreIndependent || pass != .forward {
            return image(shape, dtype)
        }
        return TensorLayout([shape[0], shape[3], shape[1], shape[2]], tag: dnnl_format_tag_any, dtype)
    }

    fileprivate func compile() -> Primitive {
        guard let primitive = withOrder(algorithm, { Primitive($0) }) else {
            preconditionFailure("oneDNN has no convolution \(self)")
        }
        return primitive
    }

    /// What the convolution needs, without compiling it.
    var memory: PrimitiveMemory? { withOrder(algorithm, \.memory) }

    /// Winograd's F(4 x 4, 3 x 3), which takes a quarter of the multiplications, where the library has it (fp32 with AVX-512) and its scratch
    /// memory, which grows with the image, is no burden. Its error is 2e-6 of the output's scale, ten times that of the direct sum.
    private var algorithm: dnnl_alg_kind_t {
        guard pass == .forward, let known = withOrder(dnnl_convolution_winograd, \.memory),
            known.scratchByteCount <= 256 << 20
        else { return dnnl_convolution_direct }
        return dnnl_convolution_winograd
    }

    private func withOrder<Result>(_ algorithm: dnnl_alg_kind_t, _ body: (PrimitiveOrder) -> Result) -> Result {
        var source = operand(input, pass == .inputGradient ? result : operands, algorithm).descriptor
        var target = operand(output, pass == .forward ? result : operands, algorithm).descriptor
        var kernel = TensorLayout(weight, tag: dnnl_format_tag_any, pass == .weightGradient ? .float32 : operands)
            .descriptor
        var bias = TensorLayout([weight[0]], strides: [1], .float32).descriptor
        let stride = [Int64(geometry.stride), Int64(geometry.stride)]
        let before = [Int64(geometry.top), Int64(geometry.left)],
            after = [Int64(geometry.bottom), Int64(geometry.right)]
        var operation = dnnl_convolution_desc_t()
        let status: dnnl_status_t
        let arguments: [(Int32, dnnl_query_t)]
        switch pass {
        case .forward:
            status = withUnsafePointer(to: &bias) { bias in
                dnnl_convolution_forward_desc_init(
                    &operation, dnnl_forward_inference, algorithm, &source, &kernel, hasBias ? bias : nil,
                    &target, stride, before, after)
            }
            arguments = [
                (DNNL_ARG_SRC, dnnl_query_src_md), (DNNL_ARG_WEIGHTS, dnnl_query_weights_md),
                (DNNL_ARG_DST, dnnl_query_dst_md),
            ]
        case .inputGradient:
            status = dnnl_convolution_backward_data_desc_init(
                &operation, dnnl_convolution_direct, &source, &kernel, &target, stride, before, after)
            arguments = [
                (DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md), (DNNL_ARG_WEIGHTS, dnnl_query_weights_md),
                (DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md),
            ]
        case .weightGradient:
            status = dnnl_convolution_backward_weights_desc_init(
                &operation, dnnl_convolution_direct, &source, &kernel, nil, &target, stride, before, after)
            arguments = [
                (DNNL_ARG_SRC, dnnl_query_src_md), (DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md),
                (DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md),
            ]
        }
        OneDNN.check(status, "convolution \(self)")
        let biasLayout = hasBias ? TensorLayout(bias) : nil
        return withUnsafePointer(to: &operation) { operation in
            body(
                PrimitiveOrder(operation: operation, operands: operands, arguments: arguments, bias: biasLayout))
        }
    }
}
