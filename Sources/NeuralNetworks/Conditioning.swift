public import TensorCore

/// What a text-to-image model is told about texts, one row a sample.
public struct Conditioning: Sendable {
    /// Text tokens [B, S, D].
    public var text_BSD: Tensor
    /// Pooled text [B, P].
    public var pooled_BP: Tensor

    /// - Precondition: the first axes agree.
    public init(text_BSD: Tensor, pooled_BP: Tensor) {
        precondition(
            text_BSD.rank == 3 && pooled_BP.rank == 2 && text_BSD.shape[0] == pooled_BP.shape[0],
            "conditioning: text \(text_BSD.shape), pooled \(pooled_BP.shape)")
        self.text_BSD = text_BSD
        self.pooled_BP = pooled_BP
    }

    /// Number of samples.
    public var count: Int { text_BSD.shape[0] }

    /// Bytes of all elements.
    public var byteCount: Int {
        text_BSD.count * text_BSD.dtype.byteCount + pooled_BP.count * pooled_BP.dtype.byteCount
    }

    /// Samples `range`, without copying.
    public func rows(_ range: Range<Int>) -> Conditioning {
        Conditioning(text_BSD: text_BSD.rows(range), pooled_BP: pooled_BP.rows(range))
    }
}
