import Foundation
import Protocol
import Runtime
import Transport

/// Answers what arrives at the learner's socket. Runs on the socket's thread, under the monitor's lock, and never waits.
struct LearnerDesk: Sendable {
    let monitor: Monitor<LearnerState>
    let shutdown: ShutdownSignal
    let startedAt = ContinuousClock.now
    let latency = LatencyHistogram()

    func handle(_ request: Request) {
        let begin = ContinuousClock.now
        defer { latency.record(.now - begin) }
        do {
            switch request.kind {
            case .hello:
                let hello = try request.decoded(as: Hello.self)
                request.reply(try monitor.withLock { try $0.answer(hello, now: monotonicMilliseconds()) })
            case .leaseRequest:
                let lease = try request.decoded(as: LeaseRequest.self)
                let answer = try monitor.withLock { try $0.answer(lease, now: monotonicMilliseconds()) }
                request.reply(answer)
                // Not before the reply is on its way: the learner ends when all have been told.
                if case .stop = answer { monitor.withLock { $0.workers[lease.worker]?.isDismissed = true } }
            case .manifestRequest:
                let manifest = try request.decoded(as: ManifestRequest.self)
                request.reply(try monitor.withLock { try $0.answer(manifest) }, isKept: false)
            case .piecesRequest:
                let pieces = try request.decoded(as: PiecesRequest.self)
                request.reply(try monitor.withLock { try $0.answer(pieces) }, isKept: false)
            case .groupResult:
                let result = try request.decoded(as: GroupResult.self)
                request.reply(monitor.withLock { $0.answer(result, now: monotonicMilliseconds()) })
            case .groupFailure:
                let failure = try request.decoded(as: GroupFailure.self)
                request.reply(monitor.withLock { $0.answer(failure, now: monotonicMilliseconds()) })
            case .heartbeat:
                let heartbeat = try request.decoded(as: Heartbeat.self)
                request.reply(monitor.withLock { $0.answer(heartbeat, now: monotonicMilliseconds()) })
            case .healthRequest: request.reply(health())
            case .statusRequest: request.reply(Status(document: try JSONValue(encoding: status())))
            case .stopRequest:
                let stop = try request.decoded(as: StopRequest.self)
                shutdown.request(stop.reason)
                request.reply(StopAcknowledgement())
            default: request.fail(Failure(code: "wrongServer", message: "the learner does not answer \(request.kind)"))
            }
        } catch let failure as Failure {
            request.fail(failure)
        } catch let error as WireError {
            request.fail(Failure(error))
        } catch {
            request.fail(Failure(code: "internal", message: "\(error)"))
        }
    }

    private func status() -> RunStatus {
        let now = ContinuousClock.now
        let waits = monitor.waits.map { (what: $0.name, seconds: (now - $0.since).seconds) }
        return monitor.withLock { $0.status(now: monotonicMilliseconds(), waits: waits) }
    }

    private func health() -> Health {
        let status = status()
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
