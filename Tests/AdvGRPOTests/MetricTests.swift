import Testing

@testable import AdvGRPO

@Suite("Metric")
struct MetricTests {
    private struct Record: Sendable {
        var loss: Double?
        var parts: [String: Double] = [:]
    }

    private let table = MetricTable<Record>(
        "Test",
        [
            Metric("test.loss", unit: "share", "a loss", healthy: "small", live: "loss %.1f") { $0.loss },
            Metric(family: "test.part.NAME", "a part") { $0.parts },
        ])

    @Test("a record's figures are those that it has, a family's under its names")
    func values() {
        #expect(table.values(of: Record(loss: 0.5)) == ["test.loss": 0.5])
        #expect(table.values(of: Record(parts: ["a": 1, "b": 2])) == ["test.part.a": 1, "test.part.b": 2])
        #expect(table.values(of: Record(loss: .nan))["test.loss"]?.isNaN == true)
    }

    @Test("a name in metrics.jsonl leads to its declaration")
    func names() throws {
        let metrics = table.section.metrics
        #expect(metrics[0].names("test.loss") && !metrics[0].names("test.loss.x"))
        #expect(metrics[1].names("test.part.a") && !metrics[1].names("test.part.") && !metrics[1].names("test.loss"))
        #expect(metrics[0].familyStem == nil && metrics[1].familyStem == "test.part.")
    }

    @Test("the discriminator's figures are its report's, each under its own name")
    func discriminator() {
        let report = DiscriminatorReport(
            version: 3, stepCount: 7, loss: 0.25, gradientNorm: 2, training: Separation(real: [1, 3], fake: [-1, 1]),
            heldOut: Separation(real: [0], fake: [1]), reached: Separation(real: [1], fake: [0, 2]))
        let expected = [
            "discriminator.steps": 7, "discriminator.reachedAUC": 0.5, "discriminator.loss": 0.25,
            "discriminator.gradientNorm": 2, "discriminator.accuracy": 0.75,
            "discriminator.realMean": 2, "discriminator.fakeMean": 0, "discriminator.margin": 2, "discriminator.auc": 0,
        ]
        let values = DiscriminatorReport.metrics.values(of: report)
        #expect(values.filter { expected[$0.key] != nil } == expected)
        #expect(values.keys.allSatisfy { $0.hasPrefix("discriminator.") })
    }
}
