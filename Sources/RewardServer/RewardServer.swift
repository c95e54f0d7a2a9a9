import AdvGRPO
import Datasets
import Foundation
import ImageModels
public import Logging
import MethodModels
import NeuralNetworks
public import Protocol
import Raster
public import Runtime
import SafeTensors
public import TensorCore
public import Transport

/// Scores generated images with the discriminator and trains it when told.
///
///     consumes: images from workers, orders and states from the learner
///     produces: rewards under one discriminator version, new versions, its state
///     waits for: requests
///     freed by: the shutdown signal
///
/// Hello and health are answered at once; everything else goes through one queue to one compute thread, which alone holds the
/// discriminator. It keeps no files: what must survive is fetched into the learner's snapshots.
public final class RewardServer: Sendable {
    /// What other threads may know of the compute thread's state.
    struct View: Sendable {
        var runID: RunID?
        var version: DiscriminatorVersion?
        var report: DiscriminatorReport?
        var scoredImages = 0
        var scoredGroups = 0
        var trainings = 0
        var failures = 0
        var activity = "waiting for the learner"
    }

    private let settings: Settings
    private let engine: any Engine
    private let queue = JobQueue()
    private let view = Monitor(View())
    private let latency = LatencyHistogram()
    private let startedAt = ContinuousClock.now
    private let shutdown: ShutdownSignal
    private let logger: Logger
    private let scorer: Scorer
    private let models: [String: String]

    /// Loads the backbone and checks the references.
    ///
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError`, `SettingViolation` naming the file or key.
    public init(settings: Settings, engine: any Engine, shutdown: ShutdownSignal, logger: Logger) throws {
        self.settings = settings
        self.engine = engine
        self.shutdown = shutdown
        self.logger = logger
        scorer = try Scorer(settings: settings, engine: engine)
        if let leftOut = scorer.leftOut { logger.warning("\(leftOut)") }
        if let cuts = scorer.promptCuts { logger.warning("\(cuts.warning)") }
        models = try Self.models(settings)
    }

    /// Answers a request of the server's socket, or queues it.
    public func handle(_ request: Request) {
        switch request.kind {
        case .hello: hello(request)
        case .healthRequest: request.reply(health())
        case .stopRequest:
            shutdown.request("stop requested by a peer")
            request.reply(StopAcknowledgement())
        case .scoreRequest, .discriminatorTraining, .discriminatorStateRequest, .discriminatorRestore:
            queue.add(request)
        default:
            request.fail(Failure(code: "wrongServer", message: "the reward server does not answer \(request.kind)"))
        }
    }

    /// Works through the queue until the shutdown signal. Blocks the calling thread.
    ///
    /// - Parameter onJoin: called when a learner has made this server part of its run.
    public func run(onJoin: (RunID) -> Void) {
        var desk = DiscriminatorDesk(scorer: scorer)
        while !shutdown.isRequested {
            guard let request = queue.next(limit: .milliseconds(200)) else { continue }
            if request.isExpired { continue }
            let begin = ContinuousClock.now
            do {
                try answer(request, &desk, onJoin: onJoin)
            } catch let failure as Failure {
                fail(request, failure)
            } catch let error as WireError {
                fail(request, Failure(error))
            } catch {
                fail(request, Failure(code: "failed", message: "\(error)"))
            }
            if request.kind == .scoreRequest { latency.record(.now - begin) }
            view.withLock { $0.activity = "waiting for requests" }
        }
    }

    private func fail(_ request: Request, _ failure: Failure) {
        view.withLock { $0.failures += 1 }
        logger.warning("\(request.kind): \(failure)")
        request.fail(failure)
    }

    private func answer(_ request: Request, _ desk: inout DiscriminatorDesk, onJoin: (RunID) -> Void) throws {
        switch request.kind {
        case .scoreRequest:
            let score = try request.decoded(as: ScoreRequest.self)
            view.withLock { $0.activity = "scoring group \(score.group)" }
            let scores = try desk.score(score)
            view.withLock {
                $0.scoredGroups += 1
                $0.scoredImages += scores.rewards.elementCount
            }
            request.reply(scores)
        case .discriminatorTraining:
            let order = try request.decoded(as: DiscriminatorTraining.self)
            view.withLock { $0.activity = "training on epoch \(order.epoch)" }
            let trained = try desk.train(order)
            view.withLock {
                $0.version = trained.version
                $0.report = desk.lastReport
                $0.trainings += order.steps > 0 ? 1 : 0
            }
            request.reply(trained)
        case .discriminatorStateRequest:
            request.reply(try desk.state(try request.decoded(as: DiscriminatorStateRequest.self)))
        case .discriminatorRestore:
            let restore = try request.decoded(as: DiscriminatorRestore.self)
            guard let joined = try desk.restore(restore) else {
                return request.reply(DiscriminatorRestored(version: restore.version, models: models))
            }
            onJoin(joined)
            view.withLock {
                $0.runID = joined
                $0.version = restore.version
            }
            logger.info("serving run \(joined) with discriminator \(restore.version)")
            request.reply(DiscriminatorRestored(version: restore.version, models: models))
        default: break
        }
    }

    /// Digests of what scores come from.
    private static func models(_ settings: Settings) throws -> [String: String] {
        var digests = ["rewardBackbone": try ModelDigest.folder(settings.rewardBackbone)]
        for component in settings.method.reward.weights.active {
            guard let folder = settings.rewardModels[component], !folder.isEmpty else { continue }
            digests["rewardModels.\(component.rawValue)"] = try ModelDigest.folder(
                folder, additional: FrozenReward.additionalFiles(of: component))
        }
        if settings.method.reward.references == .decoded {
            digests.merge(try ModelDigest.pipeline(settings.model, parts: ["vae"])) { $1 }
        }
        return digests
    }

    private func hello(_ request: Request) {
        let peer: Hello
        do {
            peer = try request.decoded(as: Hello.self)
        } catch {
            return request.fail(Failure(error))
        }
        guard peer.role != .learner || peer.settingsDigest == settings.methodDigest else {
            return request.fail(
                Failure(
                    code: "settingsMismatch", message: "the reward server runs other settings than the learner",
                    remedy: "start both with the run's own settings.yaml"))
        }
        guard let part = ModelDigest.difference(models, peer.models) else { return welcome(request) }
        request.fail(
            Failure(
                code: "modelMismatch",
                message:
                    "the reward server has another \(part) than the learner: its files hold other weights or settings",
                remedy: "copy the learner's \(part) to the reward server's machine"))
    }

    private func welcome(_ request: Request) {
        let (runID, version) = view.withLock { ($0.runID, $0.version) }
        guard let runID else {
            return request.fail(
                Failure(
                    code: "notReady", message: "the reward server has no discriminator yet",
                    remedy: "wait for the learner to restore it"))
        }
        request.reply(Welcome(runID: runID, discriminatorVersion: version))
    }

    private func health() -> Health {
        let view = view.withLock { $0 }
        let report = view.report
        return Health(
            role: .rewardServer, serving: view.version != nil, reason: view.activity, runID: view.runID,
            version: view.version?.rawValue, uptimeSeconds: (ContinuousClock.now - startedAt).seconds,
            memoryBytes: ProcessMemory.residentByteCount, queueDepth: queue.count,
            counters: [
                "imagesScored": Double(view.scoredImages), "groupsScored": Double(view.scoredGroups),
                "trainings": Double(view.trainings), "failures": Double(view.failures),
            ],
            latency: latency.p50.flatMap { p50 in
                latency.p99.map { .init(p50Milliseconds: p50.seconds * 1000, p99Milliseconds: $0.seconds * 1000) }
            },
            detail: .object([
                "accuracy": report.map { .number($0.training.accuracy) } ?? .null,
                "margin": report.map { .number($0.training.margin) } ?? .null,
                "realMean": report.map { .number($0.training.realMean) } ?? .null,
                "fakeMean": report.map { .number($0.training.fakeMean) } ?? .null,
                "heldOutAUC": report.map { .number($0.heldOut.areaUnderCurve) } ?? .null,
                "loss": report.map { .number($0.loss) } ?? .null,
            ]))
    }
}
