import LibC

extension FlowStep {
    /// The log-probabilities that a step with noise of its own can have, whatever the policy: they are a function of
    /// M[ε²], which is 1 for much noise. A value outside was not sampled, and the ratio of an update could overflow
    /// with it.
    ///
    /// With n numbers, M[ε²] is below 1 - 2 √(t/n) or above 1 + 2 √(t/n) + 2t/n with a probability of at most 2
    /// exp(-t); t is 50. The rounding of latents up to 100 is allowed for.
    ///
    /// - Parameter elementCount: n, at least 1: numbers of one sample.
    /// - Precondition: a stochastic step with noise.
    /// - Source: Laurent and Massart, Annals of Statistics 28 (2000), lemma 1.
    public func plausibleLogProbabilities(elementCount: Int) -> ClosedRange<Double> {
        precondition(noiseScale > 0 && elementCount >= 1, "step \(index) with noise of \(noiseScale)")
        let (s, n, t, rounding) = (Double(noiseScale), Double(elementCount), 50.0, 1e-5)
        let nearest = max(0, s * max(0, 1 - 2 * (t / n).squareRoot()).squareRoot() * 0.99 - rounding)
        let farthest = s * (1 + 2 * (t / n).squareRoot() + 2 * t / n).squareRoot() * 1.01 + rounding
        let range = logProbability(distance: farthest)...logProbability(distance: nearest)
        // The density's constant is added in fp32.
        return range.lowerBound - 1e-5 * abs(range.lowerBound)...range.upperBound + 1e-5 * abs(range.upperBound) + 1e-12
    }

    /// ℓ of a step that ended so far from its mean, root mean square.
    private func logProbability(distance: Double) -> Double {
        guard kind == .flowSDE else { return -distance * distance }
        let s = Double(noiseScale)
        return -distance * distance / (2 * s * s) - log(s) - 0.5 * log(2 * Double.pi)
    }
}
