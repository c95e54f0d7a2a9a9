import AdvGRPO
import Foundation
import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import MethodModels

/// What `advgrpo sample` computes, against diffusers' StableDiffusion3Pipeline.
@Suite(.optimized) struct SampledImageTests {
    private static let prompts = ["grinning face", "red heart", "Deciduous Tree!"]

    /// Final latents and image of one prompt, from the reference's noise.
    private func sampled(
        _ model: String, _ prompt: String, from latents: Tensor, steps: Int, guidance: Double, side: Int
    ) throws -> (latents: Tensor, image: Tensor) {
        let policy = try DiffusionPolicy(
            PolicySource(path: model, engine: latents.engine), settings: PolicySettings(fidelity: .fixed), seed: 0)
        let generator = try ImageGenerator(
            policy: policy, steps: steps, guidance: guidance, height: side, width: side, seed: 0,
            chunks: Chunks(size: 1))
        let lanes = Lanes(count: 2)
        let final = try generator.latents(
            ImageGenerator.Order.all(prompts: [prompt], count: 1), velocity: policy.model.velocity,
            initialLatents: latents, lanes: lanes)
        return (final, policy.images(final, lanes: lanes))
    }

    @Test("ten steps give the reference's latents and its image to 50 dB", arguments: prompts.indices)
    func images(index: Int) throws {
        let golden = try Golden("pipeline/golden.safetensors")
        for engine in testEngines {
            let noise = try golden.tensor("\(index)/initial_latents", on: engine).reshaped(1, 16, 16, 16)
            let (final, image) = try sampled(
                Repository.models + "/emoji-sd3-tiny", Self.prompts[index], from: noise, steps: 10, guidance: 4.5,
                side: 64)
            try expectClose(final.reshaped(16, 16, 16), golden, "\(index)/10/latents", relative: 5e-4)
            let values = image.transposed(0, 3, 1, 2).values
            let difference = zip(values, try golden.floats("\(index)/10/image")).map { Double($0 - $1) }
            let meanSquare = difference.reduce(0) { $0 + $1 * $1 } / Double(difference.count)
            #expect(-10 * log10(meanSquare) >= 50, "\(Self.prompts[index]) on \(engine.name)")
        }
    }

    @Test("a single-file checkpoint samples what diffusers' from_single_file does")
    func singleFile() throws {
        let golden = try Golden("single-file/golden.safetensors")
        for engine in testEngines {
            let noise = try golden.tensor("latents", on: engine).rows(0..<1)
            let final = try sampled(
                Repository.fixtures + "/single-file/checkpoint.safetensors", "cab abc", from: noise, steps: 3,
                guidance: 2,
                side: 32
            ).latents
            try expectClose(final.reshaped(4, 8, 8), golden, "final", relative: 5e-4)
        }
    }
}
