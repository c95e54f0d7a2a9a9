public import TensorCore

/// The rewards of one group.
public struct RewardScores: Sendable, Equatable {
    /// Version of the discriminator that gave them.
    public let version: Int
    /// Weighted sums, one a member.
    public let rewards: [Float]
    /// Each active component, unweighted, in order of declaration.
    public let components: [Component]

    /// One component's values.
    public struct Component: Sendable, Equatable {
        /// Which.
        public let component: RewardComponent
        /// One a member.
        public let values: [Float]
    }
}

/// Scores groups of generated images: Σ w_k r_k over the active components.
///
/// - Source: method.md 1.6. Differences: patches are drawn by (epoch, group, member); see docs/method.md.
public struct AdversarialReward: Sendable {
    private let settings: RewardSettings
    private let references: ReferenceImages
    private let seed: UInt64

    /// - Parameters:
    ///   - settings: weights and what heads see, validated.
    ///   - references: of the run's prompts.
    ///   - seed: of the run; it draws patches.
    public init(settings: RewardSettings, references: ReferenceImages, seed: UInt64) {
        self.settings = settings
        self.references = references
        self.seed = seed
    }

    /// Features of a group's images: to score, and to remember for the discriminator's training.
    ///
    /// - Parameters:
    ///   - images_BHWC: [members, H, W, 3] in [0, 1].
    ///   - group: the group.
    ///   - prompt: what they were generated from.
    ///   - discriminator: whose heads and layers say what is needed.
    ///   - networks: what computes features.
    /// - Throws: `MissingReferences`, or what reading references throws.
    public func features(
        of images_BHWC: Tensor, group: GroupID, prompt: String, discriminator: Discriminator, networks: FrozenNetworks
    ) throws -> (score: FeatureTable, training: FeatureTable) {
        func features(_ purpose: FeaturePurpose) throws -> FeatureTable {
            try discriminator.generatedFeatures(
                of: images_BHWC, group: group, prompt: prompt, purpose: purpose, networks: networks, seed: seed
            ) {
                try references.features(references.images(of: prompt), purpose)
            }
        }
        let score = try features(.score)
        let preparesTwice = settings.resize == .trainPILScoreTensor && discriminator.readsBackbone
        let training = preparesTwice ? try features(.training) : score
        return (
            score,
            discriminator.addingViews(to: training, of: images_BHWC, prompt: prompt, networks: networks)
        )
    }

    /// The rewards of a whole group, member 0 first.
    ///
    /// - Parameters:
    ///   - group: the group.
    ///   - prompt: the images' prompt.
    ///   - features: what `features` gave for scoring.
    ///   - discriminator: the version that scores.
    ///   - frozen: scores of every active frozen component, one a member; each is divided by `divisor` here.
    ///   - lanes: pieces of the group run on them.
    /// - Throws: `MissingReferences`, `NumericalFailure`, or what reading references throws.
    public func score(
        _ group: GroupID, prompt: String, features: FeatureTable, discriminator: Discriminator,
        frozen: [RewardComponent: [Float]] = [:], lanes: Lanes = Lanes(count: 1)
    ) throws -> RewardScores {
        let draws = patchDraws(of: group, count: features.count)
        let ownReferences = try references.images(of: prompt)
        var values = discriminator.scores(features, draws: draws, lanes: lanes)
        for component in settings.weights.active {
            guard case .classTokens(let compared, _) = component.origin else { continue }
            values[component] = compared(
                features["class"], try references.features(ownReferences, .score)["class"])
        }
        for (component, scores) in frozen { values[component] = scores.map { $0 / component.divisor } }
        let components = settings.weights.active.map { RewardScores.Component(component: $0, values: values[$0] ?? []) }
        let rewards = (0..<features.count).map { member in
            Float(components.reduce(0) { $0 + settings.weights[$1.component] * Double($1.values[member]) })
        }
        guard rewards.allSatisfy(\.isFinite) else {
            throw NumericalFailure(
                "not finite: rewards of group \(group), discriminator \(discriminator.version), seed \(seed)")
        }
        return RewardScores(version: discriminator.version, rewards: rewards, components: components)
    }

    /// The gradient of the discriminator's part of each image's reward with respect to the image; nil where none of its heads is a
    /// differentiable function of the images: statistics of pixels are taken on the host, and 8-bit images have no gradient.
    ///
    /// - Parameters:
    ///   - images_BHWC: [members, H, W, 3] in [0, 1].
    ///   - group: the group.
    ///   - prompt: what they were generated from.
    ///   - discriminator: the version that scores.
    ///   - networks: what computes features.
    /// - Returns: fp32 [members, H, W, 3].
    /// - Throws: `MissingReferences`, or what reading references throws.
    public func gradient(
        of images_BHWC: Tensor, group: GroupID, prompt: String, discriminator: Discriminator, networks: FrozenNetworks
    ) throws -> Tensor? {
        let leaf = images_BHWC.detached.tracked()
        let features = try discriminator.generatedFeatures(
            of: leaf, group: group, prompt: prompt, purpose: .score, networks: networks, seed: seed, followed: true
        ) {
            try references.features(references.images(of: prompt), .score)
        }
        return discriminator.adversarialSum(features, draws: patchDraws(of: group, count: leaf.shape[0]))
            .gradients()[leaf]
    }

    /// The patches that are read of each of a group's images.
    func patchDraws(of group: GroupID, count: Int) -> PatchDraws {
        PatchDraws((0..<count).map { group.noise(seed: seed, purpose: .patches, member: $0) })
    }
}

extension AdversarialReward {
    /// Where in each image of a group its reward comes from: Σ w_k times the maps of the active components. A component that
    /// cannot tell counts alike at every place.
    ///
    /// - Parameters:
    ///   - images_BHWC: [M, H, W, 3] in [0, 1].
    ///   - scores: theirs.
    ///   - features: what they were scored by.
    ///   - frozen: maps of frozen components that have some; each is divided by `divisor` here.
    /// - Returns: on a grid as fine as the finest component's.
    /// - Throws: `MissingReferences`, `NumericalFailure`, or what reading references throws.
    public func maps(
        of images_BHWC: Tensor, prompt: String, scores: RewardScores, features: FeatureTable,
        discriminator: Discriminator, networks: FrozenNetworks, frozen: [RewardComponent: RewardMaps] = [:],
        attribution: Attribution
    ) throws -> RewardMaps {
        var maps = discriminator.maps(
            of: images_BHWC, table: features, networks: networks, attribution: attribution)
        for (component, own) in frozen { maps[component] = .sum([(1 / Double(component.divisor), own)]) }
        for component in settings.weights.active {
            guard case .classTokens = component.origin else { continue }
            let own = try references.features(references.images(of: prompt), .score)["class"]
            let images = MappedImages(
                images_BHWC: images_BHWC, table: features, read: Discriminator.reader(networks, blocks: []),
                attribution: attribution)
            maps[component] = images.attributed { cosines(present($0.backbone).classToken_BD, own).topMean(1) }
        }
        let everywhere = PatchGrid(rows: 1, columns: 1)
        let sum = RewardMaps.sum(
            scores.components.map {
                (settings.weights[$0.component], maps[$0.component] ?? RewardMaps(grid: everywhere, flat: $0.values))
            })
        guard sum.values.allSatisfy({ $0.allSatisfy(\.isFinite) }) else {
            throw NumericalFailure(
                "not finite: reward maps of \"\(prompt)\", discriminator \(discriminator.version), seed \(seed)")
        }
        return sum
    }
}

/// Cosine of each image's features to each of the references': [B, D], [R, D] -> [B, R].
private func cosines(_ features_BD: Tensor, _ references_RD: Tensor) -> Tensor {
    linear(features_BD.unitNormalized(), weight: references_RD.unitNormalized())
}

/// Largest cosine of each image's features to any of the references': [B, D], [R, D] -> B values.
///
/// - Source: method.md 1.6 `image_similarity`.
public func nearestSimilarity(_ features_BD: Tensor, _ references_RD: Tensor) -> [Float] {
    let (values, R) = (cosines(features_BD, references_RD).values, references_RD.shape[0])
    return (0..<features_BD.shape[0]).map { row in values[row * R..<(row + 1) * R].max() ?? 0 }
}
