import NeuralNetworks
import TensorCore

// Legend: B images, N patches, D width of the backbone, C channels of a head, P width of a prompt's embedding, M of its projection.

/// `dino_projected`: one small convolutional head a block, on its patch tokens laid out as a grid, told the prompt.
///
/// A head at block k reads x = patches + class token, [N, D]: h = act(norm(conv₁ x)), then h ← (h + act(norm(conv₃ h))) / √2, then
/// its logits l_n = ⟨out h_n, map ĉ⟩ / √M at every patch, with ĉ the prompt's pooled embedding scaled to a mean square of 1. conv₁,
/// conv₃ and out are divided by their spectral norms. Loss: the hinge over all logits of all heads. Score: their mean. Training
/// reads augmented views of references and generated images (`ImageAugmentation`), drawn anew for every image of a step.
///
/// - Source: StyleGAN-T (arXiv 2301.09515) `networks/discriminator.py`, which ADD (arXiv 2311.17042) and SD-Turbo take over.
///   Differences: conv₃ is 3 x 3 on the grid, where StyleGAN-T's is 9 long on the grid's rows laid end to end: as many weights, and
///   neighbours are neighbours; `norm` is a group norm, not one over eight images of a batch, so that a score depends on its
///   image alone; no crops, since images are as large as the backbone wants them.
struct ProjectedHead: DiscriminatorHead {
    let width: Int
    let channels: Int
    let promptWidth: Int
    let blockNumbers: [Int]
    let viewCount: Int

    /// M.
    static let mapWidth = 64
    static let slope: Float = 0.2
    /// What PyTorch does to a matrix that it has not seen before.
    private static let firstIterations = 15

    var component: RewardComponent { .projected }
    var blocks: [Int]? { blockNumbers }
    var readsPrompt: Bool { true }

    /// Groups of the norm: the most, up to 32, of eight channels and more. One of few channels would take away how bright an
    /// image is in each of them, which tells.
    private var groupCount: Int { (1...max(1, min(32, channels / 8))).last { channels % $0 == 0 } ?? 1 }

    /// The trained layers of a head by name, with the shapes of their weights.
    private var layers: [(name: String, shape: [Int])] {
        blockNumbers.indices.flatMap { head in
            [
                ("heads.\(head).first", [channels, width]), ("heads.\(head).second", [channels, channels, 3, 3]),
                ("heads.\(head).out", [Self.mapWidth, channels]), ("heads.\(head).map", [Self.mapWidth, promptWidth]),
            ]
        }
    }

    private static func isSpectral(_ layer: String) -> Bool { !layer.hasSuffix(".map") }

    // MARK: Weights

    /// Uniform in ±1/√(inputs), as PyTorch initialises `Linear` and `Conv2d`; norms begin as 1 and 0.
    func initialParameters(seed: UInt64, engine: any Engine) -> Parameters {
        var tensors: [String: Tensor] = [:]
        for (number, layer) in layers.enumerated() {
            let bound = 1 / Double(layer.shape.dropFirst().reduce(1, *)).squareRoot()
            func uniform(_ shape: [Int], _ part: Int) -> Tensor {
                let stream = stream(seed, number, part)
                return engine.tensor(
                    (0..<shape.reduce(1, *)).map { Float((2 * stream.uniform($0) - 1) * bound) }, shape: shape)
            }
            tensors[layer.name + ".weight"] = uniform(layer.shape, 1)
            tensors[layer.name + ".bias"] = uniform([layer.shape[0]], 2)
        }
        for head in blockNumbers.indices {
            for norm in ["heads.\(head).firstNorm", "heads.\(head).secondNorm"] {
                tensors[norm + ".weight"] = engine.tensor([Float](repeating: 1, count: channels), shape: [channels])
                tensors[norm + ".bias"] = engine.zeros([channels])
            }
        }
        return Parameters(tensors)
    }

    /// Singular vectors from random ones: as good as PyTorch's, which iterates as often.
    func initialConstants(_ parameters: Parameters, seed: UInt64) -> Parameters {
        var tensors: [String: Tensor] = [:]
        for (number, layer) in layers.enumerated() where Self.isSpectral(layer.name) {
            guard let weight = parameters[layer.name + ".weight"] else { continue }
            func direction(_ count: Int, _ part: Int) -> Tensor {
                weight.engine.tensor(stream(seed, number, part).normals(count), shape: [count]).unitNormalized()
            }
            let (rows, columns) = (layer.shape[0], layer.shape.dropFirst().reduce(1, *))
            let vectors = SingularVectors(left_N: direction(rows, 3), right_K: direction(columns, 4))
            tensors.merge(named(vectors.iterated(Self.firstIterations, on: weight), layer.name)) { _, new in new }
        }
        return Parameters(tensors)
    }

    /// One power iteration, as PyTorch makes one in every forward pass that trains.
    func constants(before weights: HeadWeights) -> Parameters {
        var tensors: [String: Tensor] = [:]
        for layer in layers where Self.isSpectral(layer.name) {
            let vectors = vectors(of: layer.name, weights).iterated(1, on: weights.tensor(layer.name + ".weight"))
            tensors.merge(named(vectors, layer.name)) { _, new in new }
        }
        return Parameters(tensors)
    }

    private func stream(_ seed: UInt64, _ layer: Int, _ part: Int) -> Philox {
        Philox(
            seed: seed, purpose: .weights, RewardComponent.allCases.firstIndex(of: component) ?? 0, layer, part)
    }

    private func named(_ vectors: SingularVectors, _ layer: String) -> [String: Tensor] {
        [layer + ".left": vectors.left_N, layer + ".right": vectors.right_K]
    }

    private func vectors(of layer: String, _ weights: HeadWeights) -> SingularVectors {
        SingularVectors(
            left_N: weights.tensor(layer + ".left"), right_K: weights.tensor(layer + ".right"))
    }

    // MARK: Features

    /// Patches plus class token of each block, [B, N, D].
    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        Dictionary(
            blockNumbers.map { block in
                let tokens = blockOutput(present(features.backbone), block)
                let N = tokens.shape[1] - 1
                let classToken = tokens.sliced(axis: 1, 0..<1)
                return (
                    name(block),
                    tokens.sliced(axis: 1, 1..<N + 1)
                        + concatenated([Tensor](repeating: classToken, count: N), axis: 1)
                )
            }
        ) { first, _ in first }
    }

    private func name(_ block: Int) -> String { "\(component.rawValue).\(block)" }

    // MARK: Logits

    /// Of all patches, one tensor [B, N] a head.
    private func logits(_ features: FeatureTable, _ weights: HeadWeights) -> [Tensor] {
        let prompts = features[promptFeature].unitNormalized(epsilon: 1e-12) * Float(promptWidth).squareRoot()
        return blockNumbers.enumerated().map { head, block in
            let (scope, x) = ("heads.\(head).", features[name(block)])
            let (B, N) = (x.shape[0], x.shape[1])
            let grid = PatchGrid(square: N)
            func norm(_ x: Tensor, _ name: String) -> Tensor {
                leaky(
                    groupNorm(
                        x.reshaped(B, N, channels), groupCount: groupCount,
                        weight: weights.tensor(scope + name + ".weight"), bias: weights.tensor(scope + name + ".bias"),
                        epsilon: 1e-5))
            }
            let first = norm(spectral(x, scope + "first", weights), "firstNorm")
            let laidOut = first.reshaped(B, grid.rows, grid.columns, channels)
            // The kernels of a convolution compute in fp32; weights are rounded as everywhere.
            let second = norm(
                convolution(
                    laidOut,
                    weight: normalized(scope + "second", weights).converted(to: weights.dtype).converted(to: .float32),
                    bias: weights.tensor(scope + "second.bias"), geometry: ConvolutionGeometry(padding: 1)),
                "secondNorm")
            let out = spectral((first + second) * Float(0.5).squareRoot(), scope + "out", weights)
            let map = weights.linear(prompts, scope + "map").converted(to: .float32)
            let maps = map.gatheredRows((0..<B * N).map { Int32($0 / N) })
            let products = out.reshaped(B * N, Self.mapWidth) * maps
            return (products.meanOverLastAxis() * Float(Self.mapWidth).squareRoot()).reshaped(B, N)
        }
    }

    private func leaky(_ x: Tensor) -> Tensor { x * Self.slope + x.activated(.relu) * (1 - Self.slope) }

    private func normalized(_ layer: String, _ weights: HeadWeights) -> Tensor {
        spectrallyNormalized(weights.tensor(layer + ".weight"), by: vectors(of: layer, weights))
    }

    /// A linear layer by its spectral norm, -> fp32.
    private func spectral(_ x: Tensor, _ layer: String, _ weights: HeadWeights) -> Tensor {
        linear(
            x.converted(to: weights.dtype), weight: normalized(layer, weights).converted(to: weights.dtype),
            bias: weights.tensor(layer + ".bias").converted(to: weights.dtype)
        ).converted(to: .float32)
    }

    // MARK: Score and loss

    /// The heads' logits at every patch, averaged over the heads: [B, N].
    private func meanLogits(_ features: FeatureTable, _ weights: HeadWeights) -> Tensor {
        let logits = logits(features, weights)
        return logits.dropFirst().reduce(logits[0], +) * (1 / Float(logits.count))
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        meanLogits(features, weights).meanOverLastAxis()
    }

    /// The mean logit at every patch, whose mean is the score.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? {
        let logits = meanLogits(images.table, weights)
        return RewardMaps(grid: PatchGrid(square: logits.shape[1]), floats: logits.values)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        let (a, b) = (
            concatenated(logits(real, weights), axis: 1), concatenated(logits(fake, weights), axis: 1)
        )
        return HeadLoss(
            loss: weights.hinge(real: a, fake: b), realLogits: a.meanOverLastAxis(), fakeLogits: b.meanOverLastAxis())
    }
}
