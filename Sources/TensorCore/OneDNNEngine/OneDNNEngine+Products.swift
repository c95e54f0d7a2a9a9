import CKernels
import COneDNN
import Synchronization

/// One compiled product: op(a) [m, k] times op(b) [k, n], plus bias, plus a matrix like the result.
struct ProductKey: Hashable, Sendable {
    var m: Int, n: Int, k: Int
    var transposeA: Bool, transposeB: Bool
    /// dtype of both operands, and of the result.
    var operands: DType, result: DType
    var hasBias: Bool
    /// Whether a matrix [m, n] is added.
    var hasBase = false
    /// Whether b is a weight, which the library may lay out as it likes.
    var packsB: Bool

    /// The product of two tensors.
    ///
    /// - Parameter dtype: of what the caller wants; the product itself may be fp32.
    init(
        _ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, hasBias: Bool, dtype: DType, packsB: Bool
    ) {
        (m, k) = transposeA ? (a.shape[1], a.shape[0]) : (a.shape[0], a.shape[1])
        let (inner, n) = transposeB ? (b.shape[1], b.shape[0]) : (b.shape[0], b.shape[1])
        precondition(k == inner, "matmul: \(a.shape) x \(b.shape), transposed \(transposeA), \(transposeB)")
        self.n = n
        (self.transposeA, self.transposeB) = (transposeA, transposeB)
        // bfloat16 is multiplied as such only where the processor can and both operands are; otherwise as fp32.
        let narrow = a.dtype == .bfloat16 && b.dtype == .bfloat16 && OneDNN.multipliesBFloat16
        operands = narrow ? .bfloat16 : .float32
        result = narrow ? dtype : .float32
        self.hasBias = hasBias
        self.packsB = packsB
    }

    /// Rows that are computed at once where an activation follows, so that it finds them in cache: 256 KiB of results. More of them
    /// where the weight alone takes up a second cache, since every block fetches it again; all where it is larger than that.
    var blockRows: Int {
        let weight = n * k * operands.byteCount
        guard OneDNN.rowsAreIndependent, weight <= 4 << 20 else { return m }
        let elements = weight > 1 << 20 ? 1 << 18 : (1 << 18) / operands.byteCount
        return max(16, elements / n / 16 * 16)
    }
}

extension OneDNNEngine {
    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, activation: Activation?) -> Tensor {
        // A mapped weight is large: multiplied where it lies it is 3 to 6% slower and takes no memory of ours.
        let packsB = (weight.buffer as? HostBuffer)?.isMapped != true
        let key = ProductKey(
            x, weight, transposeA: false, transposeB: true, hasBias: bias != nil, dtype: x.dtype, packsB: packsB)
        guard let activation else { return product(x, weight, key, bias: bias, dtype: x.dtype) }
        guard key.result == x.dtype, key.m > 0, key.n > 0, key.k > 0 else {
            return activate(product(x, weight, key, bias: bias, dtype: x.dtype), activation)
        }
        // It is the same kernel that `activate` runs: what is computed with and without gradients has the same bits.
        let result = make([key.m, key.n], key.result)
        let rows = key.blockRows
        for start in stride(from: 0, to: key.m, by: rows) {
            var block = key
            block.m = min(rows, key.m - start)
            let target = result.pointer + start * key.n * key.result.byteCount
            multiply(x, weight, block, bias: bias, firstRow: start, into: target)
            kernel_activate(key.result.kernel, target, block.m * key.n, activation.kernel, target)
        }
        return result.tensor
    }

    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, addedTo base: Tensor) -> Tensor {
        let packsB = (weight.buffer as? HostBuffer)?.isMapped != true
        var key = ProductKey(
            x, weight, transposeA: false, transposeB: true, hasBias: bias != nil, dtype: x.dtype, packsB: packsB)
        guard key.result == base.dtype, key.m > 0, key.n > 0, key.k > 0 else {
            return add(base, product(x, weight, key, bias: bias, dtype: x.dtype), scale: 1)
        }
        key.hasBase = true
        let result = make([key.m, key.n], key.result)
        multiply(x, weight, key, bias: bias, base: base, firstRow: 0, into: result.pointer)
        return result.tensor
    }

    public func matmul(_ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, dtype: DType) -> Tensor {
        // A layer's weight shows by its packed copy from the forward pass: its backward pass deserves one too.
        let packsB = !transposeA && (b.buffer as? HostBuffer)?.derived.withLock { !$0.isEmpty } == true
        let key = ProductKey(
            a, b, transposeA: transposeA, transposeB: transposeB, hasBias: false, dtype: dtype, packsB: packsB)
        return product(a, b, key, bias: nil, dtype: dtype)
    }

    private func product(_ a: Tensor, _ b: Tensor, _ key: ProductKey, bias: Tensor?, dtype: DType) -> Tensor {
        if key.m == 0 || key.n == 0 || key.k == 0 { return zeros([key.m, key.n], dtype: dtype) }
        let result = make([key.m, key.n], key.result)
        multiply(a, b, key, bias: bias, firstRow: 0, into: result.pointer)
        return convert(result.tensor, to: dtype)
    }

    /// Rows `firstRow..<firstRow + key.m` of op(a) op(b) + bias. `base` [m, n] is added; it goes with all rows.
    private func multiply(
        _ a: Tensor, _ b: Tensor, _ key: ProductKey, bias: Tensor?, base: Tensor? = nil, firstRow: Int,
        into target: UnsafeMutableRawPointer
    ) {
        let primitive = products.primitive(key) { key.compile() }
        let right = key.packsB ? packed(b, key, primitive) : nil
        withElements(a, key.operands) { left in
            withFloats(bias) { bias in
                let run = { (right: UnsafeMutableRawPointer) in
                    let rows = left + firstRow * key.k * key.operands.byteCount
                    primitive(
                        (DNNL_ARG_SRC, rows), (DNNL_ARG_WEIGHTS, right),
                        (DNNL_ARG_BIAS, bias.map { UnsafeMutableRawPointer(mutating: $0) }), (DNNL_ARG_DST, target),
                        (PrimitiveOrder.baseArgument, base.map(HostTensors.pointer)))
                }
                if let right {
                    withExtendedLifetime(right) { run(right.pointer) }
                } else {
                    withElements(b, key.operands, run)
                }
            }
        }
    }

    /// The weight in the layout the primitive wants, made once a buffer.
    private func packed(_ weight: Tensor, _ key: ProductKey, _ primitive: Primitive) -> HostBuffer {
        guard let buffer = weight.buffer as? HostBuffer else {
            preconditionFailure("a weight of engine \(weight.engine.name) is not in host memory")
        }
        return buffer.derivedBuffer(
            DerivedKey(
                maker: primitive.memory.weightsLayout, offset: weight.offset,
                shape: [key.k, key.n, key.transposeB ? 1 : 0])
        ) {
            guard let wanted = primitive.layouts[DNNL_ARG_WEIGHTS] else {
                preconditionFailure("the weight of product \(key) has no layout")
            }
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
        guard let primitive = withOrder({ Primitive($0) }) else { preconditionFailure("oneDNN has no product \(self)") }
        return primitive
    }

    /// What the product needs, without compiling it.
    var memory: PrimitiveMemory? { withOrder(\.memory) }

    private func withOrder<Result>(_ body: (PrimitiveOrder) -> Result) -> Result {
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
        let biasLayout = hasBias ? TensorLayout(bias) : nil
        return withUnsafePointer(to: &operation) { operation in
            body(
                PrimitiveOrder(
                    operation: operation, operands: operands,
                    arguments: [
                        (DNNL_ARG_SRC, dnnl_query_src_md), (DNNL_ARG_WEIGHTS, dnnl_query_weights_md),
                        (DNNL_ARG_DST, dnnl_query_dst_md),
                    ], bias: biasLayout,
                    base: hasBase ? TensorLayout([m, n], strides: [n, 1], result) : nil))
        }
    }
}
