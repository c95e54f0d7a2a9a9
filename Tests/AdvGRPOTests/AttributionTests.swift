import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("attribution")
struct AttributionTests {
    private let attribution = Attribution(chunks: Chunks(size: 2), lanes: Lanes(count: 2))

    /// The fixture's network: 4 x 4 patches, GELU, a logit each, and a score that is not their mean.
    private func network(_ golden: Golden) throws -> @Sendable (Tensor) -> Tensor {
        let first = try golden.tensor("network/first")
        let (bias, second) = (try golden.tensor("network/bias"), try golden.tensor("network/second"))
        return { images_BHWC in
            let patches = patchified(images_BHWC.transposed(0, 3, 1, 2), patch: 4)
            let hidden = linear(patches, weight: first, bias: bias, activation: .geluErf)
            let logits = linear(hidden, weight: second).reshaped(images_BHWC.shape[0], -1)
            let most = (logits.softmax() * logits).meanOverLastAxis() * Float(logits.shape[1])
            return logits.meanOverLastAxis().activated(.sigmoid) * 3 + most
        }
    }

    @Test("agrees with PyTorch, and adds up to the reward's difference as far as the reward is of degree four")
    func golden() throws {
        let golden = try Golden("dense.safetensors")
        let images = try golden.tensor("network/images")
        let contributions = attribution.contributions(of: images, reward: try network(golden))
        try expectClose(contributions, golden, "network/contributions", relative: 1e-4)
        let exact = try golden.tensor("network/exact")
        expectClose(contributions, exact, relative: 2e-2, "Simpson's three points against the integral")
        let sums = contributions.reshaped(5, -1).meanOverLastAxis() * Float(contributions.count / 5)
        let difference = try golden.floats("network/difference")
        expectClose(sums.values, difference, relative: 5e-3, "completeness")
        // The same images in one piece, on one thread.
        let whole = Attribution(chunks: Chunks(size: 5), lanes: Lanes(count: 1))
            .contributions(of: images, reward: try network(golden))
        expectClose(contributions, whole, relative: 1e-5, "chunks")
    }

    @Test("maps gather the pixels' contributions; their mean is the reward less that of the mean image")
    func maps() throws {
        let golden = try Golden("dense.safetensors")
        let (images, network) = (try golden.tensor("network/images"), try network(golden))
        let mapped = MappedImages(
            images_BHWC: images, table: FeatureTable(["unused": images]),
            read: { FrozenFeatures(images_BHWC: $0, backbone: nil, trunk: nil) }, attribution: attribution)
        let maps = mapped.attributed { network($0.images_BHWC) }
        #expect(maps.grid == PatchGrid(rows: 2, columns: 1))
        expectClose(maps.floats, try golden.floats("network/map"), relative: 1e-4)
        let means = maps.values.map { Float($0.reduce(0, +) / 2) }
        expectClose(means, try golden.floats("network/difference"), relative: 5e-3)
    }

    @Test("contributions add up exactly up to degree four, and no further", arguments: 1...6)
    func degrees(degree: Int) throws {
        // x = k / 8 and a mean of 0: every number is exact in binary
        let inputs = engine.tensor([0.5, -0.25, 1, -0.5, 0.25, -1], shape: [2, 3])
        let weights = engine.tensor([1, 2, -0.5], shape: [3])
        let contributions = attribution.contributions(of: inputs) { x in
            let y = (x * weights).meanOverLastAxis() * 3
            return (1..<degree).reduce(y) { power, _ in power * y }
        }
        let sums = (contributions.meanOverLastAxis() * 3).values
        let y = (0..<2).map { [-0.5, 0.5][$0] }
        let expected = y.map { value in Float((0..<degree).reduce(1.0) { power, _ in power * value }) }
        let error = zip(sums, expected).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
        // Simpson of n t^(n - 1): off by y⁵/24 at degree five
        let off: [Int: Float] = [5: 1.0 / 24 / 32, 6: 0.125 / 64]
        #expect(abs(error - (off[degree] ?? 0)) < 1e-6, "degree \(degree): off by \(error)")
    }

    @Test("what a place adds is its own part of a separable reward")
    func separable() throws {
        let inputs = normalTensor(3, 6, 4)
        let contributions = attribution.contributions(of: inputs) { ($0 * $0 * $0).meanOverLastAxis() * 4 }
        let values = inputs.values
        let means = (0..<4).map { place in (0..<6).reduce(Float(0)) { $0 + values[$1 * 4 + place] } / 6 }
        let expected = values.indices.map { index in
            let mean = means[index % 4]
            return values[index] * values[index] * values[index] - mean * mean * mean
        }
        expectClose(contributions.values, expected, relative: 1e-5)
    }
}
