import AdvGRPO
import Foundation
import Learner
import MethodModels
import TensorCore

/// What `advgrpo evaluate` says: of one policy or of two, with a judge or without.
struct EvaluationDocument: Encodable {
    /// What is said of one policy.
    struct Policy: Encodable {
        var name: String
        var result: Evaluator.Result
        var judged: [JudgedPrompt] = []
        var judgement: JudgeReport?

        private enum Key: CodingKey { case policy, judge }

        func encode(to encoder: any Encoder) throws {
            try result.encode(to: encoder)
            var values = encoder.container(keyedBy: Key.self)
            try values.encode(name, forKey: .policy)
            try values.encodeIfPresent(judgement, forKey: .judge)
        }
    }

    /// The judge, and the prompts that it has no caption for.
    struct Judge: Encodable {
        var folder: String
        var captions: Int
        var leftOut: [String]
    }

    private let backbone: String
    /// Prompts that are left out, as they have no references.
    private let withoutReferences: [String]
    let judge: Judge?
    private(set) var policies: [Policy] = []
    private var wins: [String: PairwiseWins] = [:]

    init(backbone: String, withoutReferences: [String], judge: (judge: CaptionJudge, leftOut: [String])?) {
        self.backbone = backbone
        self.withoutReferences = withoutReferences
        self.judge = judge.map {
            Judge(folder: $0.judge.folder, captions: $0.judge.captions.count, leftOut: $0.leftOut)
        }
    }

    /// Measures a policy's images; the second policy's are compared with the first's.
    mutating func add(
        _ name: String, _ images_BHWC: Tensor, _ evaluator: Evaluator, _ judge: CaptionJudge?, _ lanes: Lanes
    ) throws {
        var policy = Policy(name: name, result: try evaluator.measure(images_BHWC, lanes: lanes))
        if let judge {
            policy.judged = try evaluator.judged(images_BHWC, by: judge, lanes: lanes)
            policy.judgement = JudgeReport(policy.judged, captionCount: judge.captions.count, lanes: lanes)
        }
        if let first = policies.first, judge != nil {
            for (name, figure) in [("caption", \JudgedPrompt.logProbabilities), ("references", \.similarities)] {
                wins[name] = PairwiseWins(
                    first.judged.flatMap { $0[keyPath: figure] }, over: policy.judged.flatMap { $0[keyPath: figure] })
            }
        }
        policies.append(policy)
    }

    // MARK: JSON

    private enum Key: CodingKey { case against, judgedBy, wins, withoutReferences }

    /// The first policy's figures at the top, the second's under `against`.
    func encode(to encoder: any Encoder) throws {
        try policies.first?.encode(to: encoder)
        var values = encoder.container(keyedBy: Key.self)
        try values.encodeIfPresent(judge, forKey: .judgedBy)
        try values.encodeIfPresent(policies.dropFirst().first, forKey: .against)
        if !withoutReferences.isEmpty { try values.encode(withoutReferences, forKey: .withoutReferences) }
        if !wins.isEmpty { try values.encode(wins, forKey: .wins) }
    }

    // MARK: Text

    /// For people.
    var text: String {
        guard let first = policies.first else { return "" }
        var lines = [
            "images            \(first.result.images) of \(first.result.prompts) prompts, features of \(backbone)"
        ]
        if policies.count > 1 { lines.append(row("", policies.map(\.name))) }
        lines += rows(policies.map(\.result.figures))
        if let judge, let judgement = first.judgement {
            lines.append(
                "judge             \(judge.folder), \(judge.captions) captions, \(judgement.images) images of "
                    + "\(judgement.prompts) prompts")
            lines += rows(
                policies.compactMap(\.judgement).map {
                    JudgeReport.metrics.estimates(of: $0, standardErrors: $0.standardErrors)
                })
        }
        for (name, wins) in wins.sorted(by: { $0.key < $1.key }) {
            lines.append(
                row("wins by \(name)", [String(format: "%.1f%%", 100 * wins.share)])
                    + String(format: "  95%%: %.1f to %.1f%%", 100 * wins.interval[0], 100 * wins.interval[1])
                    + "  (\(wins.wins) won, \(wins.losses) lost, \(wins.ties) tied of \(wins.pairs) pairs)")
        }
        return lines.joined(separator: "\n")
    }

    /// A line for each figure that the first policy has, a column for each policy.
    private func rows(_ figures: [[Estimate]]) -> [String] {
        figures[0].map { figure in
            row(figure.name, figures.map { $0.first { $0.name == figure.name }?.text ?? "-" })
        }
    }

    private func row(_ name: String, _ columns: [String]) -> String {
        let width = max(20, (policies.map(\.name.count).max() ?? 0) + 2)
        let padded =
            [name.padding(toLength: max(18, name.count + 2), withPad: " ", startingAt: 0)]
            + columns.dropLast().map { $0.padding(toLength: width, withPad: " ", startingAt: 0) } + columns.suffix(1)
        return padded.joined()
    }
}
