import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// The autoencoder against diffusers' AutoencoderKL: a is built like the base model's, b like SD3's.
@Suite struct AutoencoderKLTests {
    static let cases = ["vae-a", "vae-b"]

    @Test("decoder and its gradients equal the reference's", arguments: cases)
    func decoder(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let base = try AutoencoderKL(folder: Repository.fixtures + "/" + name, engine: engine, withEncoder: false)
            let parameters = base.parameters.tracked()
            let model = try base.replacing(parameters)
            let latents = try golden.tensor("decode/input", on: engine).tracked()
            let output = model.decodeUnscaled(latents).transposed(0, 3, 1, 2)
            try expectClose(output, golden, "decode/output")
            try expectClose(
                base.decodeUnscaled(latents.detached).transposed(0, 3, 1, 2), golden, "decode/output")
            let gradients = output.gradients(upstream: try golden.tensor("decode/grad_output", on: engine))
            try expectClose(gradients[latents], golden, "decode/grad_input")
            try expectGradients(gradients, of: parameters, golden, below: "decode/grad/")
        }
    }

    @Test("encoder's moments equal the reference's", arguments: cases)
    func encoder(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try AutoencoderKL(folder: Repository.fixtures + "/" + name, engine: engine)
            let images = try golden.tensor("encode/input", on: engine).transposed(0, 2, 3, 1)
            let moments = model.moments(images)
            try expectClose(moments.mean, golden, "encode/mean")
            try expectClose(moments.logVariance, golden, "encode/log_variance")
            // encode() takes [0, 1] and scales.
            let scaled = model.encode((images + 1) * 0.5)
            let (shift, scale) = (Float(model.configuration.shiftFactor), Float(model.configuration.scalingFactor))
            expectClose(scaled, (moments.mean + -shift) * scale, relative: 1e-5, "encode")
        }
    }

    @Test("scaled latents become the reference's pixels", arguments: cases)
    func images(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try AutoencoderKL(folder: Repository.fixtures + "/" + name, engine: engine, withEncoder: false)
            let pixels = model.decode(try golden.tensor("image/latents", on: engine)).transposed(0, 3, 1, 2)
            try expectClose(pixels, golden, "image/pixels")
            let bytes = pixels.values.map { Int(($0 * 255).rounded()) }
            let expected = try golden.integers("image/bytes")
            #expect(zip(bytes, expected).allSatisfy { abs($0 - $1) <= 1 })
        }
    }

    @Test("a file with tensors of another architecture is refused")
    func otherArchitecture() throws {
        let engine = OpenBLASEngine.shared
        let configuration = try AutoencoderKLConfiguration(path: Repository.fixtures + "/vae-a/config.json")
        let error = #expect(throws: ModelError.self) {
            try AutoencoderKL(configuration, weights: Weights(path: Repository.fixtures + "/vae-b", engine: engine))
        }
        #expect(error.map { [.wrongShape, .missing].contains($0.code) } == true)
    }
}
