import Foundation
import RunFiles

/// What a run left on the disk.
struct RunFiles {
    let path: String

    func snapshot(_ step: Int) -> String { path + "/checkpoints/step-" + String(format: "%06d", step) }

    func has(step: Int) -> Bool { FileManager.default.fileExists(atPath: snapshot(step) + "/manifest.json") }

    /// Copies a finished run that has a snapshot of every epoch, as if it had been killed after some: nothing is left that a later
    /// moment wrote but lines of metrics, which a resumed run takes out itself.
    func copy(to other: RunFiles, upTo last: Int, of epochs: Int) throws {
        let files = FileManager.default
        try files.copyItem(atPath: path, toPath: other.path)
        for epoch in last + 1...epochs { try files.removeItem(atPath: other.snapshot(epoch)) }
        // `latest` is a link to a snapshot that is gone.
        try files.removeItem(atPath: other.path + "/checkpoints/latest")
        for name in ["report.html", "start", "evaluation-start.json", "evaluation-after.json"]
        where files.fileExists(atPath: "\(other.path)/\(name)") {
            try files.removeItem(atPath: "\(other.path)/\(name)")
        }
    }

    /// The lines of metrics.jsonl, complete ones only.
    var metrics: [[String: Any]] {
        let text = String(
            decoding: FileManager.default.contents(atPath: path + "/metrics.jsonl") ?? Data(), as: UTF8.self)
        return text.split(separator: "\n").compactMap {
            (try? JSONSerialization.jsonObject(with: Data($0.utf8))) as? [String: Any]
        }
    }

    /// A JSON document of the run.
    func document(_ name: String) throws -> [String: Any] {
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
        guard let document = try JSONSerialization.jsonObject(with: data) as? [String: Any] else {
            throw TestFailure("\(name) is no object")
        }
        return document
    }

    /// The files of a snapshot with their SHA-256, as its manifest has them, after a check of the manifest against the files.
    ///
    /// `run.json` is left out: it has the run's name and times. Everything that is trained is in the others.
    func digests(step: Int) throws -> [String: String] {
        try SnapshotStore.verify(snapshot(step))
        let manifest = try document("checkpoints/step-\(String(format: "%06d", step))/manifest.json")
        let files = (manifest["files"] as? [String: [String: Any]] ?? [:]).compactMapValues { $0["sha256"] as? String }
        return files.filter { $0.key != "run.json" }
    }

    /// The metrics that follow from the settings, not from the machine's speed.
    var reproducibleMetrics: [[String: Double]] {
        metrics.map { line in
            line.compactMapValues { $0 as? Double }.filter {
                !$0.key.hasPrefix("seconds.") && !$0.key.hasPrefix("overlap.") && $0.key != "imagesPerSecond"
            }
        }
    }

    /// Totals of the ledger in a snapshot.
    func ledger(step: Int) throws -> [String: Int] {
        let record = try document("checkpoints/step-\(String(format: "%06d", step))/run.json")
        return record["ledger"] as? [String: Int] ?? [:]
    }
}
