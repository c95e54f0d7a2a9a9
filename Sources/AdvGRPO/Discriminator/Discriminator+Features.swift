public import TensorCore

/// What the discriminator reads of generated images and of references.
///
/// Relative heads compare an image with its prompt's R references, and must not tell the classes apart by who was compared with
/// whom. A reference takes part in the mean m of all. Heads of differences read f - m: a reference's (f - m) √((R + 1) / (R - 1))
/// has the variance that the difference of an image of the same kind, but outside of m, has. Heads of `others` read f and m, where
/// no one factor is enough: a reference is seen beside the mean of the other R - 1, and a generated image beside the mean of R - 1
/// as well, one being left out that the group draws. So an image of the same kind as the references, and its others, are
/// distributed as a reference and its others are, whatever R is; and since each reference is left out equally often, no set of
/// others is one of references alone.
extension Discriminator {
    /// Features of all reference images of one prompt.
    ///
    /// - Parameters:
    ///   - images_BHWC: [R, H, W, 3] in [0, 1]; at least two if a head reads differences.
    ///   - prompt: the images' prompt.
    ///   - purpose: what the features are for.
    ///   - networks: what computes features.
    public func referenceFeatures(
        of images_BHWC: Tensor, prompt: String, purpose: FeaturePurpose, networks: FrozenNetworks
    ) -> FeatureTable {
        let table = features(of: images_BHWC, prompt: prompt, purpose: purpose, networks: networks)
        let R = Float(table.count)
        var tensors = table.tensors
        for (name, relation) in relations {
            let mean = table[name].transposed(1, 0).meanOverLastAxis().reshaped(-1)
            switch relation {
            case .none: break
            case .difference:
                precondition(table.count >= 2, "\(name): one reference has no others to differ from")
                tensors[name] = (table[name] + -mean) * ((R + 1) / (R - 1)).squareRoot()
                tensors[name + centreSuffix] = concatenated(
                    (0..<table.count).map { _ in mean.reshaped(1, -1) }, axis: 0)
            case .others:
                tensors[name + othersSuffix] = othersMeans(table[name], mean: mean)
            }
        }
        let relative = FeatureTable(tensors)
        guard purpose == .training else { return relative }
        return addingViews(to: relative, of: images_BHWC, prompt: prompt, networks: networks)
    }

    /// Features of images generated from one prompt.
    ///
    /// - Parameters:
    ///   - images_BHWC: [B, H, W, 3] in [0, 1].
    ///   - group: the images'; it draws the reference that is left out of the others.
    ///   - prompt: the images' prompt.
    ///   - purpose: what the features are for.
    ///   - networks: what computes features.
    ///   - seed: of the run.
    ///   - followed: whether features of tracked images are tracked.
    ///   - ownReferences: `referenceFeatures` of the prompt's references; not called unless a head is relative.
    /// - Throws: what `ownReferences` throws.
    public func generatedFeatures(
        of images_BHWC: Tensor, group: GroupID, prompt: String, purpose: FeaturePurpose, networks: FrozenNetworks,
        seed: UInt64, followed: Bool = false, ownReferences: () throws -> FeatureTable
    ) rethrows -> FeatureTable {
        let table = features(
            of: images_BHWC, prompt: prompt, purpose: purpose, networks: networks, followed: followed)
        if relations.isEmpty { return table }
        let ownReferences = try ownReferences()
        let leftOut = group.noise(seed: seed, purpose: .references).integer(0, below: ownReferences.count)
        var tensors = table.tensors
        for (name, relation) in relations {
            switch relation {
            case .none: break
            case .difference:
                tensors[name] = table[name] + -ownReferences[name + centreSuffix].rows(0..<1).reshaped(-1)
            case .others:
                let rows = [Int](repeating: leftOut, count: table.count)
                tensors[name + othersSuffix] = ownReferences.rows(rows)[name + othersSuffix]
            }
        }
        return FeatureTable(tensors)
    }

    private var relations: [(name: String, relation: ReferenceRelation)] {
        heads.filter { $0.relation != .none }.map { ($0.component.rawValue, $0.relation) }
    }

    /// For each reference the mean of the others and 1; zeros where there are no others: [R, D] -> [R, D + 1].
    private func othersMeans(_ features_RD: Tensor, mean: Tensor) -> Tensor {
        let (R, D) = (features_RD.shape[0], features_RD.shape[1])
        let engine = features_RD.engine
        if R == 1 { return engine.zeros([1, D + 1]) }
        let means = (-features_RD + mean * Float(R)) * (1 / Float(R - 1))
        return concatenated([means, engine.zeros([R, 1]) + 1], axis: 1)
    }

    /// What the active components read of images of one prompt. A network runs once, and only if a component reads it.
    func features(
        of images_BHWC: Tensor, prompt: String, purpose: FeaturePurpose, networks: FrozenNetworks,
        followed: Bool = false
    ) -> FeatureTable {
        // What a trained backbone gives is computed when it is needed.
        let reading = tuned == nil ? heads : heads.filter { $0.blocks == nil }
        let blocks = Set(reading.compactMap(\.blocks).joined()).sorted()
        let readsFrozen = readsClassToken || reading.contains { $0.blocks != nil }
        let features = FrozenFeatures(
            images_BHWC: images_BHWC,
            backbone: readsFrozen ? networks.backbone(images_BHWC, blocks, purpose) : nil,
            trunk: readsPairs ? networks.trunk?(images_BHWC, prompt) : nil)
        var tensors: [String: Tensor] = readsClassToken ? ["class": present(features.backbone).classToken_BD] : [:]
        for head in reading { tensors.merge(head.extract(features)) { first, _ in first } }
        tensors.merge(frozenStates(of: images_BHWC, purpose: purpose, networks: networks)) { first, _ in first }
        if heads.contains(where: \.readsPrompt) {
            guard let pooled = networks.prompt?(prompt) else {
                preconditionFailure("a head that reads the prompt got none")
            }
            tensors[promptFeature] = concatenated(
                [Tensor](repeating: pooled.reshaped(1, -1), count: images_BHWC.shape[0]), axis: 0)
        }
        return FeatureTable(tensors.mapValues { (followed ? $0 : $0.detached).converted(to: .float32) })
    }

    /// The maps of each component whose head can tell where scores come from.
    ///
    /// - Parameters:
    ///   - images_BHWC: a group's, [M, H, W, 3] in [0, 1].
    ///   - table: what they were scored by.
    func maps(
        of images_BHWC: Tensor, table: FeatureTable, networks: FrozenNetworks, attribution: Attribution
    ) -> [RewardComponent: RewardMaps] {
        var maps: [RewardComponent: RewardMaps] = [:]
        let table = withBackbone(table, lanes: attribution.lanes)
        for head in heads {
            let images = MappedImages(
                images_BHWC: images_BHWC, table: table, read: reader(networks, blocks: head.blocks),
                attribution: attribution)
            maps[head.component] = head.maps(images, weights: weights(head, parameters))
        }
        return maps
    }

    /// What the backbone says of images, as scores are computed; nothing of the dual encoder.
    static func reader(_ networks: FrozenNetworks, blocks: [Int]?) -> @Sendable (Tensor) -> FrozenFeatures {
        { images_BHWC in
            FrozenFeatures(
                images_BHWC: images_BHWC, backbone: blocks.map { networks.backbone(images_BHWC, $0, .score) },
                trunk: nil)
        }
    }

    private var readsClassToken: Bool {
        rewardWeights.active.contains { if case .classTokens = $0.origin { true } else { false } }
    }

    /// Whether a component reads the backbone, which may be asked to prepare images in two ways.
    var readsBackbone: Bool { readsClassToken || heads.contains { $0.blocks != nil } }

    /// Whether a component reads images together with their prompt, and learns from pairs of one prompt.
    var readsPairs: Bool { heads.contains { $0.pairsAtOnce != nil } }
}

/// The mean of all references, in tables of references.
let centreSuffix = ".centre"

/// The prompt's pooled embedding, a row an image, fp32 [B, P].
let promptFeature = "prompt"
/// What an image is compared with, in all tables.
let othersSuffix = ".others"
