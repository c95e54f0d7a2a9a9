import AdvGRPO
import ArgumentParser
import Datasets
import Foundation
import Learner
import MethodModels
import TensorCore

/// `advgrpo evaluate`: how close a model's images are to references.
struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Measure a model: DINO similarity, Fréchet distance, diversity, and how well a discriminator tells it apart."
    )

    @OptionGroup var options: ModelOptions

    @Option(help: "The references: prompt2img.json, {prompt: [image files]}.", transform: expandingHome)
    var references: String

    @Option(
        help:
            "File with the prompts to measure on; those of validation.txt beside the references, else all, unless given.",
        transform: expandingHome)
    var prompts: String?

    @Option(help: "Most prompts to measure on, from the file's start.")
    var limit = 64

    @Option(help: "Images of each prompt.")
    var count = 2

    @Option(
        help: "Folder of the backbone whose features are compared; MODEL/dino-evaluation or MODEL/dino unless given.",
        transform: expandingHome)
    var backbone: String?

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    func validate() throws {
        guard limit >= 1, count >= 1 else { throw ValidationError("--limit and --count must be at least 1") }
    }

    func run() throws {
        let texts = Array(try promptTexts().prefix(limit))
        let library = try ReferenceLibrary(path: references, required: texts)
        let folder = try backboneFolder()
        try Preflight.notePromptCuts(texts, model: options.model)
        let loaded = try options.load()
        let backbone = try VisionBackbone(
            folder: folder, engine: loaded.policy.engine, dtype: .float32, resize: .tensor,
            chunks: loaded.generator.chunks)
        if let leftOut = backbone.leftOut { note(leftOut) }
        let evaluator = try Evaluator(
            generator: loaded.generator, backbone: backbone, library: library, prompts: texts, imagesPerPrompt: count,
            side: loaded.side)
        let result = try evaluator.measure(loaded.velocity, lanes: loaded.lanes)
        if json { return try printJSON(result) }
        print("images            \(result.images) of \(result.prompts) prompts, features of \(folder)")
        for (name, value) in result.figures {
            print(name.padding(toLength: 18, withPad: " ", startingAt: 0) + "\(value)")
        }
        if !result.unmeasured.isEmpty { note("too few images to measure \(result.unmeasured.joined(separator: ", "))") }
    }

    /// - Throws: `CommandFailure` where nothing was named and the model's folder has none.
    private func backboneFolder() throws -> String {
        let own = try ["dino-evaluation", "dino"].map(PolicyFiles(path: options.model).file)
        guard let folder = backbone ?? own.first(where: PromptFile.exists) else {
            throw CommandFailure(
                "\(options.model) has no vision backbone in it: name a DINOv2 or DINOv3 folder with --backbone.")
        }
        return folder
    }

    private func promptTexts() throws -> [String] {
        if let prompts { return try PromptFile.read(prompts) }
        let folder = references.lastIndex(of: "/").map { String(references[...$0]) } ?? ""
        let heldOut = folder + "validation.txt"
        return PromptFile.exists(heldOut)
            ? try PromptFile.read(heldOut) : try ReferenceLibrary(path: references).prompts
    }
}
