import ComputeRoles
import Foundation
import Logging
import Processes
import Protocol
import RunFiles
import Transport

/// Answers what arrives at the learner's socket. Runs on the socket's thread, under the shared state's lock, and never waits.
final class LearnerHandlers: Sendable {
    private let router: Router

    /// - Parameter journal: of what ended the learner before.
    init(
        shared: SharedState<LearnerState>, shutdown: ShutdownSignal, journal: RequestJournal? = nil,
        logger: Logger = Logger(label: "learner")
    ) {
        router = Router(
            .learner, clock: shared.withLock { $0.clock }, shutdown: shutdown, journal: journal,
            Self.routes(shared, ProgramVersions(logger: logger))
        ) { Self.health(shared) }
    }

    func handle(_ request: Request) { router.handle(request) }

    private static func routes(_ shared: SharedState<LearnerState>, _ versions: ProgramVersions) -> [Route] {
        let desk = LeaseDesk(shared)
        return [
            Route(Hello.self) { hello, request in
                try hello.check(request.peer)
                request.reply(try shared.withLock { try $0.answer(hello, now: monotonicMilliseconds()) })
                versions.note(hello.process.program, of: "worker \(hello.name) on \(hello.process.host)")
            },
            Route(LeaseRequest.self) { lease, request in try desk.take(lease, request) },
            Route(ManifestRequest.self) { manifest, request in
                request.reply(try shared.withLock { try $0.answer(manifest) }, isKept: false)
            },
            Route(PiecesRequest.self) { pieces, request in
                request.reply(try shared.withLock { try $0.answer(pieces) }, isKept: false)
            },
            Route(GroupResult.self) { result in shared.withLock { $0.answer(result, now: monotonicMilliseconds()) } },
            Route(GradientResult.self) { result in
                let (contract, shapes, rollout) = shared.withLock { ($0.contract, $0.trainedShapes, $0.rollout) }
                let defect = rollout.map { result.defect(contract, shapes, $0) } ?? "the learner has no model yet"
                return shared.withLock { $0.answer(result, refusing: defect, now: monotonicMilliseconds()) }
            },
            Route(ContentRequest.self) { content, request in
                request.reply(try shared.withLock { try $0.answer(content) }, isKept: false)
            },
            Route(TaskFailure.self) { failure in
                shared.withLock { $0.answer(failure, now: monotonicMilliseconds()) }
            },
            Route(Heartbeat.self) { heartbeat in
                shared.withLock { $0.answer(heartbeat, now: monotonicMilliseconds()) }
            },
            Route(StatusRequest.self) { _ in Status(document: try JSONValue(encoding: status(shared))) },
        ]
    }

    private static func status(_ shared: SharedState<LearnerState>) -> RunStatus {
        let now = ContinuousClock.now
        let waits = shared.waits.map { (what: $0.name, seconds: (now - $0.since).seconds) }
        return shared.withLock { $0.status(now: monotonicMilliseconds(), waits: waits) }
    }

    private static func health(_ shared: SharedState<LearnerState>) -> RoleHealth {
        let status = status(shared)
        let (weightsByteCount, contentsByteCount) = shared.withLock { ($0.weightsByteCount, $0.contentsByteCount) }
        let serving = status.phase != .starting && status.stopping == nil
        return RoleHealth(
            serving: serving,
            reason: serving ? "epoch \(status.epoch), \(status.phase.rawValue)" : status.stopping ?? "starting",
            runID: RunID(rawValue: status.runID), version: status.policyVersion,
            queueDepth: status.groups.count { $0.state == "open" },
            counters: [
                "groupsTrained": Double(status.ledger.trained), "groupsRefused": Double(status.ledger.refused),
                "leasesExpired": Double(status.ledger.expired), "workers": Double(status.workers.count),
                "images": Double(status.progress.images), "weightsBytesSent": Double(weightsByteCount),
                "contentsBytesSent": Double(contentsByteCount),
                "gradientsAdded": Double(status.gradientLedger.trained),
                "gradientsRefused": Double(status.gradientLedger.refused),
            ], detail: RunMetrics.gauge(status.progress.metrics))
    }
}

extension JSONValue {
    /// Any encodable value as a document.
    init(encoding value: some Encodable) throws {
        self = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(value))
    }
}
