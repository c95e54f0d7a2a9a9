public import AdvGRPO
import Foundation
import MethodModels
import Processes
import Protocol
import RunFiles

/// All metrics of a run, as people read them.
public enum RunMetrics {
    /// The metrics of metrics.jsonl, in the order of docs/metrics.md.
    public static let sections: [MetricSection] = [
        EpochReport.runMetrics.section, EpochReport.rewardMetrics.section, EpochReport.policyMetrics.section,
        DiscriminatorReport.metrics.section, EpochReport.gaugeMetrics.section, EpochReport.timeMetrics.section,
    ]

    /// The metric of a name; nil for one that no declaration has.
    public static func description(of name: String) -> MetricDescription? {
        let all = sections.flatMap(\.metrics)
        return all.first { $0.name == name } ?? all.first { $0.names(name) }
    }

    /// What the progress line shows of an epoch's figures.
    public static func live(_ values: [String: Double]) -> [String] {
        sections.flatMap(\.metrics).compactMap { metric in
            guard let format = metric.live, let value = values[metric.name], value.isFinite else { return nil }
            return String(format: format, metric.unit == "share" ? value * 100 : value)
        }
    }

    /// The figures of the section on time, for `advgrpo status`.
    public static func lastTimes(_ values: [String: Double]) -> [String] {
        let names = values.keys.sorted().filter { name in
            EpochReport.timeMetrics.section.metrics.contains { $0.names(name) }
        }
        return names.map { String(format: "%@ %.2f", $0, values[$0] ?? .nan) }
    }

    /// The report's curves: one drawing for each that a metric names, in the order of the metrics.
    static func charts() -> [(title: String, metrics: [MetricDescription])] {
        var charts: [(title: String, metrics: [MetricDescription])] = []
        for metric in sections.flatMap(\.metrics) {
            guard let title = metric.chart else { continue }
            if let index = charts.firstIndex(where: { $0.title == title }) {
                charts[index].metrics.append(metric)
            } else {
                charts.append((title, [metric]))
            }
        }
        return charts
    }

    /// The last line of metrics.jsonl as the report's table of figures.
    static func figures(_ record: [String: JSONValue]) -> [Report.Figure] {
        let order = sections.flatMap(\.metrics)
        return record.keys.sorted().compactMap { name -> (Int, Report.Figure)? in
            guard let metric = description(of: name), let place = order.firstIndex(of: metric) else { return nil }
            let value: Double? = if case .number(let number)? = record[name] { number } else { nil }
            let figure = Report.Figure(
                name: name, value: value, unit: metric.unit, meaning: metric.meaning, healthy: metric.healthy)
            return (place, figure)
        }.sorted { ($0.0, $0.1.name) < ($1.0, $1.1.name) }.map(\.1)
    }
}

extension RunMetrics {
    /// The text of docs/metrics.md.
    public static func documentation() -> String {
        var text = """
            # Metrics

            `metrics.jsonl` in the run directory holds one JSON object a step, and TensorBoard's event files hold the same
            numbers under the same names. A step is an epoch, counted from 1: one rollout of `rollout.groupsPerEpoch` groups
            and what was trained on it. Steps ascend without gaps or repetitions, also after a crash: a resumed run removes
            the lines that come after its snapshot and writes them again. A number that is not finite is written as null. A
            metric that an epoch does not have (the policy's in a discriminator epoch) is absent.

            This page is generated: a metric is one declaration, in `Sources/Learner/EpochMetrics.swift`,
            `Sources/Learner/GaugeMetrics.swift`, `Sources/AdvGRPO/Discriminator/DiscriminatorMetrics.swift` or
            `Sources/Learner/EvaluationMetrics.swift`, from which metrics.jsonl, event files, progress line, `advgrpo
            status`, report and this page are made. A test keeps it so (`ADVGRPO_WRITE_DOCS=1 swift test --filter
            MetricsDocumentation` rewrites it).

            Notation: r reward, A advantage, l log-probability (mean over latent elements), rho = exp(l_now - l_rollout),
            D(x) the discriminator's score of image x. "Healthy" is what a run that learns shows; leaving the range is a
            reason to look, not an error.

            """
        for section in sections { text += table(section, last: "healthy") }
        text += table(Evaluator.Result.metrics.section, last: "better")
        text += """

            Features come from `evaluationBackbone`. If that is the reward's own backbone, an improvement may mean that the
            policy learned to please this backbone; name another to prove more.

            """
        text += table(JudgeReport.metrics.section, last: "better")
        text += """

            `--against` measures a second policy with the same noise. `wins.caption` then counts in how many pairs the judge
            gives the first policy's image the higher probability of its caption, `wins.references` in how many it finds it
            nearer to the prompt's references: `wins`, `losses`, `ties`, `share` = (wins + ties / 2) / pairs and Wilson's 95%
            `interval` of it. Pairs count as independent; where images of a prompt resemble each other the interval is too
            narrow, and `--count 1` gives one that is not.

            ## Where a role's time goes

            Every role divides the seconds since its start; the parts add up to its uptime. `advgrpo health ENDPOINT` shows
            them for any role, `advgrpo status` for the learner and its workers, the report's "Where the time went" for
            learner, reward server and workers of the process that ended the run. A relay is known only to those who ask it.

            | role | part | meaning |
            |---|---|---|

            """
        text += rows(RunStatus.Phase.self, of: "learner") + rows(RewardServerActivity.self, of: "reward server")
        text += rows(Heartbeat.State.self, of: "worker") + rows(RelayActivity.self, of: "relay")
        text += """

            ## Health

            `advgrpo health ENDPOINT --json` answers with `queueDepth`, `memoryBytes` (resident), `uptimeSeconds`, `seconds`
            (see above), `version`, `counters` (totals since the process's start) and what became of the requests that
            came since then:

            - `requests` has for every kind how many were `answered`, turned away as too many (`busy`), `refused` with any
              other failure, and `rejected` because they break the protocol; `latency` (`p50Milliseconds`,
              `p99Milliseconds`) is the time from arrival at the socket to the reply, waiting for one's turn included,
              over the last one to two thousand of the kind that were answered or refused, within 5 percent.
            - `unreadableMessages` counts what came and is no request at all, `refusedConnections` who was not let in.
            - The reward server's `detail` has the figures of its last training.

            """
        return text
    }

    private static func table(_ section: MetricSection, last: String) -> String {
        var text = "\n## \(section.heading)\n\n"
        if !section.preface.isEmpty { text += section.preface + "\n\n" }
        text += "| name | unit | meaning | \(last) |\n|---|---|---|---|\n"
        for metric in section.metrics {
            text += "| `\(metric.name)` | \(metric.unit) | \(metric.meaning) | \(metric.healthy) |\n"
        }
        return text
    }

    private static func rows<Activity: RoleActivity>(_ activities: Activity.Type, of role: String) -> String {
        activities.allCases.map { "| \(role) | `\($0.rawValue)` | \($0.meaning) |\n" }.joined()
    }
}
