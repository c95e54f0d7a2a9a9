import NeuralNetworks
public import TensorCore

/// One component of the adversarial reward: what it reads of the backbone, its score and its loss.
///
/// Heads hold no weights; `Discriminator` keeps those of all heads under `COMPONENT.NAME` and hands each its own.
protocol DiscriminatorHead: Sendable {
    /// Which component this is.
    var component: RewardComponent { get }
    /// Blocks whose outputs it reads; nil when it reads the pixels alone.
    var blocks: [Int]? { get }
    /// Length of the feature vector that is standardised before the first layer; nil where nothing is.
    var standardizedWidth: Int? { get }
    /// What of its prompt's references it reads beside its one feature, which is named as the component.
    var relation: ReferenceRelation { get }
    /// What is standardised, [B, `standardizedWidth`]; asked for only where that is not nil.
    func standardizedVector(_ features: FeatureTable) -> Tensor
    /// Pairs that are computed at once where the loss is a mean over pairs: row i of the references is one of the prompt of row i
    /// of the generated images. Such a head reads the dual encoder, and with it the prompt. nil where it learns from
    /// unpaired references and generated images.
    var pairsAtOnce: Chunks? { get }
    /// Weights of version 0, fp32, by their names below the component's.
    func initialParameters(seed: UInt64, engine: any Engine) -> Parameters
    /// What the head reads, by the names of the feature table. The backbone's features are nil only if `blocks` is.
    func extract(_ features: FrozenFeatures) -> [String: Tensor]
    /// Whether it reads the prompt's pooled embedding, the feature `promptFeature`.
    var readsPrompt: Bool { get }
    /// Augmented views of each image that it trains on; 0 where it trains on the images themselves.
    var viewCount: Int { get }
    /// Constants of version 0, beside those that are fitted.
    ///
    /// - Parameter parameters: the head's own, by their names below the component's.
    func initialConstants(_ parameters: Parameters, seed: UInt64) -> Parameters
    /// Constants that an optimiser step begins with.
    func constants(before weights: HeadWeights) -> Parameters
    /// The reward, fp32 [B].
    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor
    /// Where in each image its score comes from; nil where the head cannot tell.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps?
    /// Loss on references and generated images, and the logits that tell them apart, fp32 [B] each.
    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    )
        -> HeadLoss
}

extension DiscriminatorHead {
    var standardizedWidth: Int? { nil }
    func standardizedVector(_ features: FeatureTable) -> Tensor { features[component.rawValue] }
    var relation: ReferenceRelation { .none }
    var pairsAtOnce: Chunks? { nil }
    var readsPrompt: Bool { false }
    var viewCount: Int { 0 }
    func initialConstants(_ parameters: Parameters, seed: UInt64) -> Parameters { Parameters() }
    func constants(before weights: HeadWeights) -> Parameters { Parameters() }
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? { nil }
    var prefix: String { component.rawValue + "." }
}

/// What of its prompt's references a head reads beside an image.
enum ReferenceRelation: Sendable {
    /// Nothing: f.
    case none
    /// How far f is from their mean, in place of f.
    case difference
    /// The mean of the others beside f. Where there are no others there is nothing beside f.
    case others
}

/// A head of linear layers that starts at random.
protocol RandomHead: DiscriminatorHead {
    /// Layers of the head by name, each (input, output) features.
    var layers: [(name: String, input: Int, output: Int)] { get }
}

extension RandomHead {
    /// Weights and biases uniform in ±1/√(inputs), as PyTorch initialises `Linear`, from Philox(weights; component, layer).
    func initialParameters(seed: UInt64, engine: any Engine) -> Parameters {
        var tensors: [String: Tensor] = [:]
        let component = RewardComponent.allCases.firstIndex(of: component) ?? 0
        for (number, layer) in layers.enumerated() {
            let bound = 1 / Double(layer.input).squareRoot()
            func uniform(_ shape: [Int], _ part: Int) -> Tensor {
                let stream = Philox(seed: seed, purpose: .weights, component, number, part)
                let values = (0..<shape.reduce(1, *)).map { Float((2 * stream.uniform($0) - 1) * bound) }
                return engine.tensor(values, shape: shape)
            }
            // parts from 1: the adapter's weights have part 0
            tensors[layer.name + ".weight"] = uniform([layer.output, layer.input], 1)
            tensors[layer.name + ".bias"] = uniform([layer.output], 2)
        }
        return Parameters(tensors)
    }
}

/// Loss of one head in one step.
struct HeadLoss: Sendable {
    /// A scalar.
    var loss: Tensor
    /// Logits of the references and of the generated images.
    var realLogits: Tensor, fakeLogits: Tensor
}

/// The weights of one head, and the precision it computes in. Weights stay fp32; `bfloat16` rounds them and the features.
struct HeadWeights: Sendable {
    let parameters: Parameters
    /// Constants that are fitted or followed rather than trained.
    let constants: Parameters
    let prefix: String
    let dtype: DType
    /// Share of a label that is spread evenly over both classes.
    var labelSmoothing: Float = 0

    /// The head's own weights, by their names below the component's.
    var own: Parameters {
        parameters.filtered { $0.hasPrefix(prefix) }.renamed { String($0.dropFirst(prefix.count)) }
    }

    /// A weight or constant of the head.
    func tensor(_ name: String) -> Tensor {
        guard let tensor = parameters[prefix + name] ?? constants[prefix + name] else {
            preconditionFailure("no head weight \(prefix + name)")
        }
        return tensor
    }

    /// Linear layer `name`.
    func linear(_ x: Tensor, _ name: String, activation: Activation? = nil) -> Tensor {
        TensorCore.linear(
            x.converted(to: dtype), weight: tensor(name + ".weight").converted(to: dtype),
            bias: tensor(name + ".bias").converted(to: dtype), activation: activation)
    }

    /// h(x) = Linear(GELU(Linear(x))): [..., D] -> fp32 [...]. Names are those of torch's `Sequential`.
    ///
    /// - Source: method.md 1.6.
    func perceptron(_ x: Tensor, _ scope: String = "") -> Tensor {
        let hidden = linear(x, scope + "0", activation: .geluErf)
        return linear(hidden, scope + "2").reshaped(Array(x.shape.dropLast())).converted(to: .float32)
    }

    /// `hingeLoss` with the labels' smoothing.
    func hinge(real: Tensor, fake: Tensor) -> Tensor { hingeLoss(real: real, fake: fake, smoothing: labelSmoothing) }

    /// ((x - mean) / deviation) within ±8, with the fitted constants.
    func standardized(_ x: Tensor) -> Tensor {
        ((x + -tensor("mean")) * tensor("inverseDeviation")).clamped(to: -8...8)
    }

    static func perceptronLayers(_ scope: String = "", input: Int, hidden: Int) -> [(
        name: String, input: Int, output: Int
    )] {
        [(scope + "0", input, hidden), (scope + "2", hidden, 1)]
    }
}

/// H(a, b) = ½ (mean relu(1 - a) + mean relu(1 + b)) over the logits of references a and of generated images b.
///
/// With smoothing s the labels are spread: (1 - s/2) H(a, b) + s/2 H(b, a), whose least value is still at the margins, but which rises
/// beyond them.
///
/// - Source: method.md 1.7; Szegedy et al., Rethinking the Inception Architecture, arXiv 1512.00567, section 7, for two classes.
public func hingeLoss(real: Tensor, fake: Tensor, smoothing: Float = 0) -> Tensor {
    func hinge(_ real: Tensor, _ fake: Tensor) -> Tensor {
        ((-real + 1).activated(.relu).mean() + (fake + 1).activated(.relu).mean()) * 0.5
    }
    let loss = hinge(real, fake)
    return smoothing == 0 ? loss : loss * (1 - smoothing / 2) + hinge(fake, real) * (smoothing / 2)
}

extension FeatureNormalization {
    /// x or x / (‖x‖ + ε), as the switch says for this use.
    func apply(_ x: Tensor, _ purpose: FeaturePurpose, epsilon: Float) -> Tensor {
        switch (self, purpose) {
        case (.raw, _), (.trainRawScoreUnit, .training): x
        case (.unit, _), (.trainRawScoreUnit, .score): x.unitNormalized(epsilon: epsilon)
        }
    }
}
