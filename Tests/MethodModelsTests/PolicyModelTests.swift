import AdvGRPO
import Datasets
import Foundation
import ImageModels
import NeuralNetworks
import Raster
import TensorCore
import TestSupport
import Testing

@testable import MethodModels

/// The table of policy models, and all that stands on it with a second one: `PointMass`.
@Suite struct PolicyModelTests {
    private static let rows: [any PolicyModel.Type] = PolicyModels.rows + [PointMass.self]
    /// Grey; a red prompt is brighter in red by 64 levels, a green one in green by 32.
    private static let (weight, bias): ([Float], [Float]) = (
        [64, 0, 0, 32, 0, 0].map { $0 / 255 }, [96, 96, 96].map { $0 / 255 }
    )

    /// The policy of a pipeline in `folder`.
    private func policy(
        _ folder: String, settings: PolicySettings = PolicySettings(fidelity: .fixed), embeddings: String? = nil,
        engine: any Engine = OpenBLASEngine.shared
    ) throws -> DiffusionPolicy {
        try PointMass.write(to: folder, weight: Self.weight, bias: Self.bias, engine: engine)
        return try DiffusionPolicy(
            PolicySource(PolicyFiles(path: folder, among: Self.rows), engine: engine), settings: settings, seed: 1,
            embeddings: embeddings)
    }

    // MARK: The table

    @Test("the class in model_index.json chooses the row; without the file it is the first")
    func recognised() throws {
        try withTemporaryFolder { folder in
            let first = StableDiffusion3.pipelineClass
            #expect(try PolicyFiles(path: folder).model.pipelineClass == first)
            #expect(try PolicyFiles(path: Repository.models + "/emoji-sd3-tiny").model.pipelineClass == first)
            _ = try policy(folder)
            let files = try PolicyFiles(path: folder, among: Self.rows)
            #expect(files.model.pipelineClass == PointMass.pipelineClass)
            #expect(try files.promptReaders().map(\.name) == ["words"])
            #expect(try ModelDigest.parts(of: files).keys.sorted() == ["model/point"])
            #expect(try ModelDigest.parts(of: files, [.text]).isEmpty)
            // A file in the folder is the folder's model.
            let inside = try PolicyFiles(path: folder + "/point/weights.safetensors", among: Self.rows)
            #expect(inside.folder == folder + "/point")
        }
    }

    @Test("a pipeline of an unknown class is refused by name, with those that are known")
    func unknown() throws {
        try withTemporaryFolder { folder in
            let index = folder + "/model_index.json"
            for (content, words) in [
                (
                    #"{"_class_name": "FluxPipeline"}"#,
                    ["FluxPipeline", "StableDiffusion3Pipeline or PointMassPipeline"]
                ),
                ("{}", ["without _class_name", "StableDiffusion3Pipeline or PointMassPipeline"]),
                (#"{"_class_name": 3}"#, ["_class_name"]), ("[", ["JSON"]),
            ] {
                try Data(content.utf8).write(to: URL(fileURLWithPath: index))
                let error = #expect(throws: ModelError.self) { try PolicyFiles(path: folder, among: Self.rows) }
                for word in [index] + words { #expect("\(error!)".contains(word), "\(error!)") }
            }
        }
    }

    // MARK: What stands on it

    @Test("images end at the point, whatever the noise and the steps, and with an adapter at its point")
    func generator() throws {
        try withTemporaryFolder { folder in
            for engine in testEngines {
                let policy = try policy(folder, engine: engine)
                let orders = ImageGenerator.Order.all(prompts: ["a red box", "green", "grey"], count: 2)
                for steps in [1, 7] {
                    let generator = try ImageGenerator(
                        policy: policy, steps: steps, guidance: 1.5, height: 8, width: 4, seed: 3)
                    #expect(generator.chunks == Chunks(size: 4))
                    let images = try generator.images(
                        orders, velocity: policy.velocity(policy.initialParameters), lanes: Lanes(count: 2))
                    #expect(images.shape == [6, 8, 4, 3])
                    let colours = RGBImage.images(of: images).map { Set(stride(from: 0, to: 96, by: 3).map($0.colour)) }
                    // Guidance goes from the empty prompt's grey: 96 + 1.5 · 64, 96 + 1.5 · 32.
                    let (red, green, grey): ([UInt8], [UInt8], [UInt8]) = (
                        [192, 96, 96], [96, 144, 96], [96, 96, 96]
                    )
                    #expect(colours == [[red], [red], [green], [green], [grey], [grey]])
                }
                // B A with A the identity's first row: red prompts lose what the adapter takes.
                let adapter = try #require(policy.adapter(policy.initialParameters))
                #expect(adapter.targets == ["colour"])
                let down = engine.tensor([1, 0], shape: [1, 2])
                let merged = try LoRAAdapter(
                    configuration: LoRAConfiguration(rank: 1, alpha: 1, targets: ["colour"]),
                    model: policy.model.parameters, seed: 1
                ).replacing(
                    Parameters([
                        "colour.lora_A.weight": down,
                        "colour.lora_B.weight": engine.tensor([-64 / 255, 0, 64 / 255], shape: [3, 1]),
                    ]))
                let generator = try ImageGenerator(
                    policy: policy, steps: 3, guidance: 1, height: 4, width: 4, seed: 3)
                let blue = try generator.images(
                    Array(orders[0..<1]), velocity: policy.velocity(merging: merged), lanes: Lanes(count: 1))
                #expect(RGBImage.images(of: blue)[0].colour(0) == [96, 96, 160])
            }
        }
    }

    @Test("latents that are not finite end the work by name", arguments: [Float.nan, .infinity])
    func notFinite(value: Float) throws {
        try withTemporaryFolder { folder in
            let generator = try ImageGenerator(
                policy: policy(folder), steps: 2, guidance: 1, height: 4, width: 4, seed: 3)
            let error = #expect(throws: NumericalFailure.self) {
                try generator.images(
                    ImageGenerator.Order.all(prompts: ["a red box"], count: 1),
                    velocity: { x, _, _ in x * value }, lanes: Lanes(count: 1))
            }
            #expect(error?.description.contains("a red box") == true)
        }
    }

    @Test("embeddings are kept between processes")
    func embeddings() throws {
        try withTemporaryFolder { folder in
            let cold = try policy(folder + "/model", embeddings: folder + "/embeddings")
            let expected = try cold.conditioning("red").positive.pooled_BP.values
            #expect(cold.hasTextEncoder && expected == [1, 0])
            let warm = try policy(folder + "/model", embeddings: folder + "/embeddings")
            #expect(try warm.conditioning("red").positive.pooled_BP.values == expected && !warm.hasTextEncoder)
        }
    }

    @Test(
        "the policy update raises the reward, from a first ratio of 1",
        arguments: [AdapterKind.lora, .full])
    func update(adapter: AdapterKind) throws {
        try withTemporaryFolder { folder in
            var method = MethodSettings(fidelity: .fixed)
            method.rollout.steps = 6
            method.rollout.guidance = 1
            method.rollout.resolution = 4
            method.rollout.groupSize = 8
            method.rollout.window = WindowSettings(size: 2, start: .fixed(1))
            method.policy.adapter = adapter
            method.policy.lora.rank = 2
            method.policy.learningRate = 5e-3
            method.policy.updatesPerEpoch = 1
            let policy = try policy(folder, settings: method.policy)
            #expect(
                policy.initialParameters.entries.map(\.name)
                    == (adapter == .lora
                        ? ["colour.lora_A.weight", "colour.lora_B.weight"] : ["colour.bias", "colour.weight"]))
            let rollout = try policy.rollout(method.rollout, seed: 5)
            let (lanes, chunks) = (Lanes(count: 2), Chunks(size: 4))
            let update = PolicyUpdate(settings: method.policy, rollout: rollout, chunks: chunks)
            var state = PolicyState(parameters: policy.initialParameters, settings: method.policy)
            let prompt = try policy.conditioning("a red box")
            /// The green that a red box has.
            func green() throws -> Float {
                let generator = try ImageGenerator(
                    policy: policy, steps: 2, guidance: 1, height: 4, width: 4, seed: 3)
                let images = try generator.images(
                    ImageGenerator.Order.all(prompts: ["a red box"], count: 1),
                    velocity: policy.velocity(state.parameters), lanes: lanes)
                return images.values[1]
            }
            let before = try green()
            #expect(abs(before - 96 / 255) < 1e-5)
            for epoch in 0..<12 {
                let group = GroupID(epoch: epoch, index: 0)
                let sampling = try policy.sampling(state.parameters)
                let sample = try rollout.sample(
                    group, prompt: prompt, engine: policy.engine, chunks: chunks, lanes: lanes,
                    velocity: sampling.velocity, windowVelocity: sampling.windowVelocity)
                // Green where the window ends: there members differ, at the end all are the prompt's colour.
                let last = sample.trajectory.latents(before: 2).transposed(0, 2, 3, 1)
                let rewards = (0..<8).map { member -> Float in
                    let pixels = last.rows(member..<member + 1).values
                    return stride(from: 1, to: pixels.count, by: 3).map { pixels[$0] }.reduce(0, +) / 16
                }
                let scored = ScoredGroup(group: group, prompt: prompt, trajectory: sample.trajectory, rewards: rewards)
                let reports = try update(
                    &state, groups: [scored],
                    advantages: Advantages(rewards: [rewards], deviation: method.policy.advantageStandardDeviation),
                    policy: policy.trainable, lanes: lanes)
                #expect(reports[0].statistics.largestRatio == 1)
            }
            #expect(try green() > before + 0.01)
        }
    }

    @Test("an evaluation finds the references' own colour in every image")
    func evaluator() throws {
        try withTemporaryFolder { folder in
            let policy = try policy(folder + "/model")
            let prompts = ["red", "green"]
            for (prompt, colour) in [("red", [160, 96, 96]), ("green", [96, 128, 96])] as [(String, [UInt8])] {
                let pixels = (0..<64).flatMap { _ in colour }
                try RGBImage(width: 8, height: 8, pixels: pixels).writePNG(to: "\(folder)/\(prompt).png")
            }
            let list = folder + "/prompt2img.json"
            try JSONEncoder().encode(["red": ["red.png"], "green": ["green.png"]]).write(
                to: URL(fileURLWithPath: list))
            let chunks = Chunks(size: 2)
            let evaluator = try Evaluator(
                generator: ImageGenerator(
                    policy: policy, steps: 2, guidance: 1, height: 8, width: 8, seed: 3, chunks: chunks),
                backbone: VisionBackbone(
                    folder: Repository.fixtures + "/dino-a", engine: policy.engine, dtype: .float32, resize: .tensor,
                    chunks: chunks),
                library: ReferenceLibrary(path: list, required: prompts), prompts: prompts, imagesPerPrompt: 2, side: 8)
            let own = try evaluator.measure(policy.velocity(policy.initialParameters), lanes: Lanes(count: 2))
            #expect(own.images == 4 && own.prompts == 2)
            #expect(abs(own.dinoSimilarity - 1) < 1e-5)
            #expect(abs(try #require(own.diversity)) < 1e-5)
            #expect(own.discriminatorAUC != nil && own.unmeasured.isEmpty)
            // A policy that makes every image black is not the references'.
            let black = try evaluator.measure(
                policy.model.velocity(
                    with: Parameters([
                        "colour.weight": policy.engine.zeros([3, 2]), "colour.bias": policy.engine.zeros([3]),
                    ])), lanes: Lanes(count: 2))
            #expect(black.dinoSimilarity < own.dinoSimilarity - 1e-3)
        }
    }

    @Test("operations of a velocity are counted by the model: its one layer, by hand")
    func work() throws {
        try withTemporaryFolder { folder in
            let work = try policy(folder).model.work(latentShape: [3, 4, 4], textTokens: 1, rank: 0)
            // 16 pixels, 2 inputs, 3 outputs, a multiplication and an addition each.
            #expect(work.velocity.forward == 16 * 2 * 3 * 2 && work.decoding == 0)
        }
    }
}

extension RGBImage {
    /// Red, green and blue of a pixel, by its first byte's place.
    fileprivate func colour(_ start: Int) -> [UInt8] { Array(pixels[start..<start + 3]) }
}
