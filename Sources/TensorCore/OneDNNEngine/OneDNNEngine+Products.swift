import COneDNN
import Synchronization

/// One compiled product: op(a) [m, k] times op(b) [k, n], plus bias, through an activation.
struct ProductKey: Hashable, Sendable {
    var m: Int, n: Int, k: Int
    var transposeA: Bool, transposeB: Bool
    /// dtype of both operands, and of the result.
    var operands: DType, result: DType
    var hasBias: Bool
    var activation: Activation?
    /// Whether b is a weight, which the library may lay out as it likes.
    var packsB: Bool
}

extension OneDNNEngine {
    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, activation: Activation?) -> Tensor {
        product(
            x, weight, transposeA: false, transposeB: true, bias: bias, activation: activation, dtype: x.dtype,
            packsB: true)
    }

    public func matmul(_ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, dtype: DType) -> Tensor {
        // A layer's weight shows by its packed copy from the forward pass: its backward pass deserves one too.
        let packsB = !transposeA && (b.buffer as? HostBuffer)?.derived.withLock { !$0.isEmpty } == true
        return product(
            a, b, transposeA: transposeA, transposeB: transposeB, bias: nil, activation: nil, dtype: dtype,
            packsB: packsB)
    }

    private func product(
        _ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, bias: Tensor?, activation: Activation?,
        dtype: DType,
        packsB: Bool
    ) -> Tensor {
        let (m, k) = transposeA ? (a.shape[1], a.shape[0]) : (a.shape[0], a.shape[1])
        let (inner, n) = transposeB ? (b.shape[1], b.shape[0]) : (b.shape[0], b.shape[1])
        precondition(k == inner, "matmul: \(a.shape) x \(b.shape), transposed \(transposeA), \(transposeB)")
        if m == 0 || n == 0 || k == 0 { return zeros([m, n], dtype: dtype) }
        // bfloat16 is multiplied as such only where the processor can and both operands are; otherwise as fp32.
        let narrow = a.dtype == .bfloat16 && b.dtype == .bfloat16 && OneDNN.multipliesBFloat16
        let operands: DType = narrow ? .bfloat16 : .float32
        let key = ProductKey(
            m: m, n: n, k: k, transposeA: transposeA, transposeB: transposeB, operands: operands,
            result: narrow ? dtype : .float32, hasBias: bias != nil, activation: activation, packsB: packsB)
        let primitive = products.primitive(key) { key.compile() }
        let result = make([m, n], key.result)
        withElements(a, operands) { left in
            withFloats(bias) { bias in
                let right = packsB ? packed(b, key, primitive) : nil
                withExtendedLifetime(right) {
                    let run = { (pointer: UnsafeMutableRawPointer) in
                        if let bias {
                            primitive(
                                (DNNL_ARG_SRC, left), (DNNL_ARG_WEIGHTS, pointer),
                                (DNNL_ARG_BIAS, UnsafeMutableRawPointer(mutating: bias)), (DNNL_ARG_DST, result.pointer)
                            )
                        } else {
                            primitive((DNNL_ARG_SRC, left), (DNNL_ARG_WEIGHTS, pointer), (DNNL_ARG_DST, result.pointer))
                        }
                    }
                    if let right { run(right.pointer) } else { withElements(b, operands, run) }
                }
            }
        }
        return convert(result.tensor, to: dtype)
    }

    /// The weight in the layout the primitive wants, made once a buffer.
    private func packed(_ weight: Tensor, _ key: ProductKey, _ primitive: Primitive) -> HostBuffer {
        guard let buffer = weight.buffer as? HostBuffer, let wanted = primitive.layouts[DNNL_ARG_WEIGHTS] else {
            preconditionFailure("a weight of engine \(weight.engine.name) is not in host memory")
        }
        return buffer.derivedBuffer(
            DerivedKey(
                maker: primitive.weightsName, offset: weight.offset, shape: [key.k, key.n, key.transposeB ? 1 : 0])
        ) {
            let copy = HostBuffer(byteCount: wanted.byteCount)
            let plain = key.layoutB(weight.dtype)
            Primitive.reorder(HostTensors.pointer(weight), plain, copy.pointer, wanted)
            return copy
        }
    }
}

extension HostBuffer {
    /// The derived buffer under this key, made by `make` when it is missing.
    func derivedBuffer(_ key: DerivedKey, _ make: () -> HostBuffer) -> HostBuffer {
        if let known = derived.withLock({ $0[key] as? HostBuffer }) { return known }
        let made = make()
        return derived.withLock { derived in
            if let known = derived[key] as? HostBuffer { return known }
            derived[key] = made
            return made
        }
    }
}

extension ProductKey {
    func layoutB(_ dtype: DType) -> TensorLayout {
        TensorLayout([k, n], strides: transposeB ? [1, k] : [n, 1], dtype)
    }

    fileprivate func compile() -> Primitive {
        var a = TensorLayout([m, k], strides: transposeA ? [1, m] : [k, 1], operands).descriptor
        var b =
            packsB ? TensorLayout([k, n], tag: dnnl_format_tag_any, operands).descriptor : layoutB(operands).descriptor
        var bias = TensorLayout([1, n], strides: [n, 1], .float32).descriptor
        var c = TensorLayout([m, n], strides: [n, 1], result).descriptor
        var operation = dnnl_matmul_desc_t()
        let status = withUnsafePointer(to: &bias) { bias in
            dnnl_matmul_desc_init(&operation, &a, &b, hasBias ? bias : nil, &c)
        }
        OneDNN.check(status, "product \(self)")
        let primitive = Primitive(
            &operation, operands: operands,
            arguments: [
                (DNNL_ARG_SRC, dnnl_query_src_md), (DNNL_ARG_WEIGHTS, dnnl_query_weights_md),
                (DNNL_ARG_DST, dnnl_query_dst_md),
            ], activation: activation, bias: hasBias ? TensorLayout(bias) : nil)
        guard let primitive else { preconditionFailure("oneDNN has no product \(self)") }
        return primitive
    }
}
