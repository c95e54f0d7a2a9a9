import Foundation
import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// The base model of the default run, end to end against diffusers' StableDiffusion3Pipeline.
@Suite struct PipelineTests {
    static let folder = Repository.models + "/emoji-sd3-tiny"
    static let prompts = ["grinning face", "red heart", "Deciduous Tree!"]

    private func row(_ golden: Golden, _ name: String, on engine: any Engine) throws -> Tensor {
        let tensor = try golden.tensor(name, on: engine)
        return tensor.reshaped([1] + tensor.shape)
    }

    @Test("prompts become the tokens and the pooled embedding the reference gives the transformer")
    func text() throws {
        let golden = try Golden("pipeline/golden.safetensors")
        for engine in testEngines {
            let encoder = try SD3TextEncoder(PipelineFiles(path: PipelineTests.folder), engine: engine)
            let embedding = encoder(PipelineTests.prompts)
            for index in PipelineTests.prompts.indices {
                let one = embedding.rows(index..<index + 1)
                try expectClose(one.text_BSD.reshaped(32, 192), golden, "\(index)/text")
                try expectClose(one.pooled_BP.reshaped(192), golden, "\(index)/pooled")
            }
            let negative = encoder([""])
            try expectClose(negative.text_BSD.reshaped(32, 192), golden, "negative/text")
            try expectClose(negative.pooled_BP.reshaped(192), golden, "negative/pooled")
        }
    }

    @Test("velocities of both branches of guidance equal the reference's")
    func velocities() throws {
        let golden = try Golden("pipeline/golden.safetensors")
        for engine in testEngines {
            let pipeline = try StableDiffusion3Pipeline(PipelineFiles(path: PipelineTests.folder), engine: engine)
            let latents = try row(golden, "0/initial_latents", on: engine)
            let encoder = try SD3TextEncoder(PipelineFiles(path: PipelineTests.folder), engine: engine)
            func velocity(_ prompt: String) -> Tensor {
                pipeline.transformer.velocity(latents, timesteps: [1000], conditioning: encoder([prompt])).reshaped(
                    16, 16, 16)
            }
            try expectClose(velocity(PipelineTests.prompts[0]), golden, "first/positive")
            try expectClose(velocity(""), golden, "first/negative")
        }
    }

    @Test("autoencoder and backbone of the base model equal the reference's on a generated image")
    func perception() throws {
        let golden = try Golden("pipeline/golden.safetensors")
        for engine in testEngines {
            let image = try row(golden, "0/28/image", on: engine).transposed(0, 2, 3, 1)
            let autoencoder = try AutoencoderKL(folder: PipelineTests.folder + "/vae", engine: engine)
            let moments = autoencoder.moments(image * 2 + -1)
            try expectClose(moments.mean.reshaped(16, 16, 16), golden, "vae/mean")
            try expectClose(moments.logVariance.reshaped(16, 16, 16), golden, "vae/log_variance")
            let backbone = try DINOv2(folder: PipelineTests.folder + "/dino", engine: engine)
            let states = backbone.hiddenStates(backbone.normalizedPixels(image), layers: [3, 6])
            try expectClose(states[0].reshaped(65, 192), golden, "dino/blocks.2")
            try expectClose(states[1].reshaped(65, 192), golden, "dino/blocks.5")
            try expectClose(backbone.normalized(states[1]).reshaped(65, 192), golden, "dino/tokens")
        }
    }

    @Test("sizes that do not fit are refused in words")
    func sizes() throws {
        let pipeline = try StableDiffusion3Pipeline(
            PipelineFiles(path: PipelineTests.folder), engine: OpenBLASEngine.shared)
        #expect(try pipeline.latentShape(height: 64, width: 64) == [16, 16, 16])
        for (height, width) in [(60, 64), (0, 64), (64, 1024)] {
            let error = #expect(throws: ModelError.self) { try pipeline.latentShape(height: height, width: width) }
            #expect(error?.message.contains("multiples of 8 up to 256") == true)
        }
    }

    @Test("a folder of another pipeline is refused")
    func otherPipelines() throws {
        try withTemporaryFolder { folder in
            let path = URL(fileURLWithPath: folder + "/model_index.json")
            try Data(#"{"_class_name": "FluxPipeline"}"#.utf8).write(to: path)
            let error = #expect(throws: ModelError.self) {
                try SD3TextEncoder(PipelineFiles(path: folder), engine: OpenBLASEngine.shared)
            }
            #expect(error?.message.contains("FluxPipeline") == true)
        }
    }
}
