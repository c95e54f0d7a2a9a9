import AdvGRPO
import ArgumentParser
import ComputeRoles
import Configuration
import Datasets
import Foundation
import MethodModels
import NeuralNetworks
import Platform
import Processes
import Raster
import SafeTensors
import TensorCore

/// A model, an adapter and how to compute with them; shared by `sample` and `evaluate`.
struct ModelOptions: ParsableArguments {
    @Option(
        help: "Folder of a pipeline as diffusers saves it, or a single-file checkpoint in such a folder.",
        transform: expandingHome)
    var model: String?

    @Option(
        help: "Adapter: a PEFT folder, or a pytorch_lora_weights.safetensors file or its folder.",
        transform: expandingHome)
    var lora: String?

    @Option(
        help:
            "Folder or file of a transformer in place of the model's own, checkpoints/latest/transformer for example.",
        transform: expandingHome)
    var transformer: String?

    @Option(help: "Seed of the images' noise; 0 unless given.")
    var seed: UInt64?

    @Option(help: "Denoising steps; 28 unless given.")
    var steps: Int?

    @Option(help: "Classifier-free guidance scale; 1 turns it off; 4.5 unless given.")
    var guidance: Double?

    @OptionGroup var compute: ComputeOptions

    @Option(help: "Side of the images in pixels; the model's default unless given.")
    var size: Int?

    func validate() throws {
        if let steps, !(1...1000).contains(steps) {
            throw ValidationError("--steps must be between 1 and 1000, not \(steps)")
        }
        if let guidance, !(guidance >= 1) { throw ValidationError("--guidance must be at least 1, not \(guidance)") }
        if let size, size < 1 { throw ValidationError("--size must be at least 1, not \(size)") }
    }

    /// A policy ready to make images.
    ///
    /// - Parameter settings: of a run, which say what no option does; nil for the options' own defaults.
    func load(_ policy: PolicyFolders, settings: Settings? = nil) throws -> Loaded {
        let engine = try compute.engine.engine()
        let loaded = try DiffusionPolicy(
            PolicySource(
                path: policy.model, engine: engine, dtype: compute.precision.dtype, network: policy.transformer),
            settings: PolicySettings(fidelity: .fixed), seed: 0)
        let velocity = try loaded.velocity(merging: policy.lora.map { try LoRAAdapter(path: $0, engine: engine) })
        let side = size ?? settings?.method.rollout.resolution ?? loaded.model.defaultSide
        let generator = try ImageGenerator(
            policy: loaded, steps: steps ?? settings?.run.evaluation.steps ?? 28,
            guidance: guidance ?? settings?.method.rollout.guidance ?? 4.5, height: side, width: side,
            seed: seed ?? settings.map { UInt64($0.seed) } ?? 0)
        return Loaded(policy: loaded, velocity: velocity, generator: generator, side: side, lanes: compute.lanes)
    }

    struct Loaded {
        var policy: DiffusionPolicy
        var velocity: VelocityFunction
        var generator: ImageGenerator
        var side: Int
        var lanes: Lanes
    }
}

/// `advgrpo sample`: images of prompts, as PNG files.
struct Sample: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Sample images from a model, with or without an adapter.",
        discussion: "Writes OUT/PROMPT-IMAGE.png, numbers from 0000 and 00, and lists the files on standard output.")

    @OptionGroup var options: ModelOptions

    @Option(help: "What the images show.")
    var prompt: String?

    @Option(help: "File with the prompts: one a line, or .jsonl with a prompt a row.", transform: expandingHome)
    var prompts: String?

    @Option(help: "Folder for the images.", transform: expandingHome)
    var out: String

    @Option(help: "Images of each prompt.")
    var count = 1

    @Option(
        help: "Start from these latents: safetensors with `latents` [N, C, h, w], N images in all.",
        transform: expandingHome)
    var latents: String?

    @Option(help: "Also write initial and final latents to this safetensors file.", transform: expandingHome)
    var saveLatents: String?

    func validate() throws {
        guard options.model != nil else { throw ValidationError("give the model's folder with --model") }
        guard (prompt == nil) != (prompts == nil) else { throw ValidationError("give either --prompt or --prompts") }
        guard count >= 1 else { throw ValidationError("--count must be at least 1, not \(count)") }
    }

    func run() throws {
        let texts = try prompt.map { [PromptText.trimmed($0)] } ?? PromptFile.read(prompts ?? "")
        let policy = PolicyFolders(
            model: options.model ?? "", lora: options.lora, transformer: options.transformer)
        try Preflight.notePromptCuts(texts, model: policy.model)
        let loaded = try options.load(policy)
        let orders = ImageGenerator.Order.all(prompts: texts, count: count)
        let initial = try latents.map {
            try Self.readLatents($0, shape: loaded.generator.latentShape, count: orders.count, loaded)
        }
        let final = try loaded.generator.latents(
            orders, velocity: loaded.velocity, initialLatents: initial, lanes: loaded.lanes)
        let images = RGBImage.images(of: loaded.policy.images(final, lanes: loaded.lanes))
        try Files<RuntimeError>.createFolder(out)
        for (order, image) in zip(orders, images) {
            let path = "\(out)/" + String(format: "%04d-%02d.png", order.promptIndex, order.imageIndex)
            try image.writePNG(to: path)
            print(path)
        }
        if let saveLatents {
            let noise = initial?.values ?? orders.flatMap { loaded.generator.noise($0) }
            try SafeTensorsWriter.write(
                [
                    SafeTensor(name: "initial", shape: final.shape, floats: noise),
                    SafeTensor(name: "latents", shape: final.shape, floats: final.values),
                ], metadata: ["format": "pt"], to: saveLatents)
        }
    }

    private static func readLatents(_ path: String, shape: [Int], count: Int, _ loaded: ModelOptions.Loaded) throws
        -> Tensor
    {
        let file = try SafeTensorsFile(path: path)
        guard let entry = file["latents"], entry.shape == [count] + shape else {
            throw CommandFailure(
                "\(path) has \(file["latents"].map { "latents of shape \($0.shape)" } ?? "no tensor `latents`"), expected \([count] + shape): "
                    + "one for each image.")
        }
        return loaded.policy.engine.tensor(try file.floats(of: "latents"), shape: entry.shape)
    }
}
