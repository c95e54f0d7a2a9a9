import AdvGRPO
import Foundation
public import MethodModels
public import RunFiles

/// Before and after of a finished run, as its evaluation files say.
public struct RunSummary: Sendable {
    /// Evaluation before the first update; nil when the run made none.
    public let before: Evaluator.Result?
    /// Evaluation of the policy that a supervised start left; nil where there was none.
    public let start: Evaluator.Result?
    /// Evaluation of the trained policy.
    public let after: Evaluator.Result?

    /// Reads `evaluation-before.json`, `evaluation-start.json` and `evaluation-after.json`.
    ///
    /// - Throws: when a file is there and cannot be read.
    public init(runDirectory: String) throws {
        func read(_ moment: String) throws -> Evaluator.Result? {
            let path = "\(runDirectory)/evaluation-\(moment).json"
            guard let data = FileManager.default.contents(atPath: path) else { return nil }
            return try JSONDecoder().decode(Evaluator.Result.self, from: data)
        }
        before = try read("before")
        start = try read("start")
        after = try read("after")
    }

    /// The figures in the report's form.
    public var comparisons: [Report.Comparison] {
        guard before != nil || after != nil else { return [] }
        let table = Evaluator.Result.metrics
        let (first, middle, last) = (
            before.map(table.values) ?? [:], start.map(table.values) ?? [:], after.map(table.values) ?? [:]
        )
        return table.section.metrics.map { metric in
            // Where a figure is to go is said in a word; anything longer is no direction.
            Report.Comparison(
                metric.name, before: first[metric.name], start: middle[metric.name], after: last[metric.name],
                aim: .init(rawValue: metric.healthy) ?? .neither, note: metric.meaning)
        }
    }

    /// What the epochs after a supervised start did to the figures that have a standard error, a sentence each: a change within the
    /// error shows nothing.
    public var findings: [String] {
        guard let start, let after else { return [] }
        return [("dinoSimilarity", 1.0), ("frechetDistance", -1.0)].compactMap { name, better in
            guard let from = start.figures.first(where: { $0.name == name }),
                let to = after.figures.first(where: { $0.name == name }),
                let error = start.standardErrors?[name], let other = after.standardErrors?[name]
            else { return nil }
            let change = to.value - from.value
            let verdict =
                abs(change) <= max(error, other)
                ? "less than a standard error: the epochs after the supervised start show no difference"
                : change * better > 0
                    ? "the epochs after the supervised start made it better" : "they made it worse"
            return "\(name) went from \(from.text) to \(to.text) after the supervised start: \(verdict)."
        }
    }

    /// The figures as text.
    public var table: String {
        guard let after else { return "no evaluation was made (run.evaluation.prompts is 0)" }
        let rows = after.figures.compactMap { figure -> String? in
            guard let first = before?.figures.first(where: { $0.name == figure.name }) else { return nil }
            let middle = start?.figures.first { $0.name == figure.name }
            let moments = [first.text] + (middle.map { [$0.text] } ?? []) + [figure.text]
            let change = (figure.value - first.value) / abs(first.value)
            return figure.name.padding(toLength: 18, withPad: " ", startingAt: 0)
                + moments.map(Self.column).joined(separator: " -> ")
                + (first.value == 0 ? "" : String(format: "  %+.1f%%", 100 * change))
        }
        let left = after.unmeasured
        let note = left.isEmpty ? [] : ["too few images to measure \(left.joined(separator: ", "))"]
        return (rows + findings + note).joined(separator: "\n")
    }

    private static func column(_ text: String) -> String {
        String(repeating: " ", count: max(0, 18 - text.count)) + text
    }
}
