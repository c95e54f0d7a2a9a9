import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@Suite struct LayerTests {
    @Test("a merged adapter is W + scale · B · A, and so are its gradients")
    func adapterGradients() throws {
        for engine in testEngines {
            let noise = Philox(seed: 3, purpose: .tests)
            func random(_ shape: [Int], _ number: Int) -> Tensor {
                let all = noise.normals(200)
                return engine.tensor(Array(all[(number * 20)..<(number * 20 + shape.reduce(1, *))]), shape: shape)
            }
            let base = Parameters(["l.weight": random([4, 3], 0), "l.bias": random([4], 1)])
            let layer = try Linear(Weights(base, source: "test", engine: engine).scoped("l"), input: 3, output: 4)
            let configuration = LoRAConfiguration(rank: 2, alpha: 3, targets: ["l"])
            let (x, down, up) = (random([5, 3], 2), random([2, 3], 3), random([4, 2], 4))
            func adapter(_ down: Tensor, _ up: Tensor) throws -> LoRAAdapter {
                try LoRAAdapter(
                    configuration: configuration,
                    parameters: Parameters(["l.lora_A.weight": down, "l.lora_B.weight": up]))
            }
            let expected = linear(linear(x, weight: down), weight: up) * 1.5 + layer(x)
            func merged(_ down: Tensor, _ up: Tensor) throws -> Tensor {
                let weights = try adapter(down, up).mergedWeights(into: base)
                return linear(x, weight: try #require(weights["l.weight"]), bias: base["l.bias"])
            }
            expectClose(try merged(down, up), expected, relative: 1e-5, "merged")
            checkGradients([down, up], "adapter on \(engine.name)") { inputs in
                (try? merged(inputs[0], inputs[1])) ?? inputs[0]
            }
        }
    }

    @Test("a fresh adapter changes nothing, is Gaussian with deviation 1 / r, and depends on the seed alone")
    func freshAdapter() throws {
        let engine = OpenBLASEngine.shared
        let model = Parameters([
            "blocks.0.attn.to_q.weight": engine.zeros([64, 48]), "blocks.0.attn2.to_q.weight": engine.zeros([64, 48]),
            "blocks.0.attn.to_q.bias": engine.zeros([64]), "blocks.0.attn.norm_q.weight": engine.zeros([16]),
        ])
        let configuration = LoRAConfiguration(rank: 32, alpha: 64)
        let first = try LoRAAdapter(configuration: configuration, model: model, seed: 5)
        let again = try LoRAAdapter(configuration: configuration, model: model, seed: 5)
        let other = try LoRAAdapter(configuration: configuration, model: model, seed: 6)
        #expect(first.layers == ["blocks.0.attn.to_q"])
        let down = try #require(first.pair(for: "blocks.0.attn.to_q")?.down.values)
        #expect(down == again.pair(for: "blocks.0.attn.to_q")?.down.values)
        #expect(down != other.pair(for: "blocks.0.attn.to_q")?.down.values)
        #expect(first.pair(for: "blocks.0.attn.to_q")?.up.values == [Float](repeating: 0, count: 64 * 32))
        // 1536 draws: the sample deviation's own deviation is 1 / sqrt(2 · 1536) = 1.8 %.
        let deviation = (down.reduce(0) { $0 + $1 * $1 } / Float(down.count)).squareRoot()
        #expect(abs(deviation * 32 - 1) < 0.08)
    }

    @Test("targets match whole components at the end of a name")
    func targets() {
        let configuration = LoRAConfiguration()
        #expect(configuration.matches("transformer_blocks.3.attn.to_q"))
        #expect(configuration.matches("transformer_blocks.3.attn.to_out.0"))
        #expect(!configuration.matches("transformer_blocks.3.attn2.to_q"))
        #expect(!configuration.matches("transformer_blocks.3.attn.norm_q"))
        #expect(configuration.alpha / Double(configuration.rank) == 2)
    }

    @Test("an adapter for nothing in the model is refused")
    func noTarget() throws {
        let model = Parameters(["a.weight": OpenBLASEngine.shared.zeros([2, 2])])
        let error = #expect(throws: ModelError.self) {
            try LoRAAdapter(configuration: LoRAConfiguration(), model: model, seed: 1)
        }
        #expect(error?.code == .missing)
    }
}
