import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

/// The transformer against diffusers' SD3Transformer2DModel, and its adapter against PEFT.
@Suite struct MMDiTTests {
    static let cases = ["mmdit-a", "mmdit-b"]

    struct Inputs {
        let latents: Tensor, text: Tensor, pooled: Tensor
        let timesteps: [Float]

        init(_ golden: Golden, on engine: any Engine, tracked: Bool = false) throws {
            func input(_ name: String) throws -> Tensor {
                let tensor = try golden.tensor("input/" + name, on: engine)
                return tracked ? tensor.tracked() : tensor
            }
            latents = try input("latents")
            text = try input("text")
            pooled = try input("pooled")
            timesteps = try golden.floats("input/timestep")
        }

        var conditioning: Conditioning { Conditioning(text_BSD: text, pooled_BP: pooled) }

        func velocity(_ model: MMDiT) -> Tensor {
            model.velocity(latents, timesteps: timesteps, conditioning: conditioning)
        }
    }

    @Test("the velocity equals the reference's", arguments: cases)
    func velocity(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try MMDiT(folder: Repository.fixtures + "/" + name, engine: engine)
            try expectClose(try Inputs(golden, on: engine).velocity(model), golden, "output")
        }
    }

    @Test("gradients of every parameter and input equal the reference's", arguments: cases)
    func gradients(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let base = try MMDiT(folder: Repository.fixtures + "/" + name, engine: engine)
            let parameters = base.trainableParameters.tracked()
            let inputs = try Inputs(golden, on: engine, tracked: true)
            let output = inputs.velocity(try base.replacing(parameters))
            try expectClose(output, golden, "output")
            let gradients = output.gradients(upstream: try golden.tensor("grad_output", on: engine))
            try expectGradients(gradients, of: parameters, golden, absolute: 0)
            try expectClose(gradients[inputs.latents], golden, "grad_input/latents")
            try expectClose(gradients[inputs.text], golden, "grad_input/text")
            try expectClose(gradients[inputs.pooled], golden, "grad_input/pooled")
        }
    }

    @Test("a merged adapter gives PEFT's velocity, and PEFT's gradients when it is tracked")
    func merged() throws {
        let golden = try Golden("mmdit-a-lora/golden.safetensors")
        let inputsGolden = try Golden("mmdit-a/golden.safetensors")
        for engine in testEngines {
            let model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine)
            let stored = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
            let inputs = try Inputs(inputsGolden, on: engine)
            try expectClose(inputs.velocity(try model.merged(stored)), golden, "output")
            let adapter = stored.replacing(stored.parameters.tracked())
            let output = inputs.velocity(try model.merged(adapter))
            let gradients = output.gradients(upstream: try golden.tensor("grad_output", on: engine))
            for (name, tensor) in adapter.parameters.entries {
                try expectClose(gradients[tensor], golden, "grad/base_model.model." + name)
            }
        }
    }

    /// Gradients of every leaf of both ways to train, with blocks computed again where their activations exceed `limit`.
    private func everyGradient(_ engine: any Engine, _ dtype: DType, limit: Int) throws -> [[Float]] {
        let inputsGolden = try Golden("mmdit-a/golden.safetensors")
        let upstream = try inputsGolden.tensor("grad_output", on: engine)
        var base = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine, dtype: dtype)
        base.activationByteLimit = limit
        let stored = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
        let adapter = stored.replacing(stored.parameters.tracked())
        let inputs = try Inputs(inputsGolden, on: engine)
        var gradients: [[Float]] = []
        func collect(_ output: Tensor, _ leaves: Parameters) {
            gradients.append(output.values)
            gradients += leaves.gradients(from: output.gradients(upstream: upstream)).entries.map(\.tensor.values)
        }
        collect(inputs.velocity(try base.merged(adapter)), adapter.parameters)
        let weights = base.trainableParameters.tracked()
        collect(try Inputs(inputsGolden, on: engine, tracked: true).velocity(try base.replacing(weights)), weights)
        return gradients
    }

    @Test("computing blocks again gives the same gradients, bit for bit", arguments: DType.allCases)
    func checkpointing(dtype: DType) throws {
        for engine in testEngines {
            let kept = try everyGradient(engine, dtype, limit: .max)
            #expect(kept.contains { $0.contains { $0 != 0 } })
            #expect(try everyGradient(engine, dtype, limit: 0) == kept, "\(engine.name)")
        }
    }

    @Test("a tracked forward pass keeps the bytes that the configuration says, with checkpointing few")
    func activationBytes() async {
        // A process of its own: the pool counts the buffers of everybody.
        await #expect(processExitsWith: .success) {
            let engine = OneDNNEngine.shared
            let golden = try Golden("mmdit-b/golden.safetensors")
            var model = try MMDiT(folder: Repository.fixtures + "/mmdit-b", engine: engine)
            model = try model.replacing(model.trainableParameters.tracked())
            let inputs = try Inputs(golden, on: engine)
            let patches = model.configuration.patchSize * model.configuration.patchSize
            let B = inputs.latents.shape[0]
            let predicted = model.configuration.activationByteCount(
                samples: B, imageTokens: inputs.latents.shape[2] * inputs.latents.shape[3] / patches,
                textTokens: inputs.text.shape[1], dtype: .float32)
            func kept(_ limit: Int) -> Int {
                model.activationByteLimit = limit
                _ = inputs.velocity(model)  // packs the weights
                HostBufferPool.trim()
                let before = HostBufferPool.systemByteCount
                let output = inputs.velocity(model)
                HostBufferPool.trim()
                return withExtendedLifetime(output) { HostBufferPool.systemByteCount - before }
            }
            let (all, few) = (kept(.max), kept(0))
            print("kept \(all) bytes, predicted \(predicted), with checkpointing \(few)")
            precondition(abs(all - predicted) < predicted / 4 && few < predicted / 5)
        }
    }

    @Test("bf16 stays within bf16's precision of the reference", arguments: cases)
    func bfloat16(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try MMDiT(folder: Repository.fixtures + "/" + name, engine: engine, dtype: .bfloat16)
            let output = try Inputs(golden, on: engine).velocity(model)
            #expect(output.dtype == .float32)
            // 2^-8 a rounding, about twenty roundings deep.
            try expectClose(output, golden, "output", relative: 0.05)
        }
    }

    @Test("in bf16 the gradients of an fp32 adapter are fp32 and point the reference's way")
    func bfloat16Adapter() throws {
        let golden = try Golden("mmdit-a-lora/golden.safetensors")
        let inputsGolden = try Golden("mmdit-a/golden.safetensors")
        for engine in testEngines {
            let model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine, dtype: .bfloat16)
            let stored = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
            let adapter = stored.replacing(stored.parameters.tracked())
            let output = try Inputs(inputsGolden, on: engine).velocity(try model.merged(adapter))
            let gradients = adapter.parameters.gradients(
                from: output.gradients(upstream: try golden.tensor("grad_output", on: engine)))
            var (dot, own, reference) = (0.0, 0.0, 0.0)
            for (name, gradient) in gradients.entries {
                #expect(gradient.dtype == .float32)
                for (a, b) in zip(gradient.values, try golden.floats("grad/base_model.model." + name)) {
                    dot += Double(a) * Double(b)
                    own += Double(a) * Double(a)
                    reference += Double(b) * Double(b)
                }
            }
            #expect(dot / (own * reference).squareRoot() > 0.998)
        }
    }

    @Test("timesteps become diffusers' sinusoids", arguments: [16, 256])
    func sinusoids(width: Int) throws {
        let golden = try Golden("ops.safetensors")
        let name = "timestep_embedding.\(width)"
        for engine in testEngines {
            let timesteps = try golden.floats(name + "/input")
            let embedded = timestepEmbedding(timesteps, width: width, engine: engine)
            try expectClose(embedded, golden, name + "/output", relative: 0, absolute: 1e-4)
        }
    }

    @Test("samples of a batch do not influence each other")
    func batchIndependence() throws {
        let golden = try Golden("mmdit-a/golden.safetensors")
        let engine = OpenBLASEngine.shared
        let model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine)
        let inputs = try Inputs(golden, on: engine)
        let together = inputs.velocity(model)
        for sample in 0..<2 {
            let alone = model.velocity(
                inputs.latents.rows(sample..<sample + 1), timesteps: [inputs.timesteps[sample]],
                conditioning: inputs.conditioning.rows(sample..<sample + 1))
            expectClose(alone, together.rows(sample..<sample + 1), relative: 1e-5, "sample \(sample)")
        }
    }
}
