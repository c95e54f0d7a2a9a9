import COneDNN
import Synchronization

/// Copies of a weight in the layouts that operations want.
final class Derived: Sendable {
    private let buffers = Mutex<[DerivedKey: RehearsalBuffer]>([:])

    var isEmpty: Bool { buffers.withLock { $0.isEmpty } }

    /// The copy under this key, made when it is missing.
    func buffer(_ key: DerivedKey, _ make: () -> RehearsalBuffer) {
        if buffers.withLock({ $0[key] }) != nil { return }
        let made = make()
        buffers.withLock { $0[key] = made }
    }
}

extension RehearsalEngine {
    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, activation: Activation?) -> Tensor {
        let key = ProductKey(
            x, weight, transposeA: false, transposeB: true, hasBias: bias != nil, dtype: x.dtype,
            packsB: (weight.buffer as? RehearsalBuffer)?.isMapped != true)
        guard activation != nil, key.result == x.dtype, key.m > 0, key.n > 0, key.k > 0 else {
            let y = product(x, weight, key, bias: bias, dtype: x.dtype)
            return activation == nil ? y : make(like: y)
        }
        // In blocks of rows, as the fast engine does it.
        let result = make([key.m, key.n], key.result)
        let rows = key.blockRows
        for rowCount in Set([min(rows, key.m), key.m % rows]) where rowCount > 0 {
            var block = key
            block.m = rowCount
            multiply(x, weight, block, bias: bias)
        }
        return result
    }

    public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, addedTo base: Tensor) -> Tensor {
        var key = ProductKey(
            x, weight, transposeA: false, transposeB: true, hasBias: bias != nil, dtype: x.dtype,
            packsB: (weight.buffer as? RehearsalBuffer)?.isMapped != true)
        guard key.result == base.dtype, key.m > 0, key.n > 0, key.k > 0 else {
            return add(base, product(x, weight, key, bias: bias, dtype: x.dtype), scale: 1)
        }
        key.hasBase = true
        return product(x, weight, key, bias: bias, dtype: x.dtype)
    }

    public func matmul(_ a: Tensor, _ b: Tensor, transposeA: Bool, transposeB: Bool, dtype: DType) -> Tensor {
        let packsB = !transposeA && (b.buffer as? RehearsalBuffer)?.derived.isEmpty == false
        let key = ProductKey(
            a, b, transposeA: transposeA, transposeB: transposeB, hasBias: false, dtype: dtype, packsB: packsB)
        return product(a, b, key, bias: nil, dtype: dtype)
    }

    private func product(_ a: Tensor, _ b: Tensor, _ key: ProductKey, bias: Tensor?, dtype: DType) -> Tensor {
        if key.m == 0 || key.n == 0 || key.k == 0 { return make([key.m, key.n], dtype) }
        let result = make([key.m, key.n], key.result)
        multiply(a, b, key, bias: bias)
        return convert(result, to: dtype)
    }

    private func multiply(_ a: Tensor, _ b: Tensor, _ key: ProductKey, bias: Tensor?) {
        let memory = productMemory.value(key) { key.memory }
        if key.packsB {
            pack(
                b, memory,
                DerivedKey(
                    maker: memory?.weightsLayout ?? 0, offset: b.offset, shape: [key.k, key.n, key.transposeB ? 1 : 0]))
        }
        let operands = (elements(a, key.operands), floats(bias), key.packsB ? nil : elements(b, key.operands))
        used(operands, scratch(of: memory))
    }

    /// The weight's copy in the operation's layout, which lives as long as the weight.
    private func pack(_ weight: Tensor, _ memory: PrimitiveMemory?, _ key: DerivedKey) {
        guard let buffer = weight.buffer as? RehearsalBuffer else { return }
        let plain = weight.count * weight.dtype.byteCount
        buffer.derived.buffer(key) {
            RehearsalBuffer(
                byteCount: memory?.layouts[DNNL_ARG_WEIGHTS]?.byteCount ?? plain, trace: trace, kind: buffer.kind)
        }
    }

    private func scratch(of memory: PrimitiveMemory?) -> RehearsalBuffer? {
        memory.flatMap { $0.pooledScratchByteCount > 0 ? scratch($0.pooledScratchByteCount) : nil }
    }

    public func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, headCount: Int, scale: Float, mask: AttentionMask, bias: Tensor?
    ) -> (output: Tensor, logSum: Tensor) {
        let heads = Heads(q, k, headCount)
        let (output, logSum) = (make(like: q), make([heads.B, headCount, heads.Sq], .float32))
        used(scratch(4 * heads.scratchCount), floats(bias))
        return (output, logSum)
    }

    public func attentionBackward(
        _ upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, logSum: Tensor, headCount: Int,
        scale: Float, mask: AttentionMask, bias: Tensor?
    ) -> (q: Tensor, k: Tensor, v: Tensor) {
        let result = (q: make(like: q), k: make(like: k), v: make(like: v))
        used(
            scratch(4 * Heads(q, k, headCount).backwardScratchCount), elements(upstream, q.dtype), floats(bias))
        return result
    }

    public func convolution(_ x: Tensor, weight: Tensor, bias: Tensor?, geometry: ConvolutionGeometry) -> Tensor {
        if geometry.isPointwise(weight) {
            let matrix = weight.detached.reshaped(weight.shape[0], weight.shape[1])
            let y = linear(x.detached.reshaped(-1, x.shape[3]), weight: matrix, bias: bias, activation: nil)
            return y.reshaped(Array(x.shape.dropLast()) + [weight.shape[0]])
        }
        let key = ConvolutionKey(
            .forward, x.dtype, weight.dtype, input: x.shape, weight: weight.shape, geometry, result: x.dtype,
            hasBias: bias != nil)
        let memory = convolutionMemory.value(key) { key.memory }
        let result = make([x.shape[0]] + key.output.dropFirst(), key.result)
        pack(weight, memory, DerivedKey(maker: memory?.weightsLayout ?? 0, offset: weight.offset, shape: key.weight))
        (weight.buffer as? RehearsalBuffer)?.releasePages()
        convolve(x, bias, key, memory)
        return convert(result, to: x.dtype)
    }

    /// A function of its own, as the fast engine's: in a debug build, too, the copies are gone before the result is converted.
    private func convolve(_ x: Tensor, _ bias: Tensor?, _ key: ConvolutionKey, _ memory: PrimitiveMemory?) {
        let operands = (elements(x, key.operands), floats(bias))
        let copies = [
            memory?.byteCount(unless: key.image(key.input, key.operands), is: DNNL_ARG_SRC),
            memory?.byteCount(unless: key.image(key.output, key.result), is: DNNL_ARG_DST),
        ].map { $0.map(scratch) }
        used(operands, copies, scratch(of: memory))
    }

    public func convolutionInputGradient(
        _ upstream: Tensor, weight: Tensor, inputShape: [Int], geometry: ConvolutionGeometry
    ) -> Tensor {
        let key = ConvolutionKey(
            .inputGradient, upstream.dtype, weight.dtype, input: inputShape, weight: weight.shape, geometry,
            result: upstream.dtype)
        let memory = convolutionMemory.value(key) { key.memory }
        let result = make(inputShape, key.result)
        pack(weight, memory, DerivedKey(maker: memory?.weightsLayout ?? 0, offset: weight.offset, shape: key.weight))
        used(elements(upstream, key.operands), scratch(of: memory))
        return convert(result, to: upstream.dtype)
    }

    public func convolutionWeightGradient(
        _ upstream: Tensor, input: Tensor, weightShape: [Int], geometry: ConvolutionGeometry
    ) -> Tensor {
        let key = ConvolutionKey(
            .weightGradient, upstream.dtype, input.dtype, input: input.shape, weight: weightShape, geometry,
            result: .float32)
        let memory = convolutionMemory.value(key) { key.memory }
        let result = make(weightShape, .float32)
        let blocked = scratch(
            memory?.layouts[DNNL_ARG_DIFF_WEIGHTS]?.byteCount ?? result.count * 4)
        used(blocked, elements(upstream, key.operands), elements(input, key.operands), scratch(of: memory))
        return result
    }
}

/// What the library said about an operation, by key.
final class PrimitiveMemories<Key: Hashable & Sendable>: Sendable {
    private let known = Mutex<[Key: PrimitiveMemory?]>([:])

    func value(_ key: Key, _ ask: () -> PrimitiveMemory?) -> PrimitiveMemory? {
        if let known = known.withLock({ $0[key] }) { return known }
        let asked = ask()
        known.withLock { $0[key] = asked }
        return asked
    }
}
