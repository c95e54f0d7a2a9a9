import Foundation
import Logging
import Protocol
import Runtime
import Transport

/// Answers what arrives at the learner's socket. Runs on the socket's thread, under the monitor's lock, and never waits.
final class LearnerDesk: Sendable {
    private let monitor: Monitor<LearnerState>
    private let router: Router
    private let latency: LatencyHistogram

    /// - Parameter journal: of what ended the learner before.
    init(
        monitor: Monitor<LearnerState>, shutdown: ShutdownSignal, journal: RequestJournal? = nil,
        logger: Logger = Logger(label: "learner")
    ) {
        let latency = LatencyHistogram()
        let startedAt = ContinuousClock.now
        self.monitor = monitor
        self.latency = latency
        router = Router(
            .learner, shutdown: shutdown, journal: journal, Self.routes(monitor, ProgramVersions(logger: logger))
        ) {
            $0.reply(Self.health(monitor, latency, startedAt: startedAt))
        }
    }

    func handle(_ request: Request) {
        let begin = ContinuousClock.now
        defer { latency.record(.now - begin) }
        router.handle(request)
    }

    private static func routes(_ monitor: Monitor<LearnerState>, _ versions: ProgramVersions) -> [Route] {
        [
            Route(Hello.self) { hello, request in
                try hello.check(request.peer)
                request.reply(try monitor.withLock { try $0.answer(hello, now: monotonicMilliseconds()) })
                versions.note(hello.process.program, of: "worker \(hello.name) on \(hello.process.host)")
            },
            Route(LeaseRequest.self) { lease, request in
                let answer = try monitor.withLock { try $0.answer(lease, now: monotonicMilliseconds()) }
                request.reply(answer)
                // Not before the reply is on its way: the learner ends when all have been told.
                if case .stop = answer { monitor.withLock { $0.workers[lease.worker]?.isDismissed = true } }
            },
            Route(ManifestRequest.self) { manifest, request in
                request.reply(try monitor.withLock { try $0.answer(manifest) }, isKept: false)
            },
            Route(PiecesRequest.self) { pieces, request in
                request.reply(try monitor.withLock { try $0.answer(pieces) }, isKept: false)
            },
            Route(GroupResult.self) { result in monitor.withLock { $0.answer(result, now: monotonicMilliseconds()) } },
            Route(GroupFailure.self) { failure in
                monitor.withLock { $0.answer(failure, now: monotonicMilliseconds()) }
            },
            Route(Heartbeat.self) { heartbeat in
                monitor.withLock { $0.answer(heartbeat, now: monotonicMilliseconds()) }
            },
            Route(StatusRequest.self) { _ in Status(document: try JSONValue(encoding: status(monitor))) },
        ]
    }

    private static func status(_ monitor: Monitor<LearnerState>) -> RunStatus {
        let now = ContinuousClock.now
        let waits = monitor.waits.map { (what: $0.name, seconds: (now - $0.since).seconds) }
        return monitor.withLock { $0.status(now: monotonicMilliseconds(), waits: waits) }
    }

    private static func health(
        _ monitor: Monitor<LearnerState>, _ latency: LatencyHistogram, startedAt: ContinuousClock.Instant
    ) -> Health {
        let status = status(monitor)
        let weightsByteCount = monitor.withLock { $0.weightsByteCount }
        let serving = status.phase != .starting && status.stopping == nil
        return Health(
            role: .learner, serving: serving,
            reason: serving ? "epoch \(status.epoch), \(status.phase.rawValue)" : status.stopping ?? "starting",
            runID: RunID(rawValue: status.runID), version: status.policyVersion,
            uptimeSeconds: (ContinuousClock.now - startedAt).seconds, memoryBytes: ProcessMemory.residentByteCount,
            queueDepth: status.groups.count { $0.state == "open" },
            counters: [
                "groupsTrained": Double(status.ledger.trained), "groupsRefused": Double(status.ledger.refused),
                "leasesExpired": Double(status.ledger.expired), "workers": Double(status.workers.count),
                "images": Double(status.progress.images), "weightsBytesSent": Double(weightsByteCount),
            ],
            latency: latency.p50.flatMap { p50 in
                latency.p99.map { .init(p50Milliseconds: p50.seconds * 1000, p99Milliseconds: $0.seconds * 1000) }
            })
    }
}

extension JSONValue {
    /// Any encodable value as a document.
    init(encoding value: some Encodable) throws {
        self = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(value))
    }
}
