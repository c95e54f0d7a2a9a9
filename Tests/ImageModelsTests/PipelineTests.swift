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
                try expectClose(one.text.reshaped(32, 192), golden, "\(index)/text")
                try expectClose(one.pooled.reshaped(192), golden, "\(index)/pooled")
            }
            let negative = encoder([""])
            try expectClose(negative.text.reshaped(32, 192), golden, "negative/text")
            try expectClose(negative.pooled.reshaped(192), golden, "negative/pooled")
        }
    }

    @Test("velocities of both branches of guidance equal the reference's")
    func velocities() throws {
        let golden = try Golden("pipeline/golden.safetensors")
        for engine in testEngines {
            let pipeline = try StableDiffusion3Pipeline(PipelineFiles(path: PipelineTests.folder), engine: engine)
            let latents = try row(golden, "0/initial_latents", on: engine)
            let conditioning = pipeline.conditioning([PipelineTests.prompts[0]])
            func velocity(_ branch: TextConditioning) -> Tensor {
                pipeline.transformer.velocity(latents, timesteps: [1000], conditioning: branch).reshaped(16, 16, 16)
            }
            try expectClose(velocity(conditioning.positive), golden, "first/positive")
            try expectClose(velocity(conditioning.negative), golden, "first/negative")
            let guided = pipeline.transformer.guidedVelocity(
                latents, timestep: 1000, guidance: 4.5, conditioning: conditioning)
            let (without, with) = (
                try golden.tensor("first/negative", on: engine), try golden.tensor("first/positive", on: engine)
            )
            expectClose(
                guided.reshaped(16, 16, 16), without + (with - without) * 4.5, relative: 1e-4,
                "guided on \(engine.name)")
        }
    }

    @Test("ten steps give the reference's latents and its image to 50 dB", arguments: prompts.indices)
    func images(index: Int) throws {
        let golden = try Golden("pipeline/golden.safetensors")
        for engine in testEngines {
            let pipeline = try StableDiffusion3Pipeline(PipelineFiles(path: PipelineTests.folder), engine: engine)
            let final = try pipeline.sample(
                [PipelineTests.prompts[index]], latents_BCHW: try row(golden, "\(index)/initial_latents", on: engine),
                stepCount: 10, guidance: 4.5)
            try expectClose(final.reshaped(16, 16, 16), golden, "\(index)/10/latents", relative: 5e-4)
            let image = pipeline.autoencoder.decode(final).transposed(0, 3, 1, 2).reshaped(3, 64, 64)
            let difference = zip(image.values, try golden.floats("\(index)/10/image")).map { Double($0 - $1) }
            let meanSquare = difference.reduce(0) { $0 + $1 * $1 } / Double(difference.count)
            #expect(-10 * log10(meanSquare) >= 50, "\(PipelineTests.prompts[index]) on \(engine.name)")
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
