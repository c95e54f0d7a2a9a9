import Foundation
import Protocol
import RunFiles
import Testing

@testable import AdvGRPO
@testable import Learner

/// One declaration a metric: what becomes of it.
@Suite("Metrics of a run")
struct RunMetricsTests {
    private static let all = RunMetrics.sections.flatMap(\.metrics)

    /// An epoch in which both players learned.
    private func report(_ metrics: [String: Double?] = [:], updates: Int = 2) -> EpochReport {
        var statistics = PolicyStatistics(change: [0, 0], ratio: [1, 1], clipRange: 0.1, samples: 2)
        statistics.note(halves: 0.25)
        statistics.note(step: 3)
        let update = PolicyUpdateReport(statistics: statistics, gradientNorm: 3)
        let step = StepReport(
            epoch: 4, plan: EpochPlan(trainsDiscriminator: true, trainsPolicy: updates > 0),
            advantages: Advantages(rewards: [[0, 1], [1, 1]], deviation: .global),
            updates: Array(repeating: update, count: updates), discriminatorAreaUnderCurve: 0.5)
        let weights = WeightsReference(
            version: PolicyVersion(rawValue: 4), digest: WeightsDigest(bytes: [UInt8](repeating: 0, count: 32)),
            manifest: ManifestDigest(bytes: [UInt8](repeating: 0, count: 32)))
        let lease = Lease(
            leaseID: LeaseID(rawValue: 0), group: GroupID(epoch: 4, index: 0), prompt: "p", memberCount: 2,
            weights: weights, expiresInMilliseconds: 1000)
        let result = GroupResult(
            of: lease, by: "w",
            GroupResult.Trajectory(
                latents: TensorPayload(floats: [0, 0], shape: [1, 2, 1, 1, 1]),
                logProbabilities: TensorPayload(floats: [0], shape: [1, 1]), stepIndices: TensorPayload(int32s: [0])),
            Scores(
                discriminatorVersion: DiscriminatorVersion(rawValue: 4), rewards: TensorPayload(floats: [0, 1]),
                components: ["texture": TensorPayload(floats: [0, 1])],
                witnesses: ["twin": TensorPayload(floats: [0, 3]), "diversity": TensorPayload(floats: [0.5, 0.5])]),
            seconds: ["sample": 2, "decode": 1, "score": 0.5])
        return EpochReport(
            step: step, results: [result], scoredBy: DiscriminatorVersion(rawValue: 4),
            policyVersion: PolicyVersion(rawValue: 5),
            discriminator: DiscriminatorTrained(
                version: DiscriminatorVersion(rawValue: 5), realMean: 0, fakeMean: 0, auc: 0.5, metrics: metrics),
            imagesBefore: 8, seconds: .init(rollout: 3, policy: 1, training: 2))
    }

    @Test("every name is declared once")
    func names() {
        #expect(Set(Self.all.map(\.name)).count == Self.all.count)
        for metric in Self.all { #expect(!metric.meaning.isEmpty, "\(metric.name)") }
    }

    @Test("every figure of an epoch is a declared one, and every declared one is a figure of an epoch")
    func figures() throws {
        let trained = DiscriminatorReport(
            version: 5, stepCount: 1, loss: 1, gradientNorm: 1, training: Separation(real: [1], fake: [0]),
            heldOut: Separation(real: [1], fake: [0]), reached: Separation(real: [1], fake: [0]))
        var epoch = report(DiscriminatorReport.metrics.values(of: trained))
        epoch.judgement = .init(top1: 0.75, similarity: 0.5)
        let values = epoch.values
        for name in values.keys { #expect(RunMetrics.description(of: name) != nil, "\(name)") }
        let supervised = EpochReport(
            step: StepReport(epoch: 0, supervised: [SupervisedReport(loss: 2, gradientNorm: 4)]), results: [],
            scoredBy: DiscriminatorVersion(rawValue: 0), policyVersion: PolicyVersion(rawValue: 1), discriminator: nil,
            imagesBefore: 0, seconds: .init(rollout: 0, policy: 1, training: 1)
        ).values
        #expect(supervised["policy.supervisedLoss"] == 2 && supervised["policy.gradientNorm"] == 4)
        #expect(supervised["reward.mean"] == nil && supervised["policy.loss"] == nil)
        #expect(supervised["imagesPerSecond"] == nil)
        for metric in Self.all {
            #expect(Set(values.keys).union(supervised.keys).contains { metric.names($0) }, "\(metric.name)")
        }
        #expect(values["step"] == 5 && values["epoch"] == 4 && values["images"] == 10 && values["policyVersion"] == 5)
        #expect(values["seconds.epoch"] == 5 && values["seconds.worker.sample"] == 2 && values["reward.texture"] == 0.5)
        #expect(values["policy.gradientNorm"] == 3 && values["discriminator.accuracy"] == 0.5)
        #expect(values["gauge.twin"] == 1.5 && values["gauge.diversity"] == 0.5 && values["gauge.alarms"] == 0)
        #expect(values["gauge.judgeTop1"] == 0.75 && values["gauge.judgeSimilarity"] == 0.5)
        #expect(values["policy.drift.3"] == 0 && values["policy.ratioLargest"] == 1)
        #expect(RunMetrics.description(of: "reward.mean")?.unit == "reward")
        #expect(RunMetrics.description(of: "reward.texture")?.name == "reward.NAME")
        #expect(RunMetrics.description(of: "nonsense") == nil)
    }

    @Test("a reward of one's own cannot have the name of another figure")
    func ownNames() {
        for metric in Self.all where metric.name.hasPrefix("reward.") && metric.name != "reward.NAME" {
            var method = MethodSettings()
            var process = RewardProcess()
            process.endpoint = "ipc:///p"
            method.rewardProcesses = [String(metric.name.dropFirst("reward.".count)): process]
            #expect(!method.validate().isEmpty, "\(metric.name)")
        }
    }

    @Test("the policy's figures are absent where it did not learn")
    func absent() {
        #expect(report(updates: 0).values.keys.allSatisfy { !$0.hasPrefix("policy.") })
        #expect(report(updates: 0).values["trainsPolicy"] == 0)
    }

    /// What a reward server of another build declares travels, is written and does no harm.
    @Test("a metric that only the reward server declares needs no change on its way")
    func unknown() throws {
        let message = DiscriminatorTrained(
            version: DiscriminatorVersion(rawValue: 5), realMean: 0, fakeMean: 0, auc: 0.5,
            metrics: ["discriminator.novel": 0.125, "discriminator.broken": nil])
        let encoded = try EncodedMessage(message, runID: nil, requestID: 1, isReply: true)
        let arrived = try ReceivedMessage(frames: encoded.frames).decoded(as: DiscriminatorTrained.self)
        #expect(arrived == message)
        let values = report(arrived.metrics).values
        #expect(values["discriminator.novel"] == 0.125 && values["discriminator.broken"]?.isNaN == true)
    }

    @Test("progress line, curves and the report's table follow from the declarations")
    func shown() {
        let values = ["reward.mean": 0.41, "discriminator.accuracy": 0.83, "imagesPerSecond": 8.25]
        #expect(RunMetrics.live(values) == ["8.2 images/s", "reward 0.410", "D accuracy 83%"])
        #expect(RunMetrics.live(["reward.mean": .nan]).isEmpty)
        let charts = RunMetrics.charts()
        #expect(Set(charts.map(\.title)).count == charts.count)
        #expect(
            charts.first { $0.title == "Discriminator" }?.metrics.map(\.name) == [
                "discriminator.accuracy", "discriminator.auc",
            ])
        let rows = RunMetrics.figures(["seconds.epoch": 2, "reward.texture": 1, "step": 3, "reward.mean": nil])
        #expect(rows.map(\.name) == ["step", "reward.mean", "reward.texture", "seconds.epoch"])
        #expect(rows.map(\.value) == [3, nil, 1, 2])
    }
}

@Suite("MetricsDocumentation")
struct MetricsDocumentationTests {
    @Test("docs/metrics.md is what the declarations say")
    func documentation() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let url = root.appending(path: "docs/metrics.md")
        if ProcessInfo.processInfo.environment["ADVGRPO_WRITE_DOCS"] == "1" {
            try RunMetrics.documentation().write(to: url, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOf: url, encoding: .utf8) == RunMetrics.documentation())
    }
}
