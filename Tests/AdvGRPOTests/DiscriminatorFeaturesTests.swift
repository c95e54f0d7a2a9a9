import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("discriminator features")
struct DiscriminatorFeaturesTests {
    private let noBackbone = FrozenNetworks(backbone: { _, _, _ in
        preconditionFailure("the thumbnail needs no backbone")
    })

    private let group = GroupID(epoch: 0, index: 0)

    private func discriminator(relative: Bool) throws -> Discriminator {
        var settings = MethodSettings()
        settings.reward.weights = [.thumbnail: 1]
        settings.reward.relativeToReferences = relative
        return try Discriminator(
            reward: settings.reward, discriminator: settings.discriminator, backbone: BackboneShape(width: 4, depth: 1),
            seed: 1, engine: engine)
    }

    /// Images of 16 x 16 in one colour each.
    private func plain(_ colours: [[Float]]) -> Tensor {
        engine.tensor(
            colours.flatMap { colour in (0..<256).flatMap { _ in colour } }, shape: [colours.count, 16, 16, 3])
    }

    @Test("the thumbnail is the mean colour of 8 x 8 areas, then each channel's mean and deviation")
    func thumbnail() {
        // Red grows from row to row, green is 1 in the last column, blue is 0.5.
        let pixels = (0..<16).flatMap { row in
            (0..<17).flatMap { column -> [Float] in [Float(row) / 16, column == 16 ? 1 : 0, 0.5] }
        }
        let vector = thumbnailVector(engine.tensor(pixels, shape: [1, 16, 17, 3])).values
        #expect(vector.count == 198)
        for area in 0..<64 {
            // Rows 2 k and 2 k + 1; the 17th column belongs to no area.
            let red = (Float(2 * (area / 8)) + 0.5) / 16
            expectClose(Array(vector[area * 3..<area * 3 + 3]), [red, 0, 0.5], relative: 1e-6, "area \(area)")
        }
        // Mean of 0...15 is 7.5, of its squares 77.5; one column of seventeen is 1: deviation sqrt(p (1 - p)).
        let p = 1.0 / 17
        expectClose(Array(vector[192..<195]), [7.5 / 16, Float(p), 0.5], relative: 1e-6, "means")
        expectClose(
            Array(vector[195..<198]),
            [Float((77.5 - 7.5 * 7.5).squareRoot() / 16), Float((p * (1 - p)).squareRoot()), 0], relative: 1e-6,
            "deviations")
    }

    @Test(
        "relative features: a generated image's difference from its references' mean, a reference's in the same scale")
    func relative() throws {
        let discriminator = try discriminator(relative: true)
        let own = discriminator.referenceFeatures(
            of: plain([[0.2, 0, 0], [0.4, 0, 0], [0.9, 0, 0]]), prompt: "", purpose: .training, networks: noBackbone)
        // Mean 0.5; (f - 0.5) sqrt(4 / 2).
        let root = Float(2).squareRoot()
        expectClose(
            (0..<3).map { own["thumbnail"].values[$0 * 198] }, [-0.3 * root, -0.1 * root, 0.4 * root], relative: 1e-5,
            "references")
        let generated = discriminator.generatedFeatures(
            of: plain([[0.7, 0, 0], [0.5, 1, 0]]), group: group, prompt: "", purpose: .score, networks: noBackbone,
            seed: 1
        ) { own }
        expectClose(
            [0, 1, 198, 199].map { generated["thumbnail"].values[$0] }, [0.2, 0, 0, 1], relative: 1e-5, "generated")
    }

    @Test("a head that is not relative does not ask for the prompt's references")
    func absolute() throws {
        let discriminator = try discriminator(relative: false)
        let generated = try discriminator.generatedFeatures(
            of: plain([[0.7, 0, 0]]), group: group, prompt: "", purpose: .score, networks: noBackbone, seed: 1
        ) { throw MissingReferences(prompt: "asked for") }
        #expect(abs(generated["thumbnail"].values[0] - 0.7) < 1e-6)
        let references = discriminator.referenceFeatures(
            of: plain([[0.2, 0, 0]]), prompt: "", purpose: .training, networks: noBackbone)
        #expect(abs(references["thumbnail"].values[0] - 0.2) < 1e-6)
    }
}
