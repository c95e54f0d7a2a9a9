import AdvGRPO
import ArgumentParser
import ComputeRoles
import Configuration
import Datasets
import Foundation
import Platform
import Processes
import Raster
import RewardServer
import RunFiles
import TensorCore

/// `advgrpo discriminators`: every head of the discriminator on the same images and references.
struct Discriminators: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Train each of the discriminator's heads on given images, and show how well it tells them from references.",
        discussion: """
            Takes references, backbone and the discriminator's settings from a run's settings file, and images from --images. With the             folder of a run in the file's place, and no --images, the images are the run's own: of its base, and of every snapshot that             it has kept, also while it goes on. A head learns from the images of every other prompt and is measured on the rest, and on             references that it has not learned from. Prints, after 0, 1, 2, 4 ... steps, seconds, the area under the ROC curve and the             margin, and at the end the cosine of the head's gradient with the direction towards the prompt's references as the             evaluation's backbone sees it; heads on statistics of pixels have no gradient.
            """)

    @OptionGroup var options: SettingsOptions

    @Option(
        help:
            "JSON file {prompt: [image files]} of generated images, paths relative to its folder. May be repeated: one table each.",
        transform: expandingHome)
    var images: [String] = []

    @Option(help: "Prompts that a run's policies are sampled from, two images each.")
    var prompts = 64

    @Option(
        help: "A head to try. May be repeated; all that need no model of their own unless given.",
        transform: Discriminators.named
    )
    var head: [RewardComponent] = []

    @Option(help: "Optimiser steps of each head.")
    var steps = 128

    @Option(
        help:
            "Folder for a sheet a head, HEAD.png, or NUMBER-HEAD.png for each of several sources: the images it believes most.",
        transform: expandingHome)
    var out: String?

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    /// Images on a sheet.
    private static let sheetCount = 32

    func validate() throws {
        guard (1...100_000).contains(steps) else {
            throw ValidationError("--steps must be between 1 and 100000, not \(steps)")
        }
        guard (2...100_000).contains(prompts) else {
            throw ValidationError("--prompts must be between 2 and 100000, not \(prompts)")
        }
        guard Set(head).count == head.count else { throw ValidationError("--head names a head twice") }
    }

    @Sendable
    private static func named(_ name: String) throws -> RewardComponent {
        guard let component = all.first(where: { $0.rawValue == name }) else {
            throw ValidationError(
                "\(name) is no head that learns from images alone; these are "
                    + all.map(\.rawValue).joined(separator: ", "))
        }
        return component
    }

    /// Heads that need no model beside the backbone.
    private static var all: [RewardComponent] {
        RewardComponent.allCases.filter { component in
            guard component.isAdversarial else { return false }
            if case .folder = component.model { return false }
            return true
        }
    }

    func run() throws {
        let settings = try options.loadOfRun()
        Preflight.noteLeftOut(try RunPrompts(settings))
        if settings.resolvedEvaluationBackbone == settings.rewardBackbone {
            note("evaluationBackbone is the reward's: the gradient's cosine is with what the heads see themselves")
        }
        let engine = try settings.engine.engine()
        let sources =
            images.isEmpty
            ? try RunSamples(settings, run: try runFolder(), promptCount: prompts, engine: engine).sources
            : images.map { path in .init(name: path) { try read(path, side: settings.method.rollout.resolution) } }
        if let out { try Files<RuntimeError>.createFolder(out) }
        var document: [Document] = []
        for (number, source) in sources.enumerated() {
            let given = try source.images()
            if sources.count > 1, !json { print("\(number + 1): \(source.name)") }
            for component in head.isEmpty ? Self.all : head {
                let trial = try DiscriminatorTrial(
                    component, settings: settings, images: given, steps: steps, engine: engine)
                document.append(Document(source.name, component, trial))
                if !json { document.last?.lines.forEach { print($0) } }
                guard let out else { continue }
                let all = given.flatMap(\.images)
                let sheet = ContactSheet(
                    images: trial.believed.prefix(Self.sheetCount).map { all[$0.image] }, columns: 8)
                let place = sources.count > 1 ? "\(number + 1)-" : ""
                try sheet.image.writePNG(to: "\(out)/\(place)\(component.rawValue).png")
            }
        }
        if json { try printJSON(document) }
    }

    /// Whose images are tried.
    struct Source {
        var name: String
        /// Reads or makes them.
        var images: () throws -> [DiscriminatorTrial.Images]
    }

    /// - Throws: `CommandFailure` where a settings file was named and no images.
    private func runFolder() throws -> String {
        guard RunDirectory.holdsRun(options.settings) else {
            throw CommandFailure(
                "no images: name a file of them with --images, or the folder of a run in place of \(options.settings).")
        }
        return options.settings
    }

    /// - Throws: `CommandFailure` for fewer than two prompts or an image of another size.
    private func read(_ path: String, side: Int) throws -> [DiscriminatorTrial.Images] {
        let library = try ReferenceLibrary(path: path)
        guard library.prompts.count >= 2 else {
            throw CommandFailure(
                "\(path) has images of one prompt; give two, one to learn from and one to measure on.")
        }
        return try library.prompts.map { prompt in
            DiscriminatorTrial.Images(
                prompt: prompt,
                images: try library.paths(of: prompt).map { path in
                    let image = try RGBImage(path: path)
                    guard image.width == side, image.height == side else {
                        throw CommandFailure(
                            "\(path) has \(image.width) x \(image.height) pixels, the settings' rollout.resolution is \(side): "
                                + "give images of that size.")
                    }
                    return image
                })
        }
    }

    /// What `--json` prints of a head.
    struct Document: Encodable {
        struct Point: Encodable {
            var steps: Int
            var seconds: Double
            var auc: Double
            var margin: Double
        }

        /// The file of the images, or the run's policy that made them.
        var images: String
        var head: String
        /// Seconds in which the backbone read the images.
        var readingSeconds: Double
        var points: [Point]
        /// Of the trained head's gradient; absent where it has none.
        var gradientCosine: Double?
        var gradientCosineStandardError: Double?

        init(_ images: String, _ component: RewardComponent, _ trial: DiscriminatorTrial) {
            self.images = images
            head = component.rawValue
            readingSeconds = trial.readingSeconds
            points = trial.points.map {
                Point(
                    steps: $0.steps, seconds: $0.seconds, auc: $0.separation.areaUnderCurve,
                    margin: $0.separation.margin)
            }
            gradientCosine = trial.gradientCosine?.mean
            gradientCosineStandardError = trial.gradientCosine?.standardError
        }

        /// For people: a line a point, and one of the gradient.
        var lines: [String] {
            let name = head.padding(toLength: 18, withPad: " ", startingAt: 0)
            let gradient =
                if let cosine = gradientCosine, let error = gradientCosineStandardError {
                    [String(format: "   gradient's cosine %.3f ± %.3f", cosine, error)]
                } else { [String]() }
            return points.map {
                name
                    + String(
                        format: "%6d steps %8.2f s   AUC %.3f   margin %.3f", $0.steps, $0.seconds, $0.auc, $0.margin)
            } + gradient.map { name + $0 }
        }
    }
}
