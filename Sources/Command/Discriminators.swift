import AdvGRPO
import ArgumentParser
import Configuration
import Datasets
import Foundation
import Platform
import Processes
import Raster
import RewardServer
import TensorCore

/// `advgrpo discriminators`: every head of the discriminator on the same images and references.
struct Discriminators: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Train each of the discriminator's heads on given images, and show how well it tells them from references.",
        discussion: """
            Takes references, backbone and the discriminator's settings from a run's settings file. A head learns from the images of every \
            other prompt and is measured on the rest, and on references that it has not learned from. Prints, after 0, 1, 2, 4 ... steps, \
            seconds, the area under the ROC curve and the margin.
            """)

    @OptionGroup var options: SettingsOptions

    @Option(
        help: "JSON file {prompt: [image files]} of generated images, paths relative to its folder.",
        transform: expandingHome)
    var images: String

    @Option(
        help: "A head to try. May be repeated; all that need no model of their own unless given.",
        transform: Discriminators.named
    )
    var head: [RewardComponent] = []

    @Option(help: "Optimiser steps of each head.")
    var steps = 128

    @Option(
        help: "Folder for a sheet a head, HEAD.png: the images it believes most, the most believed first.",
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
        let settings = try options.load()
        let given = try read(side: settings.method.rollout.resolution)
        let engine = try settings.engine.engine()
        if let out { try Files<RuntimeError>.createFolder(out) }
        var document: [Document] = []
        for component in head.isEmpty ? Self.all : head {
            let trial = try DiscriminatorTrial(
                component, settings: settings, images: given, steps: steps, engine: engine)
            document.append(Document(component, trial))
            if !json { document.last?.lines.forEach { print($0) } }
            guard let out else { continue }
            let all = given.flatMap(\.images)
            let sheet = ContactSheet(
                images: trial.believed.prefix(Self.sheetCount).map { all[$0.image] }, columns: 8)
            try sheet.image.writePNG(to: "\(out)/\(component.rawValue).png")
        }
        if json { try printJSON(document) }
    }

    /// - Throws: `CommandFailure` for fewer than two prompts or an image of another size.
    private func read(side: Int) throws -> [DiscriminatorTrial.Images] {
        let library = try ReferenceLibrary(path: images)
        guard library.prompts.count >= 2 else {
            throw CommandFailure(
                "\(images) has images of one prompt; give two, one to learn from and one to measure on.")
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

        var head: String
        /// Seconds in which the backbone read the images.
        var readingSeconds: Double
        var points: [Point]

        init(_ component: RewardComponent, _ trial: DiscriminatorTrial) {
            head = component.rawValue
            readingSeconds = trial.readingSeconds
            points = trial.points.map {
                Point(
                    steps: $0.steps, seconds: $0.seconds, auc: $0.separation.areaUnderCurve,
                    margin: $0.separation.margin)
            }
        }

        /// For people: a line a point.
        var lines: [String] {
            points.map {
                head.padding(toLength: 18, withPad: " ", startingAt: 0)
                    + String(
                        format: "%6d steps %8.2f s   AUC %.3f   margin %.3f", $0.steps, $0.seconds, $0.auc, $0.margin)
            }
        }
    }
}
