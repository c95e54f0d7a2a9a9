import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// One version, in every place that says it.
    @Suite("Version", .timeLimit(.minutes(2)))
    struct VersionTests {
        @Test("--version is the version of CHANGELOG.md's newest section, and of what a run leaves")
        func version() async throws {
            let changes = try String(contentsOfFile: Repository.path + "/CHANGELOG.md", encoding: .utf8)
            let heading = try #require(changes.firstMatch(of: /(?m)^## \[([0-9.]+)\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$/))
            #expect(changes.prefix(upTo: heading.range.lowerBound).contains("\n## ") == false)
            try await withWorkspace { workspace in
                let said = try await workspace.run("--version")
                #expect(said.exit == .status(0) && said.output == "\(heading.1)\n", "\(said.output)\(said.errors)")

                let trained = try await workspace.run(
                    "train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=1")
                #expect(trained.exit == .status(0), "\(trained.errors)")
                let snapshot = try Data(
                    contentsOf: URL(fileURLWithPath: workspace.path + "/run/checkpoints/latest/run.json"))
                let record = try JSONSerialization.jsonObject(with: snapshot) as? [String: Any]
                #expect(record?["program"] as? String == String(heading.1))
                let report = try String(contentsOfFile: workspace.path + "/run/report.html", encoding: .utf8)
                #expect(report.contains("<th scope=\"row\">advgrpo</th><td>\(heading.1)</td>"))
            }
        }
    }
}
