public import AdvGRPO
public import ArgumentParser
import Configuration
import Foundation
import Processes
import TensorCore

/// `advgrpo bench`: how long one epoch of the method takes here, phase by phase.
struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Time the phases of one epoch on given models.",
        discussion: """
            The work is that of tools/bench-vs-pytorch unless options say otherwise: one group, 10 steps with guidance 4.5, the first \
            2 of them stochastic and trained, one discriminator step, one policy update. MODELS holds transformer, vae, scheduler and dino; text \
            encoders are not needed, conditioning is random. Each phase counts with its fastest repetition. See docs/performance.md.
            """)

    @Argument(
        help: "Folder of the models, as make_models.py writes them, or a pipeline with dino/.", transform: expandingHome
    )
    var models: String

    @OptionGroup var compute: ComputeOptions

    @Option(name: .customLong("repeat"), help: "Repetitions, after one that is not counted.")
    var repetitions = 3

    @Option(parsing: .upToNextOption, help: "Phases to repeat; all unless given.")
    var phase: [BenchPhase] = BenchPhase.allCases

    @Option(help: "Images of the group; what dino/config.json says (else 16) unless given.")
    var group: Int?

    @Option(help: "Text tokens of the conditioning; what dino/config.json says (else 16) unless given.")
    var textTokens: Int?

    @Option(help: "Side of the images in pixels; the model's default unless given.")
    var size: Int?

    @Option(help: "rollout.steps: denoising steps.")
    var steps = 10

    @Option(help: "rollout.window.size: stochastic steps at the start, which are trained.")
    var window = 2

    @Option(help: "policy.gradientCheckpointing: automatic, always or never.")
    var checkpointing = GradientCheckpointing.automatic

    @Option(help: "rollout.chunkSize: images a thread computes at once; the default, or what leaves none idle.")
    var chunk: Int?

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    func validate() throws {
        for (name, value) in [
            ("repeat", repetitions), ("text-tokens", textTokens ?? 1), ("chunk", chunk ?? 1),
            ("size", size ?? 1), ("steps", steps), ("window", window),
        ] where value < 1 {
            throw ValidationError("--\(name) must be at least 1, not \(value)")
        }
        if let group, group < 2 { throw ValidationError("--group must be at least 2, not \(group)") }
    }

    func run() throws {
        var work = try BenchWork(models: models, group: group, textTokens: textTokens, size: size)
        work.steps = steps
        work.window = window
        work.checkpointing = checkpointing
        let lanes = compute.lanes
        let chunk =
            self.chunk
            ?? min(RolloutSettings(fidelity: .fixed).chunkSize, (work.images + lanes.count - 1) / lanes.count)
        let manner = BenchReport.Manner(precision: compute.precision, chunk: chunk, lanes: lanes)
        let beginning = ProcessorUse.now
        let references = try BenchReferences(count: work.images, side: work.imageSide)
        defer { references.remove() }
        let loading = ContinuousClock.now
        var epoch = try BenchEpoch(
            work, manner, engine: try compute.engine.engine(), references: references)
        var surroundings = BenchReport.Surroundings(
            loadSeconds: (ContinuousClock.now - loading).seconds, peakMemory: 0)
        var best: [BenchPhase: BenchReport.Measurement] = [:]
        for repetition in 0...repetitions {
            for phase in BenchPhase.allCases where repetition == 0 || isNeeded(phase) {
                let measurement = try BenchReport.Measurement { try epoch.run(phase) }
                guard repetition > 0, self.phase.contains(phase) else { continue }
                best[phase] = measurement.fastest(since: best[phase])
            }
            epoch.finish()
        }
        surroundings.peakMemory = ProcessMemory.peakResidentByteCount
        surroundings.foreignCores = ProcessorUse.now.foreignCores(since: beginning)
        let report = try BenchReport(work, manner, engine: epoch.engine, best: best, surroundings)
        if json { try printJSON(report) } else { print(report.text) }
    }

    /// Whether a repetition runs a phase: it is asked for, or it scores what the discriminator trains on, once a group.
    private func isNeeded(_ phase: BenchPhase) -> Bool {
        self.phase.contains(phase) || (phase == .score && self.phase.contains(.discriminator))
    }
}

extension GradientCheckpointing: ExpressibleByArgument {}

/// What is timed; raw values are those of the PyTorch peer.
enum BenchPhase: String, CaseIterable, ExpressibleByArgument {
    /// Latents of one group.
    case sample
    /// Latents to 8-bit images.
    case decode
    /// Images to rewards.
    case score
    /// A training of the discriminator.
    case discriminator
    /// A training of the policy.
    case policy
}
