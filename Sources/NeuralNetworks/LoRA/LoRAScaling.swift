/// What a file says about the strength of its adapter: rank and alpha, some layers' own, and how both make a scale.
struct LoRAScaling {
    /// A value for all layers and others for those whose name matches; of several patterns the first counts, as in PEFT.
    struct ByLayer {
        /// The entry of the file, which errors name.
        let entry: String
        var common: Double
        var patterns: [(text: String, pattern: LayerPattern, value: Double)] = []

        subscript(layer: String) -> (value: Double, entry: String) {
            guard let own = patterns.first(where: { $0.pattern.matches(layer) }) else { return (common, entry) }
            return (own.value, "the pattern \(own.text)")
        }
    }

    /// r, which the tensors have too.
    var rank: ByLayer
    /// The update is multiplied by alpha / r.
    var alpha: ByLayer
    /// Whether it is alpha / sqrt(r) instead (Kalajdzievski 2023).
    var isRankStabilized = false

    /// The alpha for which alpha / r is a layer's scale.
    ///
    /// - Throws: `wrongShape` unless the layer's A has the rank that the file says.
    func alpha(of layer: String, rank actual: Int, source: String) throws(ModelError) -> Double {
        let expected = rank[layer]
        guard Double(actual) == expected.value else {
            throw ModelError(
                code: .wrongShape, source: source,
                message: "\(layer) has rank \(actual), and \(expected.entry) says \(Int(expected.value)); "
                    + "tensors and configuration are not of one adapter")
        }
        return alpha[layer].value * (isRankStabilized ? Double(actual).squareRoot() : 1)
    }
}
