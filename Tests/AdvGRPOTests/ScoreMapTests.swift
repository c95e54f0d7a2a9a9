import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("maps of scores")
struct ScoreMapTests {
    private let attribution = Attribution(chunks: Chunks(size: 2), lanes: Lanes(count: 1))

    private func weights(_ head: any RandomHead, constants: Parameters = Parameters()) -> HeadWeights {
        let own = head.initialParameters(seed: 3, engine: engine).renamed { head.prefix + $0 }
        return HeadWeights(parameters: own, constants: constants, prefix: head.prefix, dtype: .float32)
    }

    private func means(_ maps: RewardMaps) -> [Float] {
        maps.values.map { Float($0.reduce(0, +) / Double($0.count)) }
    }

    private func images(_ table: FeatureTable, _ read: @escaping @Sendable (Tensor) -> FrozenFeatures) -> MappedImages {
        let pixels = engine.tensor(
            Philox(seed: 4, purpose: .tests).normals(table.count * 16 * 24 * 3).map { min(max(0.5 + $0 / 4, 0), 1) },
            shape: [table.count, 16, 24, 3])
        return MappedImages(images_BHWC: pixels, table: table, read: read, attribution: attribution)
    }

    private func pixels(_ images_BHWC: Tensor) -> FrozenFeatures {
        FrozenFeatures(images_BHWC: images_BHWC, backbone: nil, trunk: nil)
    }

    @Test("dino_patch: the mean is the score that reads every patch once", arguments: FeatureNormalization.allCases)
    func patches(normalization: FeatureNormalization) throws {
        var reward = RewardSettings(fidelity: .fixed)
        reward.patchCount = 9
        reward.featureNormalization = normalization
        let head = PatchHead(width: 12, hiddenWidth: 10, reward: reward, globalLossWeight: 1, patchLossWeight: 0.3)
        let table = FeatureTable(["class": normalTensor(1, 3, 12), "patches": normalTensor(2, 3, 9, 12)])
        let own = weights(head)
        let maps = try #require(head.maps(images(table, pixels), weights: own))
        #expect(maps.grid == PatchGrid(rows: 3, columns: 3))
        let all = PatchDraws(indices: [[[Int]](repeating: Array(0..<9), count: 3)])
        expectClose(means(maps), head.score(table, weights: own, draws: all).values, relative: 1e-5)
        // A place's value is the score of an image that has this patch everywhere.
        let everywhere = PatchDraws(indices: [[[Int]](repeating: [Int](repeating: 4, count: 9), count: 3)])
        expectClose(
            maps.values.map { Float($0[4]) }, head.score(table, weights: own, draws: everywhere).values, relative: 1e-5)
    }

    @Test("dino_multilayer agrees with PyTorch; its mean is the score")
    func layers() throws {
        let golden = try Golden("dense.safetensors")
        var reward = RewardSettings(fidelity: .fixed)
        reward.topFraction = 0.25
        reward.temperature = 2
        // Tokens of one number, and heads that pass it on: gelu(x + 16) - 16 = x.
        let head = MultilayerHead(width: 1, hiddenWidth: 1, reward: reward, blockNumbers: [0, 1])
        var tensors = [
            "fusion.weight": try golden.tensor("multi/fusion.weight"),
            "fusion.bias": try golden.tensor("multi/fusion.bias"),
        ]
        for layer in 0..<2 {
            tensors["heads.\(layer).0.weight"] = engine.tensor([1], shape: [1, 1])
            tensors["heads.\(layer).0.bias"] = engine.tensor([16], shape: [1])
            tensors["heads.\(layer).2.weight"] = engine.tensor([1], shape: [1, 1])
            tensors["heads.\(layer).2.bias"] = engine.tensor([-16], shape: [1])
        }
        let own = HeadWeights(
            parameters: Parameters(tensors).renamed { head.prefix + $0 }, constants: Parameters(), prefix: head.prefix,
            dtype: .float32)
        let logits = try golden.tensor("multi/logits")
        let table = FeatureTable(
            Dictionary(
                uniqueKeysWithValues: (0..<2).map { block in
                    let patches = logits.rows(block..<block + 1).reshaped(3, 16, 1)
                    return ("block.\(block)", concatenated([engine.zeros([3, 1, 1]), patches], axis: 1))
                }))
        let maps = try #require(head.maps(images(table, pixels), weights: own))
        expectClose(maps.floats, try golden.floats("multi/map"), relative: 1e-4)
        let score = head.score(table, weights: own, draws: PatchDraws([]))
        expectClose(score.values, try golden.floats("multi/score"), relative: 1e-5)
        expectClose(means(maps), score.values, relative: 1e-5)
    }

    @Test("statistics of tokens agree with PyTorch, alone and relative to references", arguments: [false, true])
    func statistics(isRelative: Bool) throws {
        let golden = try Golden("dense.safetensors")
        let head = StatisticsHead(
            component: .statistics, statistics: .blocks([2], tokenWidth: 5, TokenStatistic.allCases, normalized: false),
            relation: isRelative ? .difference : .none, hiddenWidth: 6)
        var constants = [
            "inverseDeviation": try golden.tensor("statistics/inverseDeviation"),
            "mean": try golden.tensor("statistics/mean"),
        ]
        var vector = try golden.tensor("statistics/vector")
        if isRelative {
            // The references' mean moves what is standardised and the constants alike.
            let centre = normalTensor(9, 20)
            vector = vector + -centre
            constants["mean"] = try golden.tensor("statistics/mean") - centre
        }
        let parameters = try Dictionary(
            uniqueKeysWithValues: ["0.weight", "0.bias", "2.weight", "2.bias"].map {
                (head.prefix + $0, try golden.tensor("statistics/\($0)"))
            })
        let own = HeadWeights(
            parameters: Parameters(parameters), constants: Parameters(constants).renamed { head.prefix + $0 },
            prefix: head.prefix, dtype: .float32)
        let table = FeatureTable(["dino_statistics": vector])
        expectClose(
            head.score(table, weights: own, draws: PatchDraws([])).values, try golden.floats("statistics/score"),
            relative: 1e-5)
        let tokens = try golden.tensor("statistics/tokens")
        let maps = try #require(
            head.maps(
                images(table) { _ in
                    let all = concatenated([engine.zeros([4, 1, 5]), tokens], axis: 1)
                    return FrozenFeatures(
                        images_BHWC: tokens,
                        backbone: BackboneFeatures(
                            classToken_BD: engine.zeros([4, 5]), patches_BND: tokens, blocks: [2: all]))
                }, weights: own))
        #expect(maps.grid == PatchGrid(rows: 3, columns: 3))
        expectClose(maps.floats, try golden.floats("statistics/map"), relative: 1e-4)
    }

    @Test(
        "texture and thumbnail: the mean is the score less that of the mean image's features",
        arguments: [RewardComponent.texture, .thumbnail])
    func pixelHeads(component: RewardComponent) throws {
        let statistics: ImageStatistics = component == .texture ? .texture([.mean]) : .thumbnail
        let head = StatisticsHead(
            component: component, statistics: statistics, relation: .none, hiddenWidth: 6)
        let constants = Parameters([
            head.prefix + "mean": engine.zeros([statistics.width]),
            head.prefix + "inverseDeviation": engine.tensor(
                [Float](repeating: 0.2, count: statistics.width), shape: [statistics.width]),
        ])
        let own = weights(head, constants: constants)
        let empty = images(FeatureTable(["unused": engine.zeros([4, 1])]), pixels)
        let vector = try #require(head.extract(pixels(empty.images_BHWC))[component.rawValue])
        let mapped = images(FeatureTable([component.rawValue: vector]), pixels)
        let maps = try #require(head.maps(mapped, weights: own))
        #expect(maps.grid == (component == .texture ? PatchGrid(rows: 2, columns: 3) : PatchGrid(rows: 8, columns: 8)))
        let mean = vector.transposed(1, 0).meanOverLastAxis().reshaped(1, -1)
        func score(_ vector: Tensor) -> [Float] {
            head.score(FeatureTable([component.rawValue: vector]), weights: own, draws: PatchDraws([])).values
        }
        let expected = score(vector).map { $0 - score(mean)[0] }
        expectClose(means(maps), expected, relative: 1e-3)
    }

    @Test("the class token's map follows the gradient to the pixels of the place that matters")
    func classToken() throws {
        let head = ClassTokenHead(width: 3, hiddenWidth: 6, normalization: .raw)
        let own = weights(head)
        // A backbone that sees the last 8 x 8 square alone.
        let mapped = images(FeatureTable(["class": engine.zeros([3, 3])])) { images_BHWC in
            let square = images_BHWC.sliced(axis: 1, 8..<16).sliced(axis: 2, 16..<24)
            let colours = square.reshaped(square.shape[0], 64, 3).transposed(0, 2, 1).meanOverLastAxis()
            return FrozenFeatures(
                images_BHWC: images_BHWC,
                backbone: BackboneFeatures(
                    classToken_BD: colours, patches_BND: engine.zeros([square.shape[0], 1, 3])))
        }
        let maps = try #require(head.maps(mapped, weights: own))
        #expect(maps.grid == PatchGrid(rows: 2, columns: 3))
        let features = present(mapped.features.backbone).classToken_BD
        let score = head.score(FeatureTable(["class": features]), weights: own, draws: PatchDraws([])).values
        let mean = features.transposed(1, 0).meanOverLastAxis().reshaped(1, 3)
        let centre = head.score(FeatureTable(["class": mean]), weights: own, draws: PatchDraws([])).values[0]
        for (map, score) in zip(maps.values, score) {
            #expect(map[..<5].allSatisfy { abs($0) < 1e-6 })
            #expect(abs(map[5] / 6 - Double(score - centre)) < 1e-5)
        }
    }
}
