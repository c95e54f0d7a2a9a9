import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// The text encoder against transformers' CLIPTextModelWithProjection.
@Suite struct CLIPTextEncoderTests {
    static let cases = ["clip-a", "clip-b"]

    private func tokens(_ golden: Golden) throws -> [[Int32]] {
        let shape = try golden.shape("input_ids")
        let flat = try golden.integers("input_ids").map(Int32.init)
        return (0..<shape[0]).map { Array(flat[$0 * shape[1]..<($0 + 1) * shape[1]]) }
    }

    @Test("every state and the pooled embedding equal the reference's", arguments: cases)
    func states(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPTextEncoder(folder: Repository.fixtures + "/" + name, engine: engine)
            let output = model(try tokens(golden))
            for (layer, state) in output.hiddenStates.enumerated() where golden.contains("hidden_states.\(layer)") {
                try expectClose(state, golden, "hidden_states.\(layer)")
            }
            try expectClose(output.penultimate, golden, "penultimate")
            try expectClose(output.lastHiddenState, golden, "last_hidden_state")
            try expectClose(output.pooled, golden, "text_embeds")
        }
    }

    @Test("gradients of every parameter equal the reference's", arguments: cases)
    func gradients(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let base = try CLIPTextEncoder(folder: Repository.fixtures + "/" + name, engine: engine)
            let parameters = base.parameters.tracked()
            let output = try base.replacing(parameters)(try tokens(golden))
            let first = output.penultimate * (try golden.tensor("grad_penultimate", on: engine))
            let second = output.pooled * (try golden.tensor("grad_text_embeds", on: engine))
            let gradients = (first.sum() + second.sum()).gradients()
            #expect(parameters.names == golden.names(below: "grad/"))
            for (parameter, tensor) in parameters.entries {
                // The gradient of a key's bias is zero (softmax ignores it); rounding leaves some 1e-6.
                try expectClose(gradients[tensor], golden, "grad/" + parameter, absolute: 5e-6)
            }
        }
    }

    @Test("bf16 stays within bf16's precision of the reference")
    func bfloat16() throws {
        let golden = try Golden("clip-a/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPTextEncoder(folder: Repository.fixtures + "/clip-a", engine: engine, dtype: .bfloat16)
            let output = model(try tokens(golden))
            try expectClose(output.pooled.converted(to: .float32), golden, "text_embeds", relative: 0.05)
        }
    }
}
