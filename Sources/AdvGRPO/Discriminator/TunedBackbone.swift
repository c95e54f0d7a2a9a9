public import NeuralNetworks
public import TensorCore

/// The trained end of the backbone, for heads that learn together with what they read.
public struct TunedBackbone: Sendable {
    /// Features from what the trained blocks read, [B, T, D], with the outputs of the blocks asked for, none of them before the
    /// first trained one. The precision is that of the blocks' arithmetic.
    public typealias Features =
        @Sendable (_ states_BTD: Tensor, _ blocks: [Int], _ parameters: Parameters, _ dtype: DType) -> BackboneFeatures

    /// What is trained, before the first step, fp32.
    public let parameters: Parameters
    /// Number of the first trained block, from 0.
    public let firstBlock: Int
    /// Images computed at once.
    public let chunks: Chunks
    /// See `Features`.
    public let features: Features

    /// All parts.
    public init(parameters: Parameters, firstBlock: Int, chunks: Chunks, features: @escaping Features) {
        self.parameters = parameters
        self.firstBlock = firstBlock
        self.chunks = chunks
        self.features = features
    }

    /// Some heads can learn with it.
    func check(_ heads: [any DiscriminatorHead]) throws(SettingViolation) {
        let readers = heads.filter { $0.blocks != nil }
        if let head = readers.first(where: { $0.relation != .none }) {
            throw SettingViolation(
                path: "discriminator.backbone",
                message:
                    "must be frozen with \(head.component.rawValue) relative to references, whose features are kept")
        }
        // Heads without blocks of their own read what comes after the last one.
        let last = readers.compactMap(\.blocks).map { $0.max() ?? .max }.max() ?? 0
        guard last >= firstBlock else {
            throw SettingViolation(
                path: "discriminator.backboneBlocks",
                message:
                    "trains the blocks from \(firstBlock) on, and the reward reads none after \(last); train more, "
                    + "or read a later one")
        }
    }
}

/// Features of a backbone whose end is trained: a table keeps what no training changes, `backbone.states` (what the first
/// trained block reads) and `backbone.block.N` (outputs of blocks before it), and what the heads read of the rest is computed
/// whenever it is needed.
extension Discriminator {
    static let backbonePrefix = "backbone."
    private static let statesName = "backbone.states"
    private static func blockName(_ block: Int) -> String { "backbone.block.\(block)" }

    /// The trained parameters of the backbone by their names below its prefix.
    private static func own(_ parameters: Parameters) -> Parameters {
        parameters.filtered { $0.hasPrefix(backbonePrefix) }.renamed { String($0.dropFirst(backbonePrefix.count)) }
    }

    private var tunedHeads: [any DiscriminatorHead] { tuned == nil ? [] : heads.filter { $0.blocks != nil } }

    /// Blocks that heads read, before the first trained one and from it on.
    private func blocks(_ tuned: TunedBackbone) -> (frozen: [Int], trained: [Int]) {
        let all = Set(tunedHeads.compactMap(\.blocks).joined()).sorted()
        return (all.filter { $0 < tuned.firstBlock }, all.filter { $0 >= tuned.firstBlock })
    }

    /// What a table keeps of images in place of the features of heads that read a trained backbone; nothing where it is frozen.
    func frozenStates(of images_BHWC: Tensor, purpose: FeaturePurpose, networks: FrozenNetworks) -> [String: Tensor] {
        guard let tuned, !tunedHeads.isEmpty else { return [:] }
        guard let states = networks.states else { preconditionFailure("a trained backbone without its frozen part") }
        var kept = [Self.statesName: states(images_BHWC, purpose)]
        let blocks = blocks(tuned).frozen
        if blocks.isEmpty { return kept }
        let features = networks.backbone(images_BHWC, blocks, purpose)
        for block in blocks { kept[Self.blockName(block)] = blockOutput(features, block) }
        return kept
    }

    /// What heads read of the backbone, from what a table keeps; nothing where the backbone is frozen.
    private func trainedFeatures(
        _ kept: [String: Tensor], _ parameters: Parameters
    ) -> [String: Tensor] {
        guard let tuned, let states = kept[Self.statesName] else { return [:] }
        let blocks = blocks(tuned)
        var features = tuned.features(states, blocks.trained, Self.own(parameters), dtype)
        for block in blocks.frozen { features.blocks[block] = kept[Self.blockName(block)] }
        let read = FrozenFeatures(images_BHWC: states, backbone: features, trunk: nil)
        return tunedHeads.reduce(into: [:]) { $0.merge($1.extract(read)) { first, _ in first } }
    }

    /// A table with the features of the trained backbone, of these or of tracked parameters; the table itself where the backbone
    /// is frozen.
    func withBackbone(_ table: FeatureTable, _ parameters: Parameters) -> FeatureTable {
        guard tuned != nil else { return table }
        return FeatureTable(table.tensors.merging(trainedFeatures(table.tensors, parameters)) { $1 })
    }

    /// The same for many images: pieces of them run on the lanes.
    func withBackbone(_ table: FeatureTable, lanes: Lanes) -> FeatureTable {
        guard tuned != nil else { return table }
        return FeatureTable(table.tensors.merging(backboneFeatures(of: table, lanes: lanes)) { $1 })
    }

    private func backboneFeatures(of table: FeatureTable, lanes: Lanes) -> [String: Tensor] {
        guard let tuned, !tunedHeads.isEmpty else { return [:] }
        let ranges = tuned.chunks.ranges(table.count)
        let pieces = lanes.map(ranges.count) { piece in
            FeatureTable(trainedFeatures(table.rows(ranges[piece]).tensors, parameters))
        }
        return FeatureTable(joining: pieces).tensors
    }

    /// What heads read of images, for maps: the frozen backbone, or its frozen part and the trained end.
    func reader(_ networks: FrozenNetworks, blocks: [Int]?) -> @Sendable (Tensor) -> FrozenFeatures {
        guard let tuned, let blocks, let states = networks.states else { return Self.reader(networks, blocks: blocks) }
        let (own, dtype) = (Self.own(parameters), dtype)
        let frozen = blocks.filter { $0 < tuned.firstBlock }
        return { images_BHWC in
            var features = tuned.features(
                states(images_BHWC, .score), blocks.filter { $0 >= tuned.firstBlock }, own, dtype)
            if !frozen.isEmpty {
                features.blocks.merge(networks.backbone(images_BHWC, frozen, .score).blocks) { first, _ in first }
            }
            return FrozenFeatures(images_BHWC: images_BHWC, backbone: features, trunk: nil)
        }
    }

    /// A table as heads are trained on it: the features of the trained backbone are leaves of the gradient graph, and are told
    /// apart.
    func withTrackedBackbone(_ table: FeatureTable, lanes: Lanes) -> (table: FeatureTable, features: [String: Tensor]) {
        guard tuned != nil else { return (table, [:]) }
        let features = backboneFeatures(of: table, lanes: lanes).mapValues { $0.tracked() }
        return (FeatureTable(table.tensors.merging(features) { $1 }), features)
    }

    /// Gradients of the backbone's trained parameters from those of its features: pieces of the images run on the lanes once
    /// more, tracked, and their gradients are added in order, so that no more than a piece's activations are kept a lane.
    ///
    /// - Parameters:
    ///   - sides: tables, and what reaches each feature of them; a feature that no loss reads has nothing.
    ///   - leaves: all parameters, tracked.
    func backboneGradients(
        of sides: [(table: FeatureTable, upstream: [String: Tensor])], _ leaves: Parameters, lanes: Lanes
    ) -> Parameters {
        guard let tuned else { return Parameters() }
        let own = leaves.filtered { $0.hasPrefix(Self.backbonePrefix) }
        let pieces = sides.flatMap { side in
            tuned.chunks.ranges(side.table.count).map { range in
                (kept: side.table.rows(range).tensors, upstream: side.upstream.mapValues { $0.rows(range) })
            }
        }
        var sum = own.mapped { _, leaf in leaf.engine.zeros(leaf.shape) }
        for wave in Chunks(size: lanes.count).ranges(pieces.count) {
            let parts = lanes.map(wave.count) { index in
                let piece = pieces[wave.lowerBound + index]
                let features = trainedFeatures(piece.kept, own)
                let products = piece.upstream.sorted { $0.key < $1.key }.compactMap { name, upstream in
                    features[name].map { ($0 * upstream).sum() }
                }
                guard let first = products.first else { return Parameters() }
                let gradients = products.dropFirst().reduce(first, +).gradients()
                return Parameters(
                    Dictionary(own.entries.compactMap { name, leaf in gradients[leaf].map { (name, $0) } }) {
                        first, _ in first
                    })
            }
            for part in parts { sum = sum.mapped { name, tensor in part[name].map { tensor + $0 } ?? tensor } }
        }
        return sum
    }
}
