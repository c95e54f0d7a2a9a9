public import TensorCore

/// A low-rank change of some layers: W + (alpha / r) · B · A (Hu et al. 2021), each layer with its own r and alpha.
///
/// Its parameters are named as in PEFT's file without the leading `base_model.model.`:
/// `LAYER.lora_A.weight` [r, K] and `LAYER.lora_B.weight` [N, r], fp32 master weights.
public struct LoRAAdapter: Sendable {
    /// A and B of every adapted layer.
    public let parameters: Parameters
    /// Which layers are adapted, as PEFT's `target_modules` says it: ends of names, or whole names where a file gave them.
    public let targets: [String]
    /// The file it was read from, or what it was made for.
    let source: String
    private let pairs: [String: Pair]

    /// The two factors of one layer's update.
    public struct Pair: Sendable {
        /// A, [r, K].
        public let down: Tensor
        /// B, [N, r].
        public let up: Tensor
        /// What the update is multiplied by, times r.
        public let alpha: Double
        /// alpha / r.
        public var scale: Float { Float(alpha / Double(rank)) }
        /// r.
        public var rank: Int { down.shape[0] }
    }

    /// The values of alpha that a file may have.
    static let alphas = Double.leastNonzeroMagnitude...Double(ConfigurationFile.largestSize)

    /// An adapter of one size over given parameters.
    ///
    /// - Throws: `missing` or `wrongShape` unless every layer has both factors of rank r.
    public init(configuration: LoRAConfiguration, parameters: Parameters, source: String = "adapter") throws {
        try self.init(parameters: parameters, targets: configuration.targets, source: source) {
            layer, rank throws(ModelError) in
            guard rank == configuration.rank else {
                throw ModelError(
                    code: .wrongShape, source: source,
                    message: "\(layer) has rank \(rank), expected \(configuration.rank)")
            }
            return configuration.alpha
        }
    }

    /// An adapter whose layers each have their rank and alpha.
    ///
    /// - Parameter alpha: of a layer with a rank.
    /// - Throws: `missing` or `wrongShape` unless every layer has both factors of one rank; what `alpha` throws.
    init(
        parameters: Parameters, targets: [String]? = nil, source: String,
        alpha: (_ layer: String, _ rank: Int) throws(ModelError) -> Double
    ) throws(ModelError) {
        var pairs: [String: Pair] = [:]
        for name in parameters.names {
            let layer = LoRAAdapter.layer(of: name)
            guard let layer, let down = parameters[layer + downSuffix], let up = parameters[layer + upSuffix] else {
                throw ModelError(
                    code: .missing, source: source, message: "tensor \(name) is not one of a pair of lora_A and lora_B")
            }
            guard down.rank == 2, up.rank == 2, down.shape[0] == up.shape[1] else {
                throw ModelError(
                    code: .wrongShape, source: source,
                    message: "\(layer) has A \(down.shape) and B \(up.shape), expected [r, inputs] and [outputs, r]")
            }
            guard pairs[layer] == nil else { continue }
            pairs[layer] = Pair(down: down, up: up, alpha: try alpha(layer, down.shape[0]))
        }
        self.init(
            parameters: parameters, targets: targets ?? pairs.keys.sorted(), source: source, pairs: pairs)
    }

    /// A fresh adapter that changes nothing yet: A normal with deviation 1 / r, B zero.
    ///
    /// - Parameters:
    ///   - configuration: rank, alpha and targets.
    ///   - model: base weights; each matrix `LAYER.weight` whose layer matches the targets gets a pair.
    ///   - seed: the run's seed; layer number i of the sorted names draws from Philox (seed, weights, i).
    ///   - source: what errors call the model.
    /// - Throws: `missing` when nothing matches.
    public init(configuration: LoRAConfiguration, model: Parameters, seed: UInt64, source: String = "model") throws {
        let layers = model.entries.compactMap { name, tensor -> (name: String, weight: Tensor)? in
            guard name.hasSuffix(".weight"), tensor.rank == 2 else { return nil }
            let layer = String(name.dropLast(".weight".count))
            return configuration.matches(layer) ? (layer, tensor) : nil
        }
        guard !layers.isEmpty else {
            throw ModelError(
                code: .missing, source: source,
                message: "no layer ends with one of \(configuration.targets.joined(separator: ", "))")
        }
        var tensors: [String: Tensor] = [:]
        for (number, layer) in layers.enumerated() {
            let (engine, rank) = (layer.weight.engine, configuration.rank)
            let (output, input) = (layer.weight.shape[0], layer.weight.shape[1])
            let normals = Philox(seed: seed, purpose: .weights, number).normals(rank * input)
            tensors[layer.name + downSuffix] = engine.tensor(normals.map { $0 / Float(rank) }, shape: [rank, input])
            tensors[layer.name + upSuffix] = engine.zeros([output, rank])
        }
        try self.init(configuration: configuration, parameters: Parameters(tensors), source: source)
    }

    private init(parameters: Parameters, targets: [String], source: String, pairs: [String: Pair]) {
        self.parameters = parameters
        self.targets = targets
        self.source = source
        self.pairs = pairs
    }

    /// The layers with a pair, sorted.
    public var layers: [String] { pairs.keys.sorted() }

    /// The factors of a layer, if it is adapted.
    public func pair(for layer: String) -> Pair? { pairs[layer] }

    /// The same adapter with other values, tracked ones for example.
    ///
    /// - Precondition: the names are the same.
    public func replacing(_ parameters: Parameters) -> LoRAAdapter {
        precondition(parameters.names == self.parameters.names, "adapter: other parameter names")
        var pairs = pairs
        for (layer, pair) in pairs {
            guard let down = parameters[layer + downSuffix], let up = parameters[layer + upSuffix] else { continue }
            pairs[layer] = Pair(down: down, up: up, alpha: pair.alpha)
        }
        return LoRAAdapter(parameters: parameters, targets: targets, source: source, pairs: pairs)
    }

    /// Base weights with every update added: W + scale · B · A in fp32, rounded to the weight's dtype.
    ///
    /// The weight of a convolution [N, C, h, w] is the matrix [N, C · h · w] of its kernel.
    ///
    /// - Returns: only the changed tensors, `LAYER.weight`; tracked when the adapter is.
    /// - Throws: `missing` or `wrongShape` when the base has no such layer.
    public func mergedWeights(into model: Parameters) throws -> Parameters {
        var merged: [String: Tensor] = [:]
        for layer in layers {
            guard let pair = pairs[layer] else { continue }
            let name = layer + ".weight"
            guard let weight = model[name] else {
                throw ModelError(
                    code: .missing, source: source,
                    message: "changes \(layer), which this model does not have; the adapter was made for another model")
            }
            let matrix = [pair.up.shape[0], pair.down.shape[1]]
            guard weight.rank >= 2, [weight.shape[0], weight.count / weight.shape[0]] == matrix else {
                throw ModelError(
                    code: .wrongShape, source: source,
                    message: "changes \(layer) as \(matrix), and this model's is \(weight.shape); "
                        + "the adapter was made for another model")
            }
            let sum = updated(
                weight.rank == 2 ? weight : weight.reshaped(matrix), up: pair.up, down: pair.down, scale: pair.scale)
            merged[name] = weight.rank == 2 ? sum : sum.reshaped(weight.shape)
        }
        return Parameters(merged)
    }

    static func layer(of name: String) -> String? {
        for suffix in [downSuffix, upSuffix] where name.hasSuffix(suffix) { return String(name.dropLast(suffix.count)) }
        return nil
    }
}

let downSuffix = ".lora_A.weight"
let upSuffix = ".lora_B.weight"
