internal import Foundation
internal import Platform
public import Processes
public import Protocol

/// `metrics.jsonl`: one JSON object a line, one line a step, steps ascending.
///
/// Not `Sendable`: one thread writes.
public final class MetricsFile {
    private let file: OpenFile
    /// The last step written.
    public private(set) var lastStep: Int?

    /// Opens the file for appending.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - step: the step of the snapshot that the run continues from; later lines are removed, because the run will
    ///     write them again. Nil begins an empty file.
    public init(path: String, resumingAfter step: Int? = nil) throws(RuntimeError) {
        var kept: [Substring] = []
        if let step, FileStore.exists(path) {
            let records = try Self.lines(path)
            kept = records.filter { $0.step <= step }.map(\.line)
            lastStep = records.last { $0.step <= step }?.step
        }
        try FileStore.replace(path, with: Array(kept.map { $0 + "\n" }.joined().utf8))
        file = try OpenFile(path, .append)
    }

    /// Appends a step.
    ///
    /// Values that are not finite are written as null: JSON has no name for them.
    ///
    /// - Parameters:
    ///   - step: larger than every earlier one.
    ///   - values: metrics by name; `step` is added.
    public func append(step: Int, _ values: [String: JSONValue]) throws(RuntimeError) {
        precondition(step > lastStep ?? .min, "metrics: step \(step) after step \(lastStep ?? 0)")
        try file.write(Self.line(step: step, values))
        lastStep = step
    }

    /// Every record of a file, in order; an incomplete last line is left out.
    public static func records(in path: String) throws(RuntimeError) -> [[String: JSONValue]] {
        try lines(path).map(\.record)
    }

    private struct Line {
        let step: Int
        let line: Substring
        let record: [String: JSONValue]
    }

    private static func lines(_ path: String) throws(RuntimeError) -> [Line] {
        let text = String(decoding: try FileStore.read(path), as: UTF8.self)
        let complete = text.lastIndex(of: "\n").map { text[..<$0] } ?? ""
        var lines: [Line] = []
        for (index, line) in complete.split(separator: "\n").enumerated() {
            guard let record = try? JSONDecoder().decode([String: JSONValue].self, from: Data(line.utf8)),
                case .number(let number)? = record["step"], let step = Int(exactly: number)
            else {
                throw RuntimeError(
                    code: .unreadable, subject: path, message: "line \(index + 1) is not a JSON object with a step",
                    remedy: "remove the line")
            }
            lines.append(Line(step: step, line: line, record: record))
        }
        return lines
    }

    private static func line(step: Int, _ values: [String: JSONValue]) -> [UInt8] {
        let rest = values.filter { $0.key != "step" }.sorted { $0.key < $1.key }
        let members = rest.map { "\(json(.string($0.key))):\(json($0.value))" }
        return Array(("{" + (["\"step\":\(step)"] + members).joined(separator: ",") + "}\n").utf8)
    }

    private static func json(_ value: JSONValue) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Finite JSON values always encode.
        return (try? encoder.encode(value.withoutNonFinite)).map { String(decoding: $0, as: UTF8.self) } ?? "null"
    }
}

extension JSONValue {
    /// The same value with null in place of numbers that JSON cannot name.
    var withoutNonFinite: JSONValue {
        switch self {
        case .number(let value): value.isFinite ? self : .null
        case .array(let values): .array(values.map(\.withoutNonFinite))
        case .object(let members): .object(members.mapValues(\.withoutNonFinite))
        case .null, .bool, .string: self
        }
    }
}
