import AdvGRPO
import Foundation
public import MethodModels
public import RunFiles

/// Before and after of a finished run, as its evaluation files say.
public struct RunSummary: Sendable {
    /// Evaluation before the first update; nil when the run made none.
    public let before: Evaluator.Result?
    /// Evaluation of the trained policy.
    public let after: Evaluator.Result?

    /// Reads `evaluation-before.json` and `evaluation-after.json`.
    ///
    /// - Throws: when a file is there and cannot be read.
    public init(runDirectory: String) throws {
        func read(_ name: String) throws -> Evaluator.Result? {
            guard let data = FileManager.default.contents(atPath: "\(runDirectory)/\(name)") else { return nil }
            return try JSONDecoder().decode(Evaluator.Result.self, from: data)
        }
        before = try read("evaluation-before.json")
        after = try read("evaluation-after.json")
    }

    /// The figures in the report's form.
    public var comparisons: [Report.Comparison] {
        guard before != nil || after != nil else { return [] }
        let table = Evaluator.Result.metrics
        let (first, last) = (before.map(table.values) ?? [:], after.map(table.values) ?? [:])
        return table.section.metrics.map { metric in
            // Where a figure is to go is said in a word; anything longer is no direction.
            Report.Comparison(
                metric.name, before: first[metric.name], after: last[metric.name],
                aim: .init(rawValue: metric.healthy) ?? .neither, note: metric.meaning)
        }
    }

    /// The figures as text.
    public var table: String {
        guard let after else { return "no evaluation was made (run.evaluation.prompts is 0)" }
        let rows = after.figures.compactMap { figure -> String? in
            guard let first = before?.figures.first(where: { $0.name == figure.name }) else { return nil }
            let change = (figure.value - first.value) / abs(first.value)
            return figure.name.padding(toLength: 18, withPad: " ", startingAt: 0) + Self.column(first.text) + " -> "
                + Self.column(figure.text) + (first.value == 0 ? "" : String(format: "  %+.1f%%", 100 * change))
        }
        let left = after.unmeasured
        let note = left.isEmpty ? [] : ["too few images to measure \(left.joined(separator: ", "))"]
        return (rows + note).joined(separator: "\n")
    }

    private static func column(_ text: String) -> String {
        String(repeating: " ", count: max(0, 18 - text.count)) + text
    }
}
