public import TensorCore

/// Size of a low-rank adapter and which layers it changes.
public struct LoRAConfiguration: Sendable, Equatable {
    /// r, rows of A.
    public var rank: Int
    /// The update is multiplied by alpha / r.
    public var alpha: Double
    /// Ends of layer names, whole components: `attn.to_q` matches `transformer_blocks.0.attn.to_q`, not `attn2.to_q`.
    public var targets: [String]

    /// The method's adapter is r 32, alpha 64 on the eight projections of the joint attention.
    public init(rank: Int = 32, alpha: Double = 64, targets: [String] = LoRAConfiguration.jointAttention) {
        self.rank = rank
        self.alpha = alpha
        self.targets = targets
    }

    /// The projections of the joint attention of SD3's transformer; `attn2` is left alone.
    public static let jointAttention = [
        "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
        "attn.to_add_out",
    ]

    /// alpha / r.
    public var scale: Float { Float(alpha / Double(rank)) }

    /// Whether a layer of this name is adapted.
    public func matches(_ layer: String) -> Bool { targets.contains { layer == $0 || layer.hasSuffix("." + $0) } }
}

/// A low-rank change of some layers: W + (alpha / r) · B · A (Hu et al. 2021).
///
/// Its parameters are named as in PEFT's file without the leading `base_model.model.`:
/// `LAYER.lora_A.weight` [r, K] and `LAYER.lora_B.weight` [N, r], fp32 master weights.
public struct LoRAAdapter: Sendable {
    /// Size and targets.
    public let configuration: LoRAConfiguration
    /// A and B of every adapted layer.
    public let parameters: Parameters
    private let pairs: [String: Pair]

    /// The two factors of one layer's update.
    public struct Pair: Sendable {
        /// A, [r, K].
        public let down: Tensor
        /// B, [N, r].
        public let up: Tensor
        /// alpha / r.
        public let scale: Float
    }

    /// An adapter over given parameters.
    ///
    /// - Throws: `missing` or `wrongShape` unless every layer has both factors of rank r.
    public init(configuration: LoRAConfiguration, parameters: Parameters, source: String = "adapter") throws {
        self.configuration = configuration
        self.parameters = parameters
        var pairs: [String: Pair] = [:]
        for name in parameters.names {
            let layer = LoRAAdapter.layer(of: name)
            guard let layer, let down = parameters[layer + downSuffix], let up = parameters[layer + upSuffix] else {
                throw ModelError(
                    code: .missing, source: source, message: "tensor \(name) is not one of a pair of lora_A and lora_B")
            }
            guard down.rank == 2, up.rank == 2, down.shape[0] == configuration.rank, up.shape[1] == configuration.rank
            else {
                throw ModelError(
                    code: .wrongShape, source: source,
                    message: "\(layer) has A \(down.shape) and B \(up.shape), expected rank \(configuration.rank)")
            }
            pairs[layer] = Pair(down: down, up: up, scale: configuration.scale)
        }
        self.pairs = pairs
    }

    /// A fresh adapter that changes nothing yet: A normal with deviation 1 / r, B zero.
    ///
    /// - Parameters:
    ///   - model: base weights; each matrix `LAYER.weight` whose layer matches the targets gets a pair.
    ///   - seed: the run's seed; layer number i of the sorted names draws from Philox (seed, weights, i).
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

    private init(configuration: LoRAConfiguration, parameters: Parameters, pairs: [String: Pair]) {
        self.configuration = configuration
        self.parameters = parameters
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
        for layer in pairs.keys {
            guard let down = parameters[layer + downSuffix], let up = parameters[layer + upSuffix] else { continue }
            pairs[layer] = Pair(down: down, up: up, scale: configuration.scale)
        }
        return LoRAAdapter(configuration: configuration, parameters: parameters, pairs: pairs)
    }

    /// Base weights with every update added: W + scale · B · A in fp32, rounded to the weight's dtype.
    ///
    /// - Returns: only the changed tensors, `LAYER.weight`; tracked when the adapter is.
    /// - Throws: `missing` or `wrongShape` when the base has no such layer.
    public func mergedWeights(into model: Parameters, source: String = "model") throws -> Parameters {
        var merged: [String: Tensor] = [:]
        for (layer, pair) in pairs {
            let name = layer + ".weight"
            guard let weight = model[name] else {
                throw ModelError(
                    code: .missing, source: source, message: "the adapter changes \(layer), which is not there")
            }
            guard weight.shape == [pair.up.shape[0], pair.down.shape[1]] else {
                throw ModelError(
                    code: .wrongShape, source: source,
                    message: "\(layer) is \(weight.shape), the adapter's is \([pair.up.shape[0], pair.down.shape[1]])")
            }
            merged[name] = updated(weight, up: pair.up, down: pair.down, scale: pair.scale)
        }
        return Parameters(merged)
    }

    static func layer(of name: String) -> String? {
        for suffix in [downSuffix, upSuffix] where name.hasSuffix(suffix) { return String(name.dropLast(suffix.count)) }
        return nil
    }
}

private let downSuffix = ".lora_A.weight"
private let upSuffix = ".lora_B.weight"
