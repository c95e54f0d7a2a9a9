import AdvGRPO
import Processes
import Protocol
import RunFiles

/// One object an epoch, in `metrics.jsonl` and in TensorBoard's event file.
final class MetricsWriter {
    private let lines: MetricsFile
    private let events: EventFile
    /// The epochs written so far, oldest first, those of earlier sessions included.
    private(set) var records: [[String: JSONValue]]

    /// Continues the run's files after an epoch; later lines are dropped, they are written again.
    ///
    /// - Throws: `RuntimeError` naming the file.
    init(directory: RunDirectory, resumingAfter epoch: Int) throws {
        lines = try MetricsFile(path: directory.metricsFile, resumingAfter: epoch)
        events = try EventFile(folder: directory.tensorBoardFolder, firstStep: epoch)
        records = try MetricsFile.records(in: directory.metricsFile)
    }

    /// Writes an epoch's figures.
    ///
    /// - Throws: `RuntimeError` naming the file.
    func append(_ report: EpochReport) throws {
        let step = report.step.epoch + 1
        let values = report.values
        let record = values.mapValues { JSONValue.number($0) }
        try lines.append(step: step, record)
        // TensorBoard has the step beside every value.
        let scalars = values.filter { $0.key != "step" }.sorted { $0.key < $1.key }
        try events.append(step: step, scalars: scalars.map { ($0.key, $0.value) })
        records.append(record)
    }
}
