public import NeuralNetworks
public import TensorCore

/// One version of the discriminator: the heads of all active components and their weights. A value, so that images can be
/// scored with one version while the next is trained.
public struct Discriminator: Sendable {
    /// Number of trainings so far.
    public internal(set) var version: Int
    /// Trained weights of all heads, fp32, named `COMPONENT.NAME`.
    public internal(set) var parameters: Parameters
    /// Constants: fitted ones, named `COMPONENT.mean` and `COMPONENT.inverseDeviation`, and those that heads follow their
    /// weights with.
    public internal(set) var constants: Parameters

    let heads: [any DiscriminatorHead]
    let rewardWeights: RewardWeights
    let dtype: DType
    let seed: UInt64
    /// The backbone's trained end; nil where the backbone is frozen.
    let tuned: TunedBackbone?
    private let labelSmoothing: Float

    /// The untrained version 0.
    ///
    /// Heads begin at random, tuned layers as their files have them.
    ///
    /// - Parameters:
    ///   - reward: components and their weights.
    ///   - discriminator: heads and their training.
    ///   - backbone: width and depth of what the heads read.
    ///   - encoder: what `pickscore_adversarial` tunes; needed where its weight is above 0.
    ///   - promptWidth: length of a prompt's pooled embedding; needed where a component reads it.
    ///   - tuned: what of the backbone is trained as well; nil for a frozen one.
    ///   - seed: of the run; it draws the heads.
    ///   - engine: what computes.
    /// - Throws: `SettingViolation` for a block the backbone does not have.
    public init(
        reward: RewardSettings, discriminator: DiscriminatorSettings, backbone: BackboneShape,
        encoder: TunedEncoder? = nil, promptWidth: Int? = nil, tuned: TunedBackbone? = nil, seed: UInt64,
        engine: any Engine
    ) throws(SettingViolation) {
        var heads: [any DiscriminatorHead] = []
        let request = HeadRequest(
            reward: reward, discriminator: discriminator, backbone: backbone, encoder: encoder, promptWidth: promptWidth
        )
        for case .head(let make) in reward.weights.active.map(\.origin) { heads.append(try make(request)) }
        if let tuned { try tuned.check(heads) }
        self.tuned = tuned
        self.heads = heads
        rewardWeights = reward.weights
        dtype = discriminator.precision == .bf16 ? .bfloat16 : .float32
        self.seed = seed
        labelSmoothing = Float(discriminator.labelSmoothing)
        version = 0
        parameters = Self.initialParameters(heads, seed: seed, engine: engine)
        if let tuned { parameters = parameters.merging(tuned.parameters.renamed { Self.backbonePrefix + $0 }) }
        constants = Self.initialConstants(heads, engine: engine)
        for head in heads {
            let own = head.initialConstants(weights(head, parameters).own, seed: seed)
            constants = constants.merging(own.renamed { head.prefix + $0 })
        }
    }

    private static func initialParameters(_ heads: [any DiscriminatorHead], seed: UInt64, engine: any Engine)
        -> Parameters
    {
        heads.reduce(Parameters()) { all, head in
            all.merging(head.initialParameters(seed: seed, engine: engine).renamed { head.prefix + $0 })
        }
    }

    private static func initialConstants(_ heads: [any DiscriminatorHead], engine: any Engine) -> Parameters {
        var tensors: [String: Tensor] = [:]
        for head in heads {
            guard let width = head.standardizedWidth else { continue }
            tensors[head.prefix + "mean"] = engine.zeros([width])
            tensors[head.prefix + "inverseDeviation"] = engine.tensor(
                [Float](repeating: 1, count: width), shape: [width])
        }
        return Parameters(tensors)
    }

    /// Images that are scored at once.
    private static let chunks = Chunks(size: 8)

    /// The reward of each component that has a head, fp32 [B] each; pieces of a table run on the lanes.
    public func scores(_ features: FeatureTable, draws: PatchDraws, lanes: Lanes = Lanes(count: 1))
        -> [RewardComponent: [Float]]
    {
        let ranges = Self.chunks.ranges(features.count)
        let pieces = lanes.map(ranges.count) { piece in
            let table = withBackbone(features.rows(ranges[piece]), parameters)
            let draws = draws.images(ranges[piece])
            return heads.map { $0.score(table, weights: weights($0, parameters), draws: draws).values }
        }
        return Dictionary(
            uniqueKeysWithValues: heads.enumerated().map { number, head in
                (head.component, pieces.flatMap { $0[number] })
            })
    }

    /// The adversarial part of the reward: the weighted sum of the heads' scores.
    public func adversarialScores(_ features: FeatureTable, draws: PatchDraws, lanes: Lanes = Lanes(count: 1))
        -> [Float]
    {
        let scores = scores(features, draws: draws, lanes: lanes)
        return (0..<features.count).map { image in
            Float(heads.reduce(0) { $0 + rewardWeights[$1.component] * Double(scores[$1.component]?[image] ?? 0) })
        }
    }

    /// The adversarial part of the reward, added up over the images: a scalar that is tracked where features are.
    ///
    /// - Precondition: there are heads.
    func adversarialSum(_ features: FeatureTable, draws: PatchDraws) -> Tensor {
        let table = withBackbone(features, parameters)
        let sums = heads.map {
            $0.score(table, weights: weights($0, parameters), draws: draws).sum() * Float(rewardWeights[$0.component])
        }
        return sums.dropFirst().reduce(sums[0], +)
    }

    /// Sum of the heads' weights in the reward.
    var adversarialWeight: Double { heads.reduce(0) { $0 + rewardWeights[$1.component] } }

    func weights(_ head: any DiscriminatorHead, _ parameters: Parameters) -> HeadWeights {
        HeadWeights(
            parameters: parameters, constants: constants, prefix: head.prefix, dtype: dtype,
            labelSmoothing: labelSmoothing)
    }

    /// What heads follow their weights with, before a step.
    mutating func followWeights() {
        for head in heads {
            let own = head.constants(before: weights(head, parameters))
            constants = constants.merging(own.renamed { head.prefix + $0 })
        }
    }

    /// Fits the constants of standardising heads: the middle of both classes' means and the root of their mean variance.
    mutating func fitConstants(real: FeatureTable, fake: FeatureTable) {
        var fitted: [String: Tensor] = [:]
        for head in heads where head.standardizedWidth != nil {
            let (a, b) = (head.standardizedVector(real), head.standardizedVector(fake))
            let width = a.shape[1]
            let (first, second) = (a.values, b.values)
            let columns = (0..<width).map { column in
                (
                    Moments(stride(from: column, to: first.count, by: width).map { Double(first[$0]) }),
                    Moments(stride(from: column, to: second.count, by: width).map { Double(second[$0]) })
                )
            }
            fitted[head.prefix + "mean"] = a.engine.tensor(
                columns.map { Float(($0.mean + $1.mean) / 2) }, shape: [width])
            let inverse = columns.map { a, b in
                let variance = (a.deviation * a.deviation + b.deviation * b.deviation) / 2
                return Float(1 / (variance.squareRoot() + 1e-4))
            }
            fitted[head.prefix + "inverseDeviation"] = a.engine.tensor(inverse, shape: [width])
        }
        constants = constants.merging(Parameters(fitted))
    }
}
