import NeuralNetworks
import TensorCore

// Port of diffusers models/attention.py (JointTransformerBlock), attention_processor.py (JointAttnProcessor2_0) and
// normalization.py (AdaLayerNormZero, SD35AdaLayerNormZeroX, AdaLayerNormContinuous). Differences: none.
//
// Legend: B batch, S image tokens, T text tokens, D width, n rows of modulation.

/// The epsilon of every normalisation of the transformer.
let mmditEpsilon: Float = 1e-6

/// Rows of a sample's modulation vector in an image or text stream.
enum ModulationRow {
    static let shiftAttention = 0
    static let scaleAttention = 1
    static let gateAttention = 2
    static let shiftFeedForward = 3
    static let scaleFeedForward = 4
    static let gateFeedForward = 5
    static let shiftDual = 6
    static let scaleDual = 7
    static let gateDual = 8
    // `AdaLayerNormContinuous` has two rows, scale first.
    static let scaleContinuous = 0
    static let shiftContinuous = 1
}

/// Linear(SiLU(temb)), seen as n rows a sample.
struct Modulation {
    let linear: Linear
    let rowCount: Int

    init(_ weights: Weights, width: Int, rows: Int) throws {
        linear = try Linear(weights.scoped("linear"), input: width, output: rows * width)
        rowCount = rows
    }

    /// SiLU(temb) [B, D] -> [B, n, D].
    func callAsFunction(_ activatedEmbedding: Tensor) -> Tensor {
        linear(activatedEmbedding).reshaped(activatedEmbedding.shape[0], rowCount, -1)
    }
}

/// Query, key and value of one stream, normalised per head, and the projection back.
struct AttentionProjections {
    let query: Linear, key: Linear, value: Linear
    let output: Linear?
    let queryNorm: RMSNorm?, keyNorm: RMSNorm?

    /// - Parameter names: query, key, value, output and the two norms of the stream; output nil where it is discarded.
    init(
        _ weights: Weights, _ configuration: MMDiTConfiguration, query: String, key: String, value: String,
        output: String?,
        queryNorm: String, keyNorm: String
    ) throws {
        let width = configuration.width
        func projection(_ name: String) throws -> Linear {
            try Linear(weights.scoped(name), input: width, output: width)
        }
        func norm(_ name: String) throws -> RMSNorm? {
            guard configuration.normalizesQueriesAndKeys else { return nil }
            return try RMSNorm(weights.scoped(name), width: configuration.headWidth, epsilon: mmditEpsilon)
        }
        self.query = try projection(query)
        self.key = try projection(key)
        self.value = try projection(value)
        self.output = try output.map(projection)
        self.queryNorm = try norm(queryNorm)
        self.keyNorm = try norm(keyNorm)
    }

    /// [B, S, D] -> query, key and value [B, S, D].
    func callAsFunction(_ x: Tensor) -> (query: Tensor, key: Tensor, value: Tensor) {
        let (q, k) = (query(x), key(x))
        return (queryNorm?(q) ?? q, keyNorm?(k) ?? k, value(x))
    }
}

/// Linear, GELU (tanh), Linear.
struct FeedForward {
    let up: Linear, down: Linear

    init(_ weights: Weights, width: Int) throws {
        up = try Linear(weights.scoped("net.0.proj"), input: width, output: 4 * width)
        down = try Linear(weights.scoped("net.2"), input: 4 * width, output: width)
    }

    func callAsFunction(_ x: Tensor) -> Tensor {
        down(up(x, activation: .geluTanh))
    }
}

/// One block: joint attention over [image ; text], then a feed-forward layer a stream.
struct JointBlock {
    let headCount: Int
    let modulation: Modulation, textModulation: Modulation
    let image: AttentionProjections, text: AttentionProjections
    let dual: AttentionProjections?
    let feedForward: FeedForward
    /// nil in the last block, whose text output nobody reads.
    let textFeedForward: FeedForward?

    init(_ weights: Weights, _ configuration: MMDiTConfiguration, index: Int) throws {
        let width = configuration.width
        let isLast = index == configuration.layerCount - 1
        let hasDual = configuration.dualAttentionLayers.contains(index)
        headCount = configuration.headCount
        modulation = try Modulation(weights.scoped("norm1"), width: width, rows: hasDual ? 9 : 6)
        textModulation = try Modulation(weights.scoped("norm1_context"), width: width, rows: isLast ? 2 : 6)
        let attention = weights.scoped("attn")
        image = try AttentionProjections(
            attention, configuration, query: "to_q", key: "to_k", value: "to_v", output: "to_out.0",
            queryNorm: "norm_q",
            keyNorm: "norm_k")
        text = try AttentionProjections(
            attention, configuration, query: "add_q_proj", key: "add_k_proj", value: "add_v_proj",
            output: isLast ? nil : "to_add_out", queryNorm: "norm_added_q", keyNorm: "norm_added_k")
        dual =
            hasDual
            ? try AttentionProjections(
                weights.scoped("attn2"), configuration, query: "to_q", key: "to_k", value: "to_v", output: "to_out.0",
                queryNorm: "norm_q", keyNorm: "norm_k") : nil
        feedForward = try FeedForward(weights.scoped("ff"), width: width)
        textFeedForward = isLast ? nil : try FeedForward(weights.scoped("ff_context"), width: width)
    }

    /// - Parameters:
    ///   - x_BSD: image tokens. context_BTD: text tokens. embedding_BD: SiLU(temb).
    /// - Returns: both streams; the text of the last block is returned unchanged.
    func callAsFunction(
        _ x_BSD: Tensor, context_BTD: Tensor, embedding_BD: Tensor
    ) -> (x: Tensor, context: Tensor) {
        typealias Row = ModulationRow
        let modulation = modulation(embedding_BD)
        let textModulation = textModulation(embedding_BD)
        func normalized(_ x: Tensor, _ modulation: Tensor, _ shift: Int, _ scale: Int) -> Tensor {
            modulatedLayerNorm(x, modulation: modulation, shift: shift, scale: scale, epsilon: mmditEpsilon)
        }
        let isLast = textFeedForward == nil
        let q = image(normalized(x_BSD, modulation, Row.shiftAttention, Row.scaleAttention))
        let t = text(
            normalized(
                context_BTD, textModulation, isLast ? Row.shiftContinuous : Row.shiftAttention,
                isLast ? Row.scaleContinuous : Row.scaleAttention))

        let joint = attention(
            concatenated([q.query, t.query], axis: 1), concatenated([q.key, t.key], axis: 1),
            concatenated([q.value, t.value], axis: 1), headCount: headCount)
        let S = x_BSD.shape[1]
        var x = x_BSD
        if let output = image.output {
            x = x.adding(
                output(joint.sliced(axis: 1, 0..<S)), gatedBy: modulation, row: Row.gateAttention)
        }
        if let dual, let output = dual.output {
            let own = dual(normalized(x_BSD, modulation, Row.shiftDual, Row.scaleDual))
            let attended = attention(own.query, own.key, own.value, headCount: headCount)
            x = x.adding(output(attended), gatedBy: modulation, row: Row.gateDual)
        }
        x = x.adding(
            feedForward(normalized(x, modulation, Row.shiftFeedForward, Row.scaleFeedForward)),
            gatedBy: modulation, row: Row.gateFeedForward)

        guard let textFeedForward, let textOutput = text.output else { return (x, context_BTD) }
        var context = context_BTD.adding(
            textOutput(joint.sliced(axis: 1, S..<joint.shape[1])), gatedBy: textModulation,
            row: Row.gateAttention)
        context = context.adding(
            textFeedForward(
                normalized(context, textModulation, Row.shiftFeedForward, Row.scaleFeedForward)),
            gatedBy: textModulation, row: Row.gateFeedForward)
        return (x, context)
    }
}
