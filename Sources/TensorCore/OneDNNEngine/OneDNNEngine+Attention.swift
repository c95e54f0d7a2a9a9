import CKernels

extension OneDNNEngine {
    public func attention(
        _ q: Tensor, _ k: Tensor, _ v: Tensor, headCount: Int, scale: Float, mask: AttentionMask, bias: Tensor?
    ) -> (output: Tensor, logSum: Tensor) {
        let heads = Heads(q, k, headCount)
        let output = make(like: q)
        let logSum = make([heads.B, headCount, heads.Sq], .float32)
        withScratch(heads.scratchCount) { scratch in
            withFloats(bias) { bias in
                heads.each { head, query, key in
                    kernel_attention(
                        q.dtype.kernel, HostTensors.pointer(q) + query, HostTensors.pointer(k) + key,
                        HostTensors.pointer(v) + key, heads.D, heads.Sq, heads.Sk, heads.d, scale,
                        mask == .causal ? 1 : 0,
                        bias.map { $0 + head % headCount * heads.Sq * heads.Sk }, scratch, output.pointer + query,
                        logSum.floats + head * heads.Sq)
                }
            }
        }
        return (output.tensor, logSum.tensor)
    }

    public func attentionBackward(
        _ upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, logSum: Tensor, headCount: Int,
        scale: Float,
        mask: AttentionMask, bias: Tensor?
    ) -> (q: Tensor, k: Tensor, v: Tensor) {
        let heads = Heads(q, k, headCount)
        let (dq, dk, dv) = (make(like: q), make(like: k), make(like: v))
        let logSums = HostTensors.pointer(logSum).assumingMemoryBound(to: Float.self)
        withScratch(heads.backwardScratchCount) { scratch in
            withElements(upstream, q.dtype) { upstream in
                withFloats(bias) { bias in
                    heads.each { head, query, key in
                        kernel_attention_backward(
                            q.dtype.kernel, upstream + query, HostTensors.pointer(q) + query,
                            HostTensors.pointer(k) + key,
                            HostTensors.pointer(v) + key, HostTensors.pointer(output) + query,
                            logSums + head * heads.Sq,
                            heads.D, heads.Sq, heads.Sk, heads.d, scale, mask == .causal ? 1 : 0,
                            bias.map { $0 + head % headCount * heads.Sq * heads.Sk }, scratch, dq.pointer + query,
                            dk.pointer + key, dv.pointer + key)
                    }
                }
            }
        }
        return (dq.tensor, dk.tensor, dv.tensor)
    }
}

/// Where each head of each sample lies in q [B, Sq, H·d] and k [B, Sk, H·d].
struct Heads {
    let B: Int, Sq: Int, Sk: Int, D: Int, d: Int, count: Int, elementSize: Int

    init(_ q: Tensor, _ k: Tensor, _ headCount: Int) {
        precondition(q.dtype == k.dtype, "attention: \(q.dtype) queries, \(k.dtype) keys")
        (B, Sq, Sk, D) = (q.shape[0], q.shape[1], k.shape[1], q.shape[2])
        d = D / headCount
        count = headCount
        elementSize = q.dtype.byteCount
    }

    private func padded(_ n: Int) -> Int { (n + 15) / 16 * 16 }

    /// As laid out by `kernel_attention`: query block, keys, values, scores, outputs; the larger one of fp32 and bfloat16.
    var scratchCount: Int {
        let (block, width, keys) = (48, padded(d), padded(Sk))
        return 2 * block * width + d * keys + Sk * width + 2 * block * keys
    }

    /// As laid out by `kernel_attention_backward`.
    var backwardScratchCount: Int {
        let (block, width, keys) = (48, padded(d), padded(Sk))
        return 3 * block * width + 2 * d * keys + 3 * Sk * width + 4 * block * keys
    }

    /// Calls `body` with each head's number and the byte offsets of its first query and key.
    func each(_ body: (_ head: Int, _ query: Int, _ key: Int) -> Void) {
        for sample in 0..<B {
            for head in 0..<count {
                body(
                    sample * count + head, (sample * Sq * D + head * d) * elementSize,
                    (sample * Sk * D + head * d) * elementSize)
            }
        }
    }
}
