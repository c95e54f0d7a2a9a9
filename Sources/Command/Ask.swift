import ArgumentParser
import Foundation
import Learner
import Processes
import Protocol
import RunFiles
import Transport

/// Asks a server and gives its answer; exit status 2 when none comes in time.
private func ask<Request: WireRequest>(
    _ request: Request, _ peer: PeerOptions, isRepeated: Bool = false, _ show: (Request.Reply) throws -> Void
) async throws {
    let endpoint = try Endpoint(peer.endpoint)
    let loop = try SocketLoop()
    let client = try Client(endpoint, on: loop, options: try ClientOptions(keys: peer.keys ?? "", as: .operator))
    var status: Int32 = 0
    repeat {
        do {
            try show(try await client.request(request, deadline: .seconds(peer.timeout)))
        } catch let error as TransportError where error.code == .deadlineExceeded {
            note("advgrpo: \(error)")
            status = 2
        }
        if isRepeated { try await Task.sleep(for: .seconds(1)) }
    } while isRepeated
    client.close()
    await loop.shutdown()
    if status != 0 { throw ExitCode(status) }
}

/// A number without its fraction; a peer may send one that no integer holds.
private func whole(_ value: Double) -> String { String(format: "%.0f", value.rounded(.towardZero)) }

/// `advgrpo health`: one role's own account of itself.
struct HealthCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "health", abstract: "Ask any role how it is.",
        discussion: "Exit status: 0 serving, 1 answering but not serving, 2 no answer within --timeout.")

    @OptionGroup var peer: PeerOptions
    @OptionGroup var options: ShowOptions

    func run() async throws {
        var serving = true
        try await ask(HealthRequest(), peer, isRepeated: options.watch) { health in
            serving = health.serving
            if options.json { return try printJSON(health) }
            print("\(health.role.rawValue): \(health.serving ? "serving" : "not serving") (\(health.reason))")
            print(
                "  run \(health.runID?.rawValue ?? "none"), version \(health.version.map(String.init) ?? "none"), "
                    + "up \(whole(health.uptimeSeconds)) s, memory \(health.memoryBytes >> 20) MiB, queue \(health.queueDepth)"
            )
            let shares = seconds(health.seconds)
            if !shares.isEmpty { print("  time: \(shares)") }
            for (kind, requests) in health.requests.sorted(by: { $0.key < $1.key }) {
                print("  \(line(kind, requests))")
            }
            if health.unreadableMessages + health.refusedConnections > 0 {
                print(
                    "  \(health.unreadableMessages) unreadable messages, \(health.refusedConnections) refused connections"
                )
            }
            for (name, value) in health.counters.sorted(by: { $0.key < $1.key }) { print("  \(name) \(whole(value))") }
            if case .object(let fields) = health.detail {
                for (name, value) in fields.sorted(by: { $0.key < $1.key }) {
                    if case .number(let number) = value { print(String(format: "  %@ %.3f", name, number)) }
                }
            }
        }
        if !serving { throw ExitCode(1) }
    }

    /// What became of the requests of one kind, and how long they took from arrival to reply.
    private func line(_ kind: String, _ requests: Health.Requests) -> String {
        let counts = [
            (requests.answered, "answered"), (requests.busy, "busy"), (requests.refused, "refused"),
            (requests.rejected, "rejected"),
        ].filter { $0.0 > 0 }.map { "\($0) \($1)" }.joined(separator: ", ")
        guard let latency = requests.latency else { return "\(kind): \(counts)" }
        return "\(kind): \(counts)"
            + String(format: "; p50 %.2f ms, p99 %.2f ms", latency.p50Milliseconds, latency.p99Milliseconds)
    }
}

/// Seconds by what was done in them, the longest first.
private func seconds(_ seconds: [String: Double]) -> String {
    let total = max(seconds.values.reduce(0, +), 1e-9)
    return seconds.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map {
        String(format: "%@ %.0f s (%.0f%%)", $0.key, $0.value, $0.value / total * 100)
    }.joined(separator: ", ")
}

/// `advgrpo status`: the learner's whole view.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Ask the learner for the whole run: roles, groups, versions, who waits for whom.")

    @OptionGroup var peer: PeerOptions
    @OptionGroup var options: ShowOptions

    func run() async throws {
        try await ask(StatusRequest(), peer, isRepeated: options.watch) { status in
            if options.json { return try printJSON(status.document) }
            let status = try runStatus(status.document)
            print(
                "run \(status.runID), advgrpo \(status.program): epoch \(status.epoch) of \(status.progress.epochs), \(status.phase.rawValue) "
                    + String(format: "for %.1f s", status.phaseSeconds))
            print(
                "  policy \(status.policyVersion) (\(status.weightsDigest.prefix(12))), discriminator \(status.discriminatorVersion)"
            )
            print(
                (["  \(status.progress.images) images"] + RunMetrics.live(status.progress.metrics)).joined(
                    separator: ", "))
            let gauge = RunMetrics.gaugeFigures(status.progress.metrics)
            if !gauge.isEmpty { print("  gauge: " + gauge.joined(separator: ", ")) }
            for alarm in status.progress.alarms { print("  alarm: \(alarm)") }
            let times = RunMetrics.lastTimes(status.progress.metrics)
            if !times.isEmpty { print("  last epoch: " + times.joined(separator: ", ")) }
            print("  learner: \(seconds(status.seconds))")
            for worker in status.workers {
                print(
                    "  \(worker.name) on \(worker.host)"
                        + (worker.program == status.program ? "" : ", advgrpo \(worker.program)")
                        + ": \(worker.state) \(worker.group ?? ""), \(worker.delivered) groups, "
                        + seconds(worker.seconds))
            }
            for group in status.groups {
                print(
                    String(
                        format: "  group %@ %@ %@ for %.1f s: %@", group.group, group.state, group.worker ?? "",
                        group.sinceSeconds,
                        group.prompt))
            }
            for wait in status.waits {
                print(String(format: "  %@ waits for %@, %.1f s", wait.who, wait.what, wait.seconds))
            }
            let ledger = status.ledger
            print(
                "  ledger: \(ledger.trained) trained, \(ledger.leased) leased, \(ledger.expired) expired, \(ledger.failed) failed, "
                    + "\(ledger.duplicates) duplicates, \(ledger.refused) refused, \(ledger.quarantined) quarantined")
        }
    }
}

/// A learner's document as this program knows it.
private func runStatus(_ document: JSONValue) throws -> RunStatus {
    do {
        return try JSONDecoder().decode(RunStatus.self, from: JSONEncoder().encode(document))
    } catch {
        throw CommandFailure(
            "the learner's status is not what this program knows; run one version of advgrpo everywhere, or ask with --json."
        )
    }
}

/// `advgrpo stop`: one role's end.
struct StopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Ask any role to end.",
        discussion: """
            The learner takes a snapshot first; what its workers were sampling is sampled again when the run is resumed. With \
            --drain it finishes the epoch, a worker its group, a reward server or relay what it was asked. With keys this takes \
            the operator's. Exit status: 0 the role ends, 1 it refuses, 2 no answer within --timeout.
            """)

    @OptionGroup var peer: PeerOptions
    @Flag(help: "Finish what is being done first.")
    var drain = false

    func run() async throws {
        let host = ProcessInfo.processInfo.hostName
        try await ask(StopRequest(drain: drain, reason: "an operator on \(host) asked for it"), peer) { _ in
            print("\(peer.endpoint) ends" + (drain ? " once it has finished what it is at" : ""))
        }
    }
}

/// `advgrpo keygen`: the keys that a run needs to listen beyond this machine.
struct Keygen: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make CURVE keys, a pair for the servers and one for every role.")

    @Option(
        help: "Folder for server.key, a key for each role from learner.key to reward.key, a .pub of each, and allowed.",
        transform: expandingHome)
    var out: String

    func run() throws {
        try ClusterSecurity.generate(folder: out)
        print(
            "keys in \(out); copy server.pub and worker.key to worker machines, and set cluster.keys to the folder; "
                + "operator.key may stop a run"
        )
    }
}
