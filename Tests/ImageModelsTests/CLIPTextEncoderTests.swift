import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// The text encoder against transformers' CLIPTextModelWithProjection.
@Suite struct CLIPTextEncoderTests {
    static let cases = ["clip-a", "clip-b"]

    @Test("every state and the pooled embedding equal the reference's", arguments: cases)
    func states(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPTextEncoder(folder: Repository.fixtures + "/" + name, engine: engine)
            let output = model(try golden.tokens())
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
            let output = try base.replacing(parameters)(try golden.tokens())
            let first = output.penultimate * (try golden.tensor("grad_penultimate", on: engine))
            let second = output.pooled * (try golden.tensor("grad_text_embeds", on: engine))
            let gradients = (first.sum() + second.sum()).gradients()
            try expectGradients(gradients, of: parameters, golden)
        }
    }

    @Test("bf16 stays within bf16's precision of the reference")
    func bfloat16() throws {
        let golden = try Golden("clip-a/golden.safetensors")
        for engine in testEngines {
            let model = try CLIPTextEncoder(folder: Repository.fixtures + "/clip-a", engine: engine, dtype: .bfloat16)
            let output = model(try golden.tokens())
            try expectClose(output.pooled.converted(to: .float32), golden, "text_embeds", relative: 0.05)
        }
    }
}
