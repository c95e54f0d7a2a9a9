internal import NeuralNetworks
internal import TensorCore

/// How much of an update's gradient is signal: the gradient of every other group against that of the rest.
///
/// Both halves estimate one direction from images that have nothing in common but the policy. With |g|² the signal's square and n
/// the noise's of one half, their cosine c is about |g|² / (|g|² + n), and that of the whole update with the exact gradient
/// about √(2c / (1 + c)). One update's c is itself noisy: read its mean over many.
struct GradientHalves {
    private var first: Parameters?

    /// Adds a piece's gradient to the first half.
    mutating func add(_ gradient: Parameters) { first = first?.adding(gradient) ?? gradient }

    /// The cosine of the first half and the rest of `total`; nil where one of them is 0.
    func cosine(in total: Parameters) -> Double? {
        guard let first else { return nil }
        let rest = total.mapped { name, tensor in first[name].map { tensor - $0 } ?? tensor }
        let (a, b, both) = (first.norm, rest.norm, total.norm)
        let cosine = (both * both - a * a - b * b) / (2 * a * b)
        return cosine.isFinite ? min(max(cosine, -1), 1) : nil
    }
}

extension Parameters {
    /// The sum of both, by name; a name that only this one has keeps its tensor.
    func adding(_ other: Parameters) -> Parameters {
        mapped { name, tensor in other[name].map { tensor + $0 } ?? tensor }
    }
}
