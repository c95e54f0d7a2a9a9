/// What people are told of a figure of a run besides its value.
public struct MetricDescription: Sendable, Equatable {
    /// In metrics.jsonl and in TensorBoard; of a family the last part is a word in capitals: `reward.NAME`.
    public let name: String
    /// Empty for a plain number. A `share` is in 0...1 and shown to people in per cent.
    public let unit: String
    /// How it is computed, in one phrase of Markdown.
    public let meaning: String
    /// What a run that learns shows, in words; empty where any value is well.
    public let healthy: String
    /// The curves it is drawn with in the report; nil: in none.
    public let chart: String?
    /// How the progress line shows it, as a format of one number; nil: not at all.
    public let live: String?

    /// Whether a name in metrics.jsonl is this metric's, or one of this family's.
    public func names(_ name: String) -> Bool {
        guard let stem = familyStem else { return name == self.name }
        return name.hasPrefix(stem) && name.count > stem.count
    }

    /// `reward.` of `reward.NAME`; nil for a single metric.
    var familyStem: String? {
        let stem = name.prefix { !$0.isUppercase }
        guard stem.last == ".", name.count > stem.count, name.dropFirst(stem.count).allSatisfy(\.isUppercase) else {
            return nil
        }
        return String(stem)
    }
}

/// A figure of a run: the one declaration that metrics.jsonl, TensorBoard, the progress line, `advgrpo status`, the report and
/// docs/metrics.md are made from.
public struct Metric<Record>: Sendable {
    /// What it is.
    public let about: MetricDescription
    private let read: @Sendable (Record) -> [String: Double]

    /// A single figure.
    ///
    /// - Parameters: as `MetricDescription`'s.
    /// - Parameter value: its value; nil where the record has none, and it is then absent. A value that is not finite says so.
    public init(
        _ name: String, unit: String = "", _ meaning: String, healthy: String = "", chart: String? = nil,
        live: String? = nil, value: @escaping @Sendable (Record) -> Double?
    ) {
        about = MetricDescription(
            name: name, unit: unit, meaning: meaning, healthy: healthy, chart: chart, live: live)
        precondition(about.familyStem == nil, "metric \(name): a family has several values")
        read = { record in value(record).map { [name: $0] } ?? [:] }
    }

    /// Figures that differ in the last part of their name.
    ///
    /// - Parameter values: by that part, which stands in for the word in capitals.
    public init(
        family name: String, unit: String = "", _ meaning: String, healthy: String = "",
        values: @escaping @Sendable (Record) -> [String: Double]
    ) {
        about = MetricDescription(name: name, unit: unit, meaning: meaning, healthy: healthy, chart: nil, live: nil)
        guard let stem = about.familyStem else { preconditionFailure("metric \(name): no family without capitals") }
        read = { record in Dictionary(uniqueKeysWithValues: values(record).map { (stem + $0, $1) }) }
    }

    /// Its value, or its family's, by name.
    public func values(of record: Record) -> [String: Double] { read(record) }
}

/// What people are told of the metrics of one kind.
public struct MetricSection: Sendable {
    /// Heading of its part of docs/metrics.md.
    public let heading: String
    /// What all of them have in common, as a paragraph of Markdown; may be empty.
    public let preface: String
    /// In the order of the page.
    public let metrics: [MetricDescription]
}

/// Metrics that are read from one record.
public struct MetricTable<Record>: Sendable {
    private let heading: String, preface: String
    private let metrics: [Metric<Record>]

    /// A table: heading and preface as `MetricSection`'s.
    public init(_ heading: String, preface: String = "", _ metrics: [Metric<Record>]) {
        self.heading = heading
        self.preface = preface
        self.metrics = metrics
    }

    /// The table without its functions.
    public var section: MetricSection {
        MetricSection(heading: heading, preface: preface, metrics: metrics.map(\.about))
    }

    /// Every figure that a record has, by name.
    public func values(of record: Record) -> [String: Double] {
        metrics.reduce(into: [:]) { values, metric in
            values.merge(metric.values(of: record)) { _, _ in preconditionFailure("metric \(metric.about.name) twice") }
        }
    }
}
