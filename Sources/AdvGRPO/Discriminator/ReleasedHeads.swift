import TensorCore

#if canImport(Glibc)
    import Glibc
#endif

/// `dino_cls`: r = h(c), the head on the CLS token after the final norm.
///
/// - Source: method.md 1.6, 1.7; Adv-GRPO@c752dbe `dino_cotrain_score`.
struct ClassTokenHead: RandomHead {
    let width: Int
    let hiddenWidth: Int
    let normalization: FeatureNormalization

    var component: RewardComponent { .cls }
    var blocks: [Int]? { [] }
    var layers: [(name: String, input: Int, output: Int)] {
        HeadWeights.perceptronLayers(input: width, hidden: hiddenWidth)
    }

    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        ["class": present(features.backbone).classToken_BD]
    }

    /// By attribution: the class token has no place.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? {
        images.attributed { logits(FeatureTable(extract($0)), weights, .score) }
    }

    private func logits(_ features: FeatureTable, _ weights: HeadWeights, _ purpose: FeaturePurpose) -> Tensor {
        weights.perceptron(normalization.apply(features["class"], purpose, epsilon: 0))
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        logits(features, weights, .score)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        let (a, b) = (logits(real, weights, .training), logits(fake, weights, .training))
        return HeadLoss(loss: weights.hinge(real: a, fake: b), realLogits: a, fakeLogits: b)
    }
}

/// `dino_patch`: r = 0.7 h(c) + 0.3 mean_j h(p_j) over 64 patches drawn with replacement; one head for both.
///
/// L = w_c H(h(c_ref), h(c_gen)) + w_p H(h(p_ref), h(p_gen)), the second mean over all drawn patches of all images.
/// Accuracy and logits are the CLS token's.
///
/// - Source: method.md 1.6, 1.7; Adv-GRPO@8287f90 `dino_patch_cotrain_score`, `train_sd3_fast_dino_patch.py`.
struct PatchHead: RandomHead {
    let width: Int
    let hiddenWidth: Int
    let reward: RewardSettings
    let globalLossWeight: Float
    let patchLossWeight: Float

    var component: RewardComponent { .patch }
    var blocks: [Int]? { [] }
    var layers: [(name: String, input: Int, output: Int)] {
        HeadWeights.perceptronLayers(input: width, hidden: hiddenWidth)
    }

    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        ["class": present(features.backbone).classToken_BD, "patches": present(features.backbone).patches_BND]
    }

    private func logits(
        _ features: FeatureTable, _ weights: HeadWeights, _ draws: PatchDraws, _ purpose: FeaturePurpose
    ) -> (global: Tensor, local: Tensor) {
        let patches = features["patches"]
        let (B, N, D) = (patches.shape[0], patches.shape[1], patches.shape[2])
        let drawn = patches.reshaped(B * N, D).gatheredRows(draws.rows(count: reward.patchCount, of: N))
        let normalization = reward.featureNormalization
        return (
            weights.perceptron(normalization.apply(features["class"], purpose, epsilon: 1e-6)),
            weights.perceptron(normalization.apply(drawn, purpose, epsilon: 1e-6)).reshaped(B, reward.patchCount)
        )
    }

    /// 0.7 h(c) + 0.3 h(p_n): every patch is read once, so the mean is the score that drawn patches estimate.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? {
        let (features, normalization) = (images.table, reward.featureNormalization)
        let global = weights.perceptron(normalization.apply(features["class"], .score, epsilon: 1e-6)).values
        let local = weights.perceptron(normalization.apply(features["patches"], .score, epsilon: 1e-6)).values
        let count = local.count / global.count
        return RewardMaps(
            square: global.indices.map { image in
                local[image * count..<(image + 1) * count].map {
                    reward.globalWeight * Double(global[image]) + reward.localWeight * Double($0)
                }
            })
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        let (global, local) = logits(features, weights, draws, .score)
        return global * Float(reward.globalWeight) + local.meanOverLastAxis() * Float(reward.localWeight)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        let a = logits(real, weights, realDraws, .training)
        let b = logits(fake, weights, fakeDraws, .training)
        let loss =
            weights.hinge(real: a.global, fake: b.global) * globalLossWeight
            + weights.hinge(real: a.local, fake: b.local) * patchLossWeight
        return HeadLoss(loss: loss, realLogits: a.global, fakeLogits: b.global)
    }
}

/// `dino_multilayer`: one head a block on its tokens before the final norm; per block the mean of the top fraction of patch
/// logits; blocks fused by a = softmax(Linear(s)), z = Σ a s; r = sigmoid(z / temperature).
///
/// Loss: hinge on z over drawn patches plus hinge on the same fusion of CLS logits. The score reads all patches.
///
/// - Source: method.md 1.6, 1.7; Adv-GRPO@c752dbe `train_sd3_fast_dino_multi.py`. Difference: score and loss share one image
///   normalisation.
struct MultilayerHead: RandomHead {
    let width: Int
    let hiddenWidth: Int
    let reward: RewardSettings
    let blockNumbers: [Int]

    var component: RewardComponent { .multilayer }
    var blocks: [Int]? { blockNumbers }
    var layers: [(name: String, input: Int, output: Int)] {
        blockNumbers.indices.flatMap { HeadWeights.perceptronLayers("heads.\($0).", input: width, hidden: hiddenWidth) }
            + [("fusion", blockNumbers.count, blockNumbers.count)]
    }

    func extract(_ features: FrozenFeatures) -> [String: Tensor] {
        let features = present(features.backbone)
        return Dictionary(blockNumbers.map { (name($0), blockOutput(features, $0)) }) { first, _ in first }
    }

    private func name(_ block: Int) -> String { "block.\(block)" }

    /// z from each block's score [B].
    private func fused(_ scores: [Tensor], _ weights: HeadWeights) -> Tensor {
        let s = concatenated(scores.map { $0.reshaped(-1, 1) }, axis: 1)
        return (share(scores, weights) * s).meanOverLastAxis() * Float(blockNumbers.count)
    }

    /// A place's share of z: with θ a block's k-th largest logit of N, s = θ + mean_n (N / k) max(l_n - θ, 0), so that only what
    /// exceeds the threshold tells places apart; fused by the image's own a, and r = sigmoid(z / T) to first order about z. The
    /// mean is the score.
    func maps(_ images: MappedImages, weights: HeadWeights) -> RewardMaps? {
        let layers = blockNumbers.indices.map { allLogits(images.table, weights, layer: $0, .score) }
        let (count, T) = (layers[0].shape[1], blockNumbers.count)
        let top = topCount(of: count)
        let scores = layers.map { $0.topMean(top) }
        let (shares, fused) = (share(scores, weights).values, fused(scores, weights).values)
        let logits = layers.map(\.values)
        return RewardMaps(
            square: fused.indices.map { image in
                var z = [Double](repeating: 0, count: count)
                for layer in 0..<T {
                    let own = logits[layer][image * count..<(image + 1) * count].map(Double.init)
                    let threshold = own.sorted(by: >)[top - 1]
                    let weight = Double(shares[image * T + layer])
                    for (place, logit) in own.enumerated() {
                        z[place] += weight * (threshold + Double(count) / Double(top) * max(0, logit - threshold))
                    }
                }
                let mean = Double(fused[image])
                let score = 1 / (1 + exp(-mean / reward.temperature))
                return z.map { score + score * (1 - score) / reward.temperature * ($0 - mean) }
            })
    }

    private func topCount(of patches: Int) -> Int { max(1, Int(Double(patches) * reward.topFraction)) }

    /// a from each block's score [B]: [B, T].
    private func share(_ scores: [Tensor], _ weights: HeadWeights) -> Tensor {
        let s = concatenated(scores.map { $0.reshaped(-1, 1) }, axis: 1)
        return weights.linear(s, "fusion").converted(to: .float32).softmax()
    }

    /// Logits of all of a block's patches, [B, N].
    private func allLogits(
        _ features: FeatureTable, _ weights: HeadWeights, layer: Int, _ purpose: FeaturePurpose
    ) -> Tensor {
        let tokens = features[name(blockNumbers[layer])]
        return logits(tokens.sliced(axis: 1, 1..<tokens.shape[1]), weights, layer: layer, purpose)
    }

    private func logits(_ patches: Tensor, _ weights: HeadWeights, layer: Int, _ purpose: FeaturePurpose) -> Tensor {
        weights.perceptron(
            reward.featureNormalization.apply(patches, purpose, epsilon: 1e-6), "heads.\(layer).")
    }

    /// Fused score of patches, drawn or all.
    private func patchLogits(
        _ features: FeatureTable, _ weights: HeadWeights, _ draws: PatchDraws?, _ purpose: FeaturePurpose
    ) -> Tensor {
        let scores = blockNumbers.indices.map { layer in
            guard let draws else {
                let logits = allLogits(features, weights, layer: layer, purpose)
                return logits.topMean(topCount(of: logits.shape[1]))
            }
            let tokens = features[name(blockNumbers[layer])]
            let (B, N, D) = (tokens.shape[0], tokens.shape[1] - 1, tokens.shape[2])
            let rows = draws.rows(count: min(reward.patchCount, N), of: N, layer: layer)
            let drawn = tokens.sliced(axis: 1, 1..<N + 1).reshaped(B * N, D).gatheredRows(rows).reshaped(B, -1, D)
            let logits = logits(drawn, weights, layer: layer, purpose)
            return logits.topMean(topCount(of: logits.shape[1]))
        }
        return fused(scores, weights)
    }

    private func classLogits(_ features: FeatureTable, _ weights: HeadWeights) -> Tensor {
        let scores = blockNumbers.enumerated().map { layer, block in
            let tokens = features[name(block)]
            let classToken = tokens.sliced(axis: 1, 0..<1).reshaped(tokens.shape[0], tokens.shape[2])
            return weights.perceptron(
                reward.featureNormalization.apply(classToken, .training, epsilon: 1e-6), "heads.\(layer).")
        }
        return fused(scores, weights)
    }

    func score(_ features: FeatureTable, weights: HeadWeights, draws: PatchDraws) -> Tensor {
        (patchLogits(features, weights, nil, .score) * (1 / Float(reward.temperature))).activated(.sigmoid)
    }

    func loss(
        real: FeatureTable, fake: FeatureTable, weights: HeadWeights, realDraws: PatchDraws, fakeDraws: PatchDraws
    ) -> HeadLoss {
        let a = patchLogits(real, weights, realDraws, .training)
        let b = patchLogits(fake, weights, fakeDraws, .training)
        let loss =
            weights.hinge(real: a, fake: b)
            + weights.hinge(real: classLogits(real, weights), fake: classLogits(fake, weights))
        return HeadLoss(loss: loss, realLogits: a, fakeLogits: b)
    }
}

/// Features that a head asked for.
func present(_ features: BackboneFeatures?) -> BackboneFeatures {
    guard let features else { preconditionFailure("a head that reads the backbone got no features") }
    return features
}

/// Output of one block, CLS first.
func blockOutput(_ features: BackboneFeatures, _ block: Int) -> Tensor {
    guard let tokens = features.blocks[block] else {
        preconditionFailure("the backbone gave blocks \(features.blocks.keys.sorted()), block \(block) was asked for")
    }
    return tokens
}
