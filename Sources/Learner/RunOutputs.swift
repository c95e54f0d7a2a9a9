import AdvGRPO
import ComputeRoles
import Configuration
import Datasets
import Foundation
import Logging
import MethodModels
import Platform
import Processes
import Protocol
import Raster
import RunFiles
import TensorCore

/// What a run shows of itself: contact sheets of the same prompts and seeds every time, an evaluation before and after, and the
/// report.
final class RunOutputs {
    private let settings: Settings
    private let directory: RunDirectory
    private let policy: DiffusionPolicy
    private let generator: ImageGenerator
    private let evaluator: Evaluator?
    private let judge: PreviewJudge?
    private let prompts: [String]
    private let lanes: Lanes
    private let logger: Logger
    private let shutdown: ShutdownSignal
    private let imagesPerPrompt = 2

    init(
        settings: Settings, directory: RunDirectory, policy: DiffusionPolicy, lanes: Lanes, shutdown: ShutdownSignal,
        logger: Logger
    ) throws {
        self.settings = settings
        self.directory = directory
        self.policy = policy
        self.lanes = lanes
        self.shutdown = shutdown
        self.logger = logger
        let rollout = settings.method.rollout
        let chunks = Chunks(size: rollout.chunkSize)
        let evaluation = settings.run.evaluation
        let run = try RunPrompts(settings)
        prompts = Array(run.evaluation.prefix(settings.run.previewPrompts))
        generator = try ImageGenerator(
            policy: policy, steps: evaluation.steps, guidance: rollout.guidance, height: rollout.resolution,
            width: rollout.resolution, seed: UInt64(settings.seed), chunks: chunks)
        judge =
            try settings.judge.isEmpty
            ? nil : PreviewJudge(settings, engine: policy.engine) { logger.warning("\($0)") }
        let chosen = run.evaluated
        guard !chosen.isEmpty else {
            evaluator = nil
            return
        }
        let backbone = try VisionBackbone(
            folder: settings.resolvedEvaluationBackbone, engine: policy.engine, dtype: .float32, resize: .tensor,
            chunks: chunks)
        if let leftOut = backbone.leftOut { logger.warning("\(leftOut)") }
        evaluator = try Evaluator(
            generator: generator, backbone: backbone,
            library: try run.references(of: chosen), prompts: chosen,
            imagesPerPrompt: evaluation.seeds, side: rollout.resolution)
    }

    // MARK: Before and after

    /// Shows and measures the policy before its first update, once a run.
    func showBefore(_ trainer: PolicyTrainer, epoch: Int, enter: (RunStatus.Phase) -> Void) throws {
        guard epoch == 0, !FileManager.default.fileExists(atPath: path("evaluation-before.json")) else { return }
        enter(.preview)
        try preview(trainer, epoch: 0)
        enter(.evaluation)
        try measure(trainer, "before")
    }

    /// Shows and measures the policy that a supervised start leaves, and keeps it for comparison with what follows, once a run.
    func showStart(_ trainer: PolicyTrainer, epoch: Int, enter: (RunStatus.Phase) -> Void) throws {
        guard epoch == settings.method.supervisedStart,
            !FileManager.default.fileExists(atPath: path("evaluation-start.json"))
        else { return }
        enter(.preview)
        try preview(trainer, epoch: epoch)
        try trainer.export(to: path("start"), baseModel: settings.model)
        enter(.evaluation)
        try measure(trainer, "start")
    }

    /// Shows and measures the trained policy and writes the report.
    func showAfter(
        _ trainer: PolicyTrainer, metrics: [[String: JSONValue]], record: Checkpoint.Record,
        roles: () -> [Report.RoleTime], enter: (RunStatus.Phase) -> Void
    ) throws {
        enter(.preview)
        try preview(trainer, epoch: record.epoch)
        enter(.evaluation)
        try measure(trainer, "after")
        try writeComparison(epoch: record.epoch)
        let report = try report(metrics: metrics, record: record, roles: roles())
        try directory.write("report.html", Array(report.html().utf8))
    }

    /// Ends the work on images when the shutdown signal has come; all of it can be done again.
    private var goOn: @Sendable (Int) throws -> Void {
        { [shutdown] _ in if shutdown.isRequested { throw TrainingRun.Interruption() } }
    }

    private func measure(_ trainer: PolicyTrainer, _ moment: String) throws {
        guard let evaluator else { return }
        let result = try evaluator.measure(policy.velocity(trainer.averaged), lanes: lanes, progress: goOn)
        let figures = result.figures.map { "\($0.name) \($0.text)" }
        logger.info("evaluation \(moment): \(figures.joined(separator: ", "))")
        if !result.unmeasured.isEmpty {
            logger.notice("too few images to measure \(result.unmeasured.joined(separator: ", "))")
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try directory.write("evaluation-\(moment).json", Array(encoder.encode(result)))
    }

    // MARK: Contact sheets

    /// Renders the preview prompts with the averaged weights: one row a prompt.
    ///
    /// - Returns: what the judge says of them; nil without one.
    @discardableResult
    func preview(_ trainer: PolicyTrainer, epoch: Int) throws -> PreviewJudge.Judgement? {
        guard !prompts.isEmpty else { return nil }
        let orders = ImageGenerator.Order.all(prompts: prompts, count: imagesPerPrompt)
        let images = RGBImage.images(
            of: try generator.images(
                orders, velocity: policy.velocity(trainer.averaged), lanes: lanes, progress: goOn))
        let sheet = ContactSheet(images: images, columns: imagesPerPrompt * 4, scale: 2).image
        try directory.write("images/\(Self.sheetName(epoch))", sheet.pngBytes())
        guard let judgement = try judge?.judged(images, count: imagesPerPrompt, lanes: lanes) else { return nil }
        logger.info(
            "the judge of the contact sheet of epoch \(epoch)",
            metadata: [
                "top1": "\(String(format: "%.3f", judgement.top1))",
                "similarity": "\(String(format: "%.3f", judgement.similarity))",
            ])
        return judgement
    }

    private static func sheetName(_ epoch: Int) -> String { String(format: "epoch-%06d.png", epoch) }

    /// Before and after, one under the other; nothing where somebody has removed the first sheet.
    private func writeComparison(epoch: Int) throws {
        let hasFirst = FileManager.default.fileExists(atPath: path("images/" + Self.sheetName(0)))
        guard !prompts.isEmpty, hasFirst else { return }
        let before = try RGBImage(path: path("images/" + Self.sheetName(0)))
        let after = try RGBImage(path: path("images/" + Self.sheetName(epoch)))
        let both = ContactSheet(images: [before, after], columns: 1, scale: 1, gutter: 8).image
        try directory.write("images/before-after.png", both.pngBytes())
    }

    // MARK: Report

    private func report(
        metrics: [[String: JSONValue]], record: Checkpoint.Record, roles: [Report.RoleTime]
    ) throws -> Report {
        let summary = try RunSummary(runDirectory: directory.path)
        var report = Report(
            title: "advgrpo \(record.runID)",
            summary:
                "\(record.epoch) epochs, \(record.images) images in \(Int(record.trainingSeconds)) seconds of training, "
                + "evaluated on prompts and seeds that training never saw.")
        report.comparisons = summary.comparisons
        report.findings = summary.findings
        let start = settings.method.supervisedStart.map { [("After the supervised start", $0)] } ?? []
        for (name, epoch) in [("Before", 0)] + start + [("After", record.epoch)] {
            let file = path("images/" + Self.sheetName(epoch))
            guard let png = FileManager.default.contents(atPath: file) else { continue }
            report.sheets.append(
                .init(caption: "\(name) (epoch \(epoch)): \(prompts.joined(separator: ", "))", png: Array(png)))
        }
        report.alarms = record.gauge?.alarms.map(\.description) ?? []
        for epoch in Set(record.gauge?.alarms.map(\.epoch) ?? []).sorted() {
            let name = AlarmSheet.name(ofEpoch: epoch)
            guard let png = FileManager.default.contents(atPath: path(name)) else { continue }
            report.sheets.append(
                .init(
                    caption: "Alarm of epoch \(epoch), \(name): best, worst, most changed (before and then)",
                    png: Array(png)))
        }
        report.charts = RunMetrics.charts().compactMap { chart in
            let series = chart.metrics.map { metric in
                LineChart.Series(
                    name: metric.name,
                    points: metrics.compactMap { line in
                        guard case .number(let step)? = line["step"], case .number(let value)? = line[metric.name]
                        else { return nil }
                        return (x: step, y: value)
                    })
            }
            guard series.contains(where: { !$0.points.isEmpty }) else { return nil }
            return .init(
                title: chart.title,
                explanation: chart.metrics.map { "\($0.name): \($0.meaning)" }.joined(separator: "; "),
                svg: LineChart(series: series, xLabel: "epoch", yLabel: chart.title).svg)
        }
        report.figures = metrics.last.map(RunMetrics.figures) ?? []
        report.roles = roles
        report.facts = [
            ("run", record.runID.rawValue), ("advgrpo", Program.version), ("computed by", record.computedBy),
            ("processor", Processor.description),
            ("images per second", String(format: "%.2f", Double(record.images) / max(record.trainingSeconds, 1e-9))),
            ("groups trained", "\(record.ledger.trained)"), ("leases expired", "\(record.ledger.expired)"),
            ("evaluation backbone", settings.resolvedEvaluationBackbone),
        ]
        report.settings = settings.resolved()
        return report
    }

    private func path(_ name: String) -> String { directory.path + "/" + name }
}
