import AdvGRPO
import ArgumentParser
import Configuration
import Datasets
import Foundation
import Learner
import MethodModels
import RunFiles
import TensorCore

/// `advgrpo evaluate`: how close a model's images are to references, and which of two models' images a judge prefers.
struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Measure a model: DINO similarity, Fréchet distance, diversity, and how well a discriminator tells it apart.",
        discussion: """
            Either RUN, whose newest snapshot is measured as the run measures itself, or --model and --references with what is to be \
            measured. A figure with ± has its standard error behind it, from 100 resamples of the prompts. --judge adds what an unseen \
            classifier of captions says, and with --against how often it prefers one policy's image to the other's of the same prompt \
            and noise: by the probability of the right caption, and by nearness to the prompt's references. A tie counts as half a win; \
            the interval is Wilson's at 95%. Prompts that the judge has no caption for are named and left out of what it says.
            """)

    @Argument(help: "Folder of a run, which says all that no option does.", transform: expandingHome)
    var folder: String?

    @OptionGroup var options: ModelOptions

    @Option(help: "The references: prompt2img.json, {prompt: [image files]}.", transform: expandingHome)
    var references: String?

    @Option(
        help:
            "File with the prompts to measure on; those of validation.txt beside the references, else all, unless given.",
        transform: expandingHome)
    var prompts: String?

    @Option(help: "Most prompts to measure on, from the file's start; 64 unless given.")
    var limit: Int?

    @Option(help: "Images of each prompt; 2 unless given.")
    var count: Int?

    @Option(
        help: "Folder of the backbone whose features are compared; MODEL/dino-evaluation or MODEL/dino unless given.",
        transform: expandingHome)
    var backbone: String?

    @Option(
        help:
            "Another policy, measured with the same noise: a run's folder, an adapter, a transformer's folder, or `base`.",
        transform: expandingHome)
    var against: String?

    @Option(
        help: "Folder of a classifier of captions that neither reward nor backbone is, Models/emoji-judge for example.",
        transform: expandingHome)
    var judge: String?

    @Option(help: "What is done about prompts without references: refuse or leaveOut; as the run says, else refuse.")
    var missingReferences: MissingReferencesAnswer?

    @Flag(help: "Print one JSON document and nothing else.")
    var json = false

    func validate() throws {
        guard limit ?? 1 >= 1, count ?? 1 >= 1 else { throw ValidationError("--limit and --count must be at least 1") }
        guard folder != nil || options.model != nil && references != nil else {
            throw ValidationError("give the folder of a run, or --model and --references")
        }
        guard folder == nil || options.lora == nil && options.transformer == nil else {
            throw ValidationError("\(folder ?? "") has its own adapter; leave --lora and --transformer out")
        }
    }

    func run() throws {
        if let folder, !RunDirectory.holdsRun(folder) {
            throw CommandFailure(
                "\(folder) holds no run; name a folder that `advgrpo train --run-dir` made, or use --model.")
        }
        let settings = try folder.map { try RunDirectory.storedSettings(in: $0) }
        let policy = try policy()
        let other = try against.map { try PolicyFolders($0, model: policy.model) }
        let list = references ?? settings?.data.references ?? ""
        let leavesOut = (missingReferences ?? settings?.data.missingReferences) == .leaveOut
        var texts = try promptTexts(list, settings)
        let withoutReferences = leavesOut ? try Self.withoutReferences(texts, in: list) : []
        texts.removeAll(where: Set(withoutReferences).contains)
        texts = Array(texts.prefix(limit ?? settings.map(Self.promptLimit) ?? 64))
        let library = try ReferenceLibrary(
            path: list, required: texts,
            remedy: "add them with their images, or leave them out (--missing-references leaveOut)",
            dropsEmpty: leavesOut)
        let backboneFolder = try backboneFolder(policy, settings)
        try Preflight.notePromptCuts(texts, model: policy.model)
        let loaded = try options.load(policy, settings: settings)
        let backbone = try VisionBackbone(
            folder: backboneFolder, engine: loaded.policy.engine, dtype: .float32, resize: .tensor,
            chunks: loaded.generator.chunks)
        if let leftOut = backbone.leftOut { note(leftOut) }
        let evaluator = try Evaluator(
            generator: loaded.generator, backbone: backbone, library: library, prompts: texts,
            imagesPerPrompt: count ?? settings?.run.evaluation.seeds ?? 2, side: loaded.side)
        let judge = try judge.map {
            try CaptionJudge(
                folder: $0, unlike: try seen([policy] + (other.map { [$0] } ?? []), backboneFolder),
                pictures_BHWC: evaluator.pictures_BHWC, engine: loaded.policy.engine, chunks: loaded.generator.chunks)
        }
        var report = EvaluationDocument(
            backbone: backboneFolder, withoutReferences: withoutReferences,
            judge: try judge.map { ($0, try evaluator.unknown(to: $0)) })
        if let unknown = report.judge?.leftOut, !unknown.isEmpty { note(Self.leftOut(unknown, of: texts.count)) }
        try report.add(
            folder ?? options.lora ?? options.transformer ?? "base",
            evaluator.images(of: loaded.velocity, by: loaded.generator, lanes: loaded.lanes), evaluator, judge,
            loaded.lanes)
        if let other, let against {
            let second = try options.load(other, settings: settings)
            guard second.side == loaded.side else {
                throw CommandFailure(
                    "\(against) makes images of \(second.side) pixels, \(policy.model) of \(loaded.side); give both the same --size."
                )
            }
            try report.add(
                against, evaluator.images(of: second.velocity, by: second.generator, lanes: second.lanes), evaluator,
                judge, second.lanes)
        }
        if json { return try printJSON(report) }
        print(report.text)
        if let unmeasured = report.policies.first?.result.unmeasured, !unmeasured.isEmpty {
            note("too few images to measure \(unmeasured.joined(separator: ", "))")
        }
    }

    /// What is measured.
    private func policy() throws -> PolicyFolders {
        var policy =
            try folder.map { try PolicyFolders(run: $0) }
            ?? PolicyFolders(model: "", lora: options.lora, transformer: options.transformer)
        policy.model = options.model ?? policy.model
        return policy
    }

    /// As many prompts as a run evaluates; a run that evaluates none says nothing.
    private static func promptLimit(_ settings: Settings) -> Int {
        settings.run.evaluation.prompts > 0 ? settings.run.evaluation.prompts : 64
    }

    private static func leftOut(_ unknown: [String], of count: Int) -> String {
        "the judge has no caption for \(unknown.count) of \(count) prompts and is not asked about them: "
            + PromptText.list(unknown)
    }

    /// The prompts that a library does not have, named on standard error.
    ///
    /// - Throws: `CommandFailure` where it has none of them.
    private static func withoutReferences(_ prompts: [String], in list: String) throws -> [String] {
        let library = try ReferenceLibrary(path: list, dropsEmpty: true)
        let missing = prompts.filter { !library.contains($0) }
        guard missing.count < prompts.count else {
            throw CommandFailure(
                "\(list) has none of the \(prompts.count) prompts: \(PromptText.list(prompts)); name their references.")
        }
        if !missing.isEmpty {
            note(
                "\(list) has no references for \(missing.count) of \(prompts.count) prompts, which are left out: "
                    + PromptText.list(missing))
        }
        return missing
    }

    /// Backbones that training or the other figures read, as far as is known: those beside the models, the evaluation's, and the
    /// reward's of every run that a policy comes from.
    private func seen(_ policies: [PolicyFolders], _ evaluation: String) throws -> [CaptionJudge.Seen] {
        var seen = [CaptionJudge.Seen(folder: evaluation, role: "the evaluation's backbone")]
        for policy in policies {
            let beside = try PolicyFiles(path: policy.model).file("dino")
            if PromptFile.exists(beside) { seen.append(.init(folder: beside, role: "the reward's backbone")) }
            guard let run = policy.run else { continue }
            let reward = try RunDirectory.storedSettings(in: run).rewardBackbone
            if PromptFile.exists(reward) {
                seen.append(.init(folder: reward, role: "the reward's backbone of \(run)"))
            } else {
                note(
                    "warning: \(reward), the reward's backbone of \(run), is not there: whether it is the judge was not looked at"
                )
            }
        }
        var folders: Set<String> = []
        return seen.filter { folders.insert($0.folder).inserted }
    }

    /// - Throws: `CommandFailure` where nothing was named and the model's folder has none.
    private func backboneFolder(_ policy: PolicyFolders, _ settings: Settings?) throws -> String {
        let own = try ["dino-evaluation", "dino"].map(PolicyFiles(path: policy.model).file)
        guard
            let folder = backbone ?? settings?.resolvedEvaluationBackbone ?? own.first(where: PromptFile.exists)
        else {
            throw CommandFailure(
                "\(policy.model) has no vision backbone in it: name a DINOv2 or DINOv3 folder with --backbone.")
        }
        return folder
    }

    private func promptTexts(_ references: String, _ settings: Settings?) throws -> [String] {
        if let prompts = prompts ?? (self.references == nil ? settings?.data.evaluationPrompts : nil) {
            return try PromptFile.read(prompts)
        }
        let folder = references.lastIndex(of: "/").map { String(references[...$0]) } ?? ""
        let heldOut = folder + "validation.txt"
        return PromptFile.exists(heldOut)
            ? try PromptFile.read(heldOut) : try ReferenceLibrary(path: references).prompts
    }
}
