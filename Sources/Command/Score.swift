public import AdvGRPO
public import ArgumentParser
import ComputeRoles
import Configuration
import Datasets
import Foundation
import ImageModels
import MethodModels
import Raster
import TensorCore

/// `advgrpo score`: what frozen rewards say about image files.
struct Score: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Score image files (PNG, JPEG, WebP) with rewards that need no training.",
        discussion: """
            Images are given by name, with one prompt for all of them, or as a JSON file of prompts with their images. Each reward that \
            has a model takes one --model, in the order of the rewards: \
            --reward pickscore --model PickScore_v1 --reward jpeg_compressibility. Prints a line for each image: its scores, then its path.
            """)

    @Option(help: "A reward. May be repeated.")
    var reward: [RewardComponent]

    @Option(
        help: "Folder of a reward's model, as transformers saves it. One for each reward that has a model.",
        transform: expandingHome)
    var model: [String] = []

    @Option(help: "What the images should show.")
    var prompt: String?

    @Option(
        help: "JSON file {prompt: [image files]}, paths relative to its folder, as for evaluate's --references.",
        transform: expandingHome)
    var images: String?

    @Option(
        help: "What rewards like image_similarity compare with: JSON file {prompt: [image files]}.",
        transform: expandingHome)
    var references: String?

    @OptionGroup var compute: ComputeOptions

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    @Argument(help: "PNG, JPEG or WebP files.", transform: expandingHome)
    var files: [String] = []

    func validate() throws {
        if let other = reward.first(where: \.isAdversarial) {
            throw ValidationError("\(other.rawValue) is of a run's discriminator and cannot be scored here")
        }
        let comparing = RewardComponent.allCases.filter { !$0.isAdversarial && $0.reads.contains(.references) }
        guard reward.contains(where: comparing.contains) == (references != nil) else {
            let names = comparing.map(\.rawValue).joined(separator: " or ")
            throw ValidationError("--references and --reward \(names) belong together")
        }
        guard Set(reward).count == reward.count else { throw ValidationError("--reward names a reward twice") }
        let needing = reward.filter { $0.model != nil }
        guard model.count == needing.count else {
            throw ValidationError(
                "\(model.count) --model given, \(needing.count) needed"
                    + (needing.isEmpty ? "" : ": for " + needing.map(\.rawValue).joined(separator: ", ")))
        }
        guard (images == nil) != files.isEmpty else { throw ValidationError("give either image files or --images") }
        guard images == nil || prompt == nil else {
            throw ValidationError("--images has the prompts; leave --prompt out")
        }
        if images == nil, prompt == nil, let reader = reward.first(where: { $0.reads.contains(.prompt) }) {
            throw ValidationError("\(reader.rawValue) reads a prompt: give --prompt")
        }
    }

    func run() throws {
        var document = Document(rewards: [], images: try items())
        let engine = try compute.engine.engine()
        let lanes = compute.lanes
        var folders = model[...]
        let prompts = document.images.compactMap(\.prompt)
        let library = try references.map { try ReferenceLibrary(path: $0, required: Set(prompts).sorted()) }
        let rewards = try reward.map { component in
            let folder = component.model == nil ? nil : folders.popFirst()
            document.rewards.append(
                Document.Reward(name: component.rawValue, model: folder, divisor: component.divisor))
            let reward = try FrozenReward(
                component, folder: folder ?? "", engine: engine, dtype: compute.precision.dtype, chunks: Chunks(size: 4)
            ) { prompt, width, height in
                guard let library else { preconditionFailure("\(component.rawValue) without --references") }
                return try library.references(of: prompt, width: width, height: height)
            }
            if let cuts = PromptCuts(prompts, readers: reward.promptReader.map { [$0] } ?? []) {
                note("\(component.rawValue): \(cuts.warning)")
            }
            if let leftOut = reward.leftOut { note(leftOut) }
            return reward
        }
        // A block of images at a time: a data set's do not fit into memory.
        for block in Chunks(size: 64).ranges(document.images.count) {
            let pictures = try document.images[block].map { try RGBImage(path: $0.image) }
            let prompts = document.images[block].map { $0.prompt ?? "" }
            for reward in rewards {
                for (index, value) in zip(block, try reward.scores(of: pictures, prompts: prompts, lanes: lanes)) {
                    document.images[index].scores[reward.component.rawValue] = try finite(
                        value, reward.component, document.images[index].image)
                }
            }
            if !json { document.images[block].forEach(printLine) }
        }
        if json { try printJSON(document) }
    }

    private func finite(_ score: Float, _ component: RewardComponent, _ image: String) throws -> Float {
        guard score.isFinite else {
            throw CommandFailure("\(component.rawValue) of \(image) is \(score); check the model's weights.")
        }
        return score
    }

    private func printLine(_ item: Document.Image) {
        let scores = reward.map { "\($0.rawValue) \(item.scores[$0.rawValue] ?? .nan)" }
        print((scores + [item.image]).joined(separator: "\t"))
    }

    private func items() throws -> [Document.Image] {
        guard let images else { return files.map { Document.Image(image: $0, prompt: prompt.map(PromptText.trimmed)) } }
        let library = try ReferenceLibrary(path: images)
        return library.prompts.flatMap { prompt in
            library.paths(of: prompt).map { Document.Image(image: $0, prompt: prompt) }
        }
    }

    /// What `--json` prints.
    struct Document: Encodable {
        struct Reward: Encodable {
            var name: String
            var model: String?
            /// What a run divides the score by where it enters the weighted sum.
            var divisor: Float
        }

        struct Image: Encodable {
            var image: String
            var prompt: String?
            var scores: [String: Float] = [:]
        }

        var rewards: [Reward]
        var images: [Image]
    }
}

extension RewardComponent: ExpressibleByArgument {
    /// What help and completion offer; a run's discriminator heads have a name but nothing to be scored with here.
    public static var allValueStrings: [String] { allCases.filter { !$0.isAdversarial }.map(\.rawValue) }

    /// What help says of each.
    public static var allValueDescriptions: [String: String] {
        Dictionary(uniqueKeysWithValues: allCases.filter { !$0.isAdversarial }.map { ($0.rawValue, $0.meaning) })
    }
}
