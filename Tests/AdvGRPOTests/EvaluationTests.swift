import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("evaluation")
struct EvaluationTests {
    private func number(_ name: String) throws -> Double {
        try #require(try Golden.document("rewards.json")[name] as? Double)
    }

    @Test("Fréchet distance agrees with SciPy's matrix root")
    func frechet() throws {
        let golden = try Golden("rewards.safetensors")
        let (first, second) = (try golden.tensor("frechet/first"), try golden.tensor("frechet/second"))
        #expect(abs(frechetDistance(first, second) - (try number("frechet_distance"))) < 1e-5)
        #expect(abs(frechetDistance(second, first) - (try number("frechet_distance"))) < 1e-5)
        #expect(abs(frechetDistance(first, first)) < 1e-9)
    }

    @Test("Fréchet distance of shifted sets is the squared shift, also with fewer images than features")
    func shifted() {
        let first = normalTensor(70, 5, 16)
        let distance = frechetDistance(first, first + 0.5)
        // 16 features, each 0.5 apart: 16 · 0.25
        #expect(abs(distance - 4) < 1e-5)
    }

    @Test("area under the curve agrees with counting pairs", arguments: ["plain", "ties"])
    func area(name: String) throws {
        let golden = try Golden("rewards.safetensors")
        let value = areaUnderCurve(
            positive: try golden.floats("auc.\(name)/positive"), negative: try golden.floats("auc.\(name)/negative"))
        #expect(abs(value - (try number("auc.\(name)"))) < 1e-12)
    }

    @Test("diversity agrees with NumPy, and equal images have none")
    func diversity() throws {
        let golden = try Golden("rewards.safetensors")
        let pairs = try #require(try Golden.document("rewards.json")["pairwise_diversity"] as? [String: Double])
        let expected = try #require(pairs["cosine_distance"])
        #expect(abs(try #require(pairwiseDiversity(golden.tensor("frechet/first"))) - expected) < 1e-6)
        #expect(abs(try #require(pairwiseDiversity(normalTensor(71, 1, 8).gatheredRows([0, 0, 0])))) < 1e-6)
        #expect(pairwiseDiversity(normalTensor(71, 1, 8)) == nil)
    }

    @Test("a report over prompts is made of these")
    func report() throws {
        let generated = [normalTensor(72, 6, 8), normalTensor(73, 6, 8)]
        let same = EvaluationReport(generated: generated, references: generated)
        #expect(abs(same.dinoSimilarity - 1) < 1e-6)
        #expect(abs(try #require(same.frechetDistance)) < 1e-9)
        let each = generated.compactMap { pairwiseDiversity($0) }
        #expect(abs(try #require(same.diversity) - (each[0] + each[1]) / 2) < 1e-12)
    }

    @Test(
        "standard errors are those of NumPy's figures of the same resamples, for fewer and more images than features",
        arguments: ["few", "many"], [1, 3])
    func standardErrors(name: String, lanes: Int) throws {
        let golden = try Golden("judge.safetensors")
        func groups(_ side: String) throws -> [Tensor] {
            let all = try golden.tensor("bootstrap/\(name)/\(side)")
            return (0..<all.shape[0]).map { all.rows($0..<$0 + 1).reshaped(all.shape[1], all.shape[2]) }
        }
        let expected = try #require(
            (try Golden.document("judge.json")["bootstrap"] as? [String: [String: [String: Double]]])?[name])
        let report = EvaluationReport(
            generated: try groups("images"), references: try groups("references"), lanes: Lanes(count: lanes))
        let (figures, errors) = (try #require(expected["figures"]), try #require(expected["standardErrors"]))
        #expect(abs(report.dinoSimilarity - figures["dinoSimilarity", default: 0]) < 1e-6)
        #expect(abs(try #require(report.frechetDistance) - figures["frechetDistance", default: 0]) < 1e-5)
        for (figure, error) in errors {
            #expect(abs(report.standardErrors[figure, default: 0] - error) < 1e-6, "\(figure)")
        }
        #expect(Set(report.standardErrors.keys) == ["dinoSimilarity", "frechetDistance", "diversity"])
    }

    @Test("equal prompts have no standard error, one prompt has none to be known, and no prompt is drawn too often")
    func resamples() {
        let images = normalTensor(76, 4, 8)
        let equal = EvaluationReport(generated: [images, images, images], references: [images, images, images])
        // Up to the rounding of sums in another order.
        #expect(["dinoSimilarity", "diversity"].allSatisfy { equal.standardErrors[$0, default: 1] < 1e-12 })
        #expect(EvaluationReport(generated: [images], references: [images]).standardErrors.isEmpty)
        let resamples = (0..<PromptBootstrap.resampleCount).map { PromptBootstrap(promptCount: 7).counts($0) }
        #expect(resamples.allSatisfy { $0.count == 7 && $0.reduce(0, +) == 7 } && Set(resamples).count > 90)
        // 100 resamples of seven: 700 draws, 100 of each expected, ± 9.3
        let drawn = resamples.reduce([Int](repeating: 0, count: 7)) { zip($0, $1).map(+) }
        #expect(drawn.allSatisfy { (63...137).contains($0) })
    }

    @Test("wins, ties as halves, and Wilson's interval by its formula")
    func wins() throws {
        let cases = try #require(try Golden.document("judge.json")["wilson"] as? [[String: Any]])
        for entry in cases {
            func count(_ name: String) throws -> Int { try #require(entry[name] as? Int) }
            let wins = PairwiseWins(wins: try count("wins"), losses: try count("losses"), ties: try count("ties"))
            let interval = try #require(entry["interval"] as? [Double])
            #expect(zip(wins.interval, interval).allSatisfy { abs($0 - $1) < 1e-12 }, "\(entry)")
            // Of ten wins the upper end is 1, up to rounding.
            #expect(wins.share >= wins.interval[0] - 1e-12 && wins.share <= wins.interval[1] + 1e-12)
        }
        // Wilson 1927 for 7 of 10, as published tables have it: 0.397 to 0.892
        let seven = PairwiseWins(wins: 7, losses: 3, ties: 0)
        #expect(abs(seven.interval[0] - 0.3968) < 1e-4 && abs(seven.interval[1] - 0.8922) < 1e-4)
        let pairs = PairwiseWins([1, 2, 3, 4], over: [0, 2, 5, 3.5])
        #expect((pairs.wins, pairs.losses, pairs.ties, pairs.share) == (2, 1, 1, 0.625) && pairs.pairs == 4)
    }

    @Test("what one image, or one reference, has no figure for is left out", arguments: [(1, 6), (6, 1), (1, 1)])
    func tooFew(images: Int, references: Int) {
        let report = EvaluationReport(
            generated: [normalTensor(74, images, 8)], references: [normalTensor(75, references, 8)])
        #expect(report.frechetDistance == nil && report.dinoSimilarity.isFinite)
        #expect((report.diversity == nil) == (images == 1))
    }
}

@Suite("texture")
struct TextureTests {
    @Test("a plain square has no energy, its chroma and its colour")
    func plain() {
        let colour: [Float] = [0.25, 0.5, 1]
        let image = engine.tensor((0..<64).flatMap { _ in colour }, shape: [1, 8, 8, 3])
        let token = textureTokens(image).values
        let none = Float(-11.512925)  // ln 1e-5
        expectClose(Array(token[0..<15]), [Float](repeating: none, count: 15), relative: 1e-5)
        expectClose(Array(token[15...]), [0.75, none, 0.25, 0.5, 1], relative: 1e-5)
    }

    @Test("a ramp has its slope's energy and no curvature inside")
    func ramp() {
        // x = column / 16 over 8 x 16: dx = 1/16 everywhere but at the right edge, dy = 0
        let image = engine.tensor(
            (0..<128).flatMap { [Float](repeating: Float($0 % 16) / 16, count: 3) }, shape: [1, 8, 16, 3])
        let tokens = textureTokens(image)
        #expect(tokens.shape == [1, 2, 20])
        let first = Array(tokens.values[0..<20])
        expectClose([first[3], first[6]], [-5.5425, -11.5129], relative: 1e-4)  // ln(1/256 + 1e-5), ln 1e-5
        // variance of 0...7 / 16: 5.25 / 256
        expectClose([first[0]], [-3.8864], relative: 1e-4)
    }

    @Test("a pattern's numbers agree with PyTorch's pooling and padding")
    func pattern() {
        // x(row, column, channel) = ((7 row + 13 column + 29 channel) mod 17) / 16 over 8 x 16
        let values = (0..<8 * 16 * 3).map { (index: Int) -> Float in
            let (row, column, channel) = (index / 48, index / 3 % 16, index % 3)
            let residue = (row * 7 + column * 13 + channel * 29) % 17
            return Float(residue) / 16
        }
        let expected: [Float] = [
            -2.36934, -2.36934, -2.36588, -1.59659, -1.59659, -1.59659, -1.44404, -1.44404, -1.43094, 0.75067, 0.74083,
            0.74083, -1.77137, -1.82140, -2.05715, 0.69922, -5.52432, 0.49023, 0.50977, 0.49609, -2.36312, -2.38841,
            -2.35369, -1.68505, -1.79121, -1.68505, -1.41800, -1.41800, -1.43094, 0.79568, 0.72688, 0.78911, -1.93324,
            -1.92966, -1.73395, 0.69727, -5.50042, 0.51562, 0.48535, 0.50488,
        ]
        let tokens = textureTokens(engine.tensor(values, shape: [1, 8, 16, 3]))
        expectClose(tokens.values, expected, relative: 0, absolute: 2e-5)
    }
}
