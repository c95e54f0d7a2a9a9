import Foundation
import ImageModels
import NeuralNetworks
import SafeTensors
import TensorCore
import TestSupport
import Testing

/// Checkpoints under Stability's names against diffusers' `from_single_file` of the same file.
@Suite struct SingleFileTests {
    static let folder = Repository.fixtures + "/single-file"
    static let checkpoint = folder + "/checkpoint.safetensors"
    static let prompts = ["cab abc", "12 ab!"]
    /// Conditioning, velocity, both halves of the autoencoder, T5.
    private let golden: Golden

    init() throws { golden = try Golden("single-file/golden.safetensors") }

    @Test("every part of a checkpoint is what diffusers makes of it")
    func parts() throws {
        for engine in testEngines {
            let files = try PipelineFiles(path: Self.checkpoint)
            let pipeline = try StableDiffusion3Pipeline(files, engine: engine)
            let embedding = try SD3TextEncoder(files, engine: engine)(Self.prompts)
            try expectClose(embedding.text_BSD, golden, "text")
            try expectClose(embedding.pooled_BP, golden, "pooled")
            let latents = try golden.tensor("latents", on: engine)
            let conditioning = Conditioning(
                text_BSD: try golden.tensor("text", on: engine), pooled_BP: try golden.tensor("pooled", on: engine))
            try expectClose(
                pipeline.transformer.velocity(latents, timesteps: [500, 500], conditioning: conditioning), golden,
                "velocity")
            let image = try golden.tensor("image", on: engine).transposed(1, 2, 0).reshaped(1, 32, 32, 3)
            try expectClose(files.autoencoder(engine: engine).moments(image).mean.reshaped(4, 8, 8), golden, "mean")
            let decoded = pipeline.autoencoder.decodeUnscaled(latents * Float(1 / 1.5) + 0.1)
            try expectClose(decoded.transposed(0, 3, 1, 2), golden, "decoded")
            let third = try T5Encoder(
                T5EncoderConfiguration(path: files.folder(of: .thirdTextEncoder) + "/config.json"),
                weights: files.weights(of: .thirdTextEncoder, engine: engine, dtype: .float32))
            try expectClose(third([[1, 2, 3, 4, 5, 6]]).reshaped(6, 48), golden, "t5")
        }
    }

    @Test("a transformer's file takes the place of the pipeline's, and stands in a part's folder")
    func transformerAlone() throws {
        let engine = OpenBLASEngine.shared
        let file = Self.folder + "/transformer.safetensors"
        let expected = try StableDiffusion3Pipeline(PipelineFiles(path: Self.checkpoint), engine: engine).transformer
        let instead = try StableDiffusion3Pipeline(
            PipelineFiles(path: Self.checkpoint), engine: engine, transformer: file
        ).transformer
        try withTemporaryFolder { folder in
            for (source, name) in [
                (file, "diffusion_pytorch_model.safetensors"),
                (Self.folder + "/transformer/config.json", "config.json"),
            ] {
                try FileManager.default.copyItem(atPath: source, toPath: folder + "/" + name)
            }
            let own = try MMDiT(folder: folder, engine: engine)
            for (name, tensor) in expected.parameters.entries {
                #expect(instead.parameters[name]?.values == tensor.values, "\(name)")
                #expect(own.parameters[name]?.values == tensor.values, "\(name)")
            }
        }
    }

    @Test("parts, exchanged halves, points and identities of stored tensors, copied and mapped")
    func stored() throws {
        try withTemporaryFolder { folder in
            let rows = 6 * 4096
            let values = (0..<2 * rows).map { Float($0) }
            let engine = OpenBLASEngine.shared
            try Parameters(["a": engine.tensor(values, shape: [rows, 2, 1, 1])]).write(to: folder + "/a.safetensors")
            let file = try SafeTensorsFolder(path: folder + "/a.safetensors")
            let whole = StoredTensor(try #require(file["a"]))
            #expect(whole.part(0, of: 5) == whole && whole.pointwise.shape == [rows, 2])
            for (limit, dtype) in [(0, DType.float32), (.max, .float32), (0, .bfloat16)] {
                let weights = Weights(
                    file,
                    tensors: [
                        "third": whole.part(1, of: 3), "swapped": whole.exchanged, "point": whole.pointwise,
                        "one": .identity(3),
                    ],
                    engine: engine, dtype: dtype, mappedFrom: limit)
                func read(_ name: String) throws -> [Float] {
                    try weights.tensor(name, shape: weights.shape(of: name)).converted(to: .float32).values
                }
                func rounded(_ part: ArraySlice<Float>) -> [Float] {
                    engine.tensor(Array(part), shape: [part.count], dtype: dtype).converted(to: .float32).values
                }
                #expect(try read("third") == rounded(values[2 * rows / 3..<4 * rows / 3]))
                #expect(try read("swapped") == rounded(values[rows...] + values[..<rows]))
                #expect(try read("point") == rounded(values[...]))
                #expect(try read("one") == [1, 0, 0, 0, 1, 0, 0, 0, 1])
                try weights.finish()
            }
        }
    }

    @Test("what cannot be a pipeline is refused by name")
    func refusals() throws {
        try withTemporaryFolder { folder in
            func refused(_ path: String, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation) {
                let error = #expect(throws: (any Error).self, sourceLocation: sourceLocation) {
                    try StableDiffusion3Pipeline(PipelineFiles(path: path), engine: OpenBLASEngine.shared)
                }
                for word in words {
                    #expect("\(error!)".contains(word), "\(error!)", sourceLocation: sourceLocation)
                }
            }
            let alone = folder + "/alone.safetensors"
            try FileManager.default.copyItem(atPath: Self.checkpoint, toPath: alone)
            refused(alone, alone, "no model_index.json beside it", "from_single_file")
            let one = OpenBLASEngine.shared.tensor([1], shape: [1])
            for (name, model) in [
                ("double_blocks.0.a", "FLUX"), ("model.diffusion_model.double_blocks.0.a", "FLUX"),
                ("model.diffusion_model.input_blocks.0.a", "Stable Diffusion 1, 2 or XL"), ("lora_unet_a", "adapter"),
                ("a", "without SD3's transformer"),
            ] {
                let path = folder + "/other.safetensors"
                try Parameters([name: one]).write(to: path)
                refused(path, path, model)
            }
            // In a whole folder: a fused projection of 4 rows; a checkpoint without one of its tensors.
            let copy = folder + "/pipeline"
            try FileManager.default.copyItem(atPath: Self.folder, toPath: copy)
            let tensors = try Weights(path: Self.checkpoint, engine: OpenBLASEngine.shared)
            let names = try SafeTensorsFolder(path: Self.checkpoint).entries
            var parameters = try Dictionary(
                uniqueKeysWithValues: names.map { ($0.name, try tensors.tensor($0.name, shape: $0.shape)) })
            let fused = "model.diffusion_model.joint_blocks.1.x_block.attn.qkv.weight"
            let intact = parameters[fused]
            parameters[fused] = OpenBLASEngine.shared.zeros([4, 16])
            try Parameters(parameters).write(to: copy + "/checkpoint.safetensors")
            refused(copy + "/checkpoint.safetensors", "transformer_blocks.1.attn.to_q.weight", "[4, 16]")
            parameters[fused] = intact
            parameters["first_stage_model.decoder.mid.attn_1.q.bias"] = nil
            try Parameters(parameters).write(to: copy + "/checkpoint.safetensors")
            refused(copy + "/checkpoint.safetensors", "mid_block.attentions.0.to_q.bias")
        }
    }
}
