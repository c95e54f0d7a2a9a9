import AdvGRPO
import ComputeRoles
public import Configuration
import Datasets
import Foundation
import MethodModels
import Raster
public import TensorCore

/// An unseen classifier of captions that judges a run's contact sheets: a gauge that no reward can please.
public struct PreviewJudge: Sendable {
    /// What it says of one contact sheet.
    struct Judgement: Sendable, Equatable {
        /// Share of images whose own caption is its first choice.
        var top1: Double
        /// Mean over images of the largest cosine to the prompt's references, by its features.
        var similarity: Double
    }

    private let judge: CaptionJudge
    /// Prompts that it knows, their numbers on the sheet and their references, [R, H, W, 3].
    private let prompts: [(number: Int, text: String, references_BHWC: Tensor)]
    private let engine: any Engine

    /// Loads the judge that settings name.
    ///
    /// - Parameters:
    ///   - settings: of the run; `judge` is not empty.
    ///   - engine: what computes; one that does not tells no judge from a backbone.
    ///   - warn: told of prompts that it does not know, and of a backbone that it could not be told from.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file, for a judge that is the reward's or the evaluation's backbone, too;
    ///   `DatasetError` where a prompt on the sheet has no references.
    public init(_ settings: Settings, engine: any Engine, warn: (String) -> Void) throws {
        let run = try RunPrompts(settings)
        let shown = Array(run.evaluation.prefix(settings.run.previewPrompts))
        let library = try run.references(of: shown)
        let side = settings.method.rollout.resolution
        let references = try shown.map {
            RGBImage.tensor(of: try library.references(of: $0, width: side, height: side), on: engine)
        }
        var seen: [CaptionJudge.Seen] = []
        for (folder, role) in [
            (settings.rewardBackbone, "the reward's backbone"),
            (settings.resolvedEvaluationBackbone, "the evaluation's backbone"),
        ] where engine.computes && !seen.contains(where: { $0.folder == folder }) {
            if FileManager.default.fileExists(atPath: folder) {
                seen.append(.init(folder: folder, role: role))
            } else {
                warn("\(folder), \(role), is not there: whether it is the judge was not looked at")
            }
        }
        let judge = try CaptionJudge(
            folder: settings.judge, unlike: seen, pictures_BHWC: concatenated(Array(references.prefix(4)), axis: 0),
            engine: engine, chunks: Chunks(size: settings.method.rollout.chunkSize))
        let unknown = try judge.unknown(of: shown)
        if !unknown.isEmpty {
            warn(
                "the judge has no caption for \(unknown.count) of \(shown.count) prompts of contact sheets and is not asked "
                    + "about them: \(PromptText.list(unknown))")
        }
        prompts = shown.indices.filter { judge.knows(shown[$0]) }.map { ($0, shown[$0], references[$0]) }
        self.judge = judge
        self.engine = engine
    }

    /// Judges a sheet.
    ///
    /// - Parameters:
    ///   - images: those of the first prompt, then those of the second and so on, as many of each.
    ///   - count: images of a prompt.
    /// - Throws: `NumericalFailure` where its features are not finite.
    func judged(_ images: [RGBImage], count: Int, lanes: Lanes) throws -> Judgement {
        let judged = try judge.judged(
            images: prompts.map {
                RGBImage.tensor(of: Array(images[$0.number * count..<($0.number + 1) * count]), on: engine)
            }, references: prompts.map(\.references_BHWC), prompts: prompts.map(\.text), lanes: lanes)
        let (ranks, similarities) = (judged.flatMap(\.ranks), judged.flatMap(\.similarities))
        return Judgement(
            top1: Double(ranks.count { $0 == 0 }) / Double(ranks.count),
            similarity: similarities.reduce(0, +) / Double(similarities.count))
    }
}
