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
import Synchronization
public import TensorCore
import Transport

/// Scores generated images with the discriminator and trains it when told.
///
///     consumes: images from workers, orders and states from the learner
///     produces: rewards under one discriminator version, new versions, its state
///     waits for: requests
///     freed by: the shutdown signal
///
/// Hello, health and the opening of an epoch are answered at once; everything else is compared with the run at the door
/// and goes through one queue to one compute thread, which alone holds the discriminator. It keeps no files but what
/// ended it: what must survive is fetched into the learner's snapshots.
public final class RewardServer: Sendable {
    /// What other threads may know of the compute thread's state, and the epoch that is open.
    struct View: Sendable {
        var runID: RunID?
        var version: DiscriminatorVersion?
        var epoch: OpenEpoch?
        var report: DiscriminatorReport?
        var scoredImages = 0
        var scoredGroups = 0
        var trainings = 0
        var failures = 0
        var activity = "waiting for the learner"
    }

    /// The epoch whose groups are scored.
    struct OpenEpoch: Sendable {
        var number: Int
        /// The prompt of every group.
        var prompts: [String]
    }

    private let settings: Settings
    private let contract: RunContract
    private let queue = JobQueue()
    private let view = Monitor(View())
    /// Told of the run this server belongs to.
    private let joining = Mutex<(@Sendable (RunID) -> Void)?>(nil)
    private let latency = LatencyHistogram()
    private let startedAt = ContinuousClock.now
    private let shutdown: ShutdownSignal
    private let logger: Logger
    private let journal: RequestJournal?
    private let scorer: Scorer
    private let order: PromptOrder
    private let models: [String: String]

    /// Loads the backbone and checks the references.
    ///
    /// - Parameter journal: of what ended the reward server before.
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError`, `SettingViolation`, `RuntimeError` naming the file
    ///   or key.
    public init(
        settings: Settings, engine: any Engine, shutdown: ShutdownSignal, journal: RequestJournal? = nil, logger: Logger
    ) throws {
        self.settings = settings
        contract = RunContract(settings.method)
        self.shutdown = shutdown
        self.journal = journal
        self.logger = logger
        scorer = try Scorer(settings: settings, engine: engine)
        order = try PromptOrder(settings, promptCount: scorer.references.prompts.count)
        if let leftOut = scorer.leftOut { logger.warning("\(leftOut)") }
        if let cuts = scorer.promptCuts { logger.warning("\(cuts.warning)") }
        models = try Self.models(settings)
    }

    /// What answers the requests of the server's socket, or queues them.
    public var router: Router {
        Router(
            .rewardServer, shutdown: shutdown, journal: journal,
            [
                Route(Hello.self) { [self] hello, request in
                    try hello.check(request.peer)
                    request.reply(try answer(hello))
                },
                Route(EpochOpening.self) { [self] in try open($0) },
                Route(ScoreRequest.self) { [self] score, request in
                    try check(score)
                    try queue(request, "scoring group \(score.group)") { [self] desk in
                        let begin = ContinuousClock.now
                        defer { latency.record(.now - begin) }
                        return try scored(score, &desk)
                    }
                },
                Route(DiscriminatorTraining.self) { [self] order, request in
                    try check(order)
                    try queue(request, "training on epoch \(order.epoch)") { [self] in try trained(order, &$0) }
                },
                Route(DiscriminatorStateRequest.self) { [self] state, request in
                    try queue(request, "giving its state") { try $0.state(state) }
                },
                Route(DiscriminatorRestore.self) { [self] restore, request in
                    try queue(request, "taking a state") { [self] in try restored(restore, &$0) }
                },
            ]
        ) { [self] in $0.reply(health()) }
    }

    /// Works through the queue until the shutdown signal. Blocks the calling thread.
    ///
    /// - Parameter onJoin: called when a learner has made this server part of its run.
    public func run(onJoin: @escaping @Sendable (RunID) -> Void) {
        joining.withLock { $0 = onJoin }
        var desk = DiscriminatorDesk(scorer: scorer)
        while !shutdown.isRequested {
            guard let job = queue.next(limit: .milliseconds(200)) else {
                if shutdown.isDraining { return }
                continue
            }
            if job.request.isExpired { continue }
            let failure = job.request.answering {
                let answer = try recorded(job.request) { try job.work(&desk) }
                job.request.reply(answer)
            }
            if let failure {
                view.withLock { $0.failures += 1 }
                logger.warning("\(job.request.kind): \(failure)")
            }
            view.withLock { $0.activity = "waiting for requests" }
        }
    }

    /// Works for a request, unless it ended this role before.
    private func recorded(_ request: Request, _ work: () throws -> any WireMessage) throws -> any WireMessage {
        guard let journal else { return try work() }
        return try journal.during(RequestFingerprint(of: request.message), at: .work, work)
    }

    private func queue(
        _ request: Request, _ activity: String,
        _ work: @escaping @Sendable (inout DiscriminatorDesk) throws -> any WireMessage
    ) throws(Failure) {
        if let reason = shutdown.drainReason {
            throw Failure(
                code: .busy, message: "the reward server is about to end: \(reason)", remedy: "ask its successor")
        }
        queue.add(
            Job(request: request) { [view] desk in
                view.withLock { $0.activity = activity }
                return try work(&desk)
            })
    }

    // MARK: At the door

    /// The learner names the epoch that is sampled from now on.
    private func open(_ opening: EpochOpening) throws -> EpochOpened {
        let prompts = order.prompts(epoch: opening.epoch).map { scorer.references.prompts[$0].text }
        let epoch = OpenEpoch(number: opening.epoch, prompts: prompts)
        try view.withLock { view in
            guard view.version != nil else { throw Self.notReady }
            view.epoch = epoch
        }
        return EpochOpened()
    }

    /// A group to score is one of the open epoch, with its prompt and the run's images.
    private func check(_ score: ScoreRequest) throws(Failure) {
        try contract.check(score)
        let epoch = try openEpoch()
        guard score.group.epoch == epoch.number else {
            throw Failure(
                code: .closedEpoch, message: "group \(score.group) is to be scored, epoch \(epoch.number) is open",
                remedy: "ask the learner for a new lease")
        }
        guard score.prompt == epoch.prompts[score.group.index] else {
            throw Failure(
                code: .notOfThisRun,
                message:
                    "group \(score.group) has the prompt \"\(epoch.prompts[score.group.index].prefix(200))\", not \"\(score.prompt.prefix(200))\"",
                remedy: "start every role with the same data.prompts")
        }
    }

    /// The discriminator learns from the open epoch, or the one before when that is trained while the next is sampled.
    private func check(_ order: DiscriminatorTraining) throws(Failure) {
        try contract.check(order)
        let epoch = try openEpoch().number
        guard (epoch - 1...epoch).contains(order.epoch) else {
            throw Failure(
                code: .closedEpoch, message: "a training on epoch \(order.epoch) was ordered, epoch \(epoch) is open",
                remedy: "open the epoch and have it scored first")
        }
    }

    private func openEpoch() throws(Failure) -> OpenEpoch {
        guard let epoch = view.withLock({ $0.epoch }) else { throw Self.notReady }
        return epoch
    }

    private static let notReady = Failure(
        code: .notReady, message: "the reward server has no discriminator yet, or no epoch is open",
        remedy: "wait for the learner to restore it")

    // MARK: On the compute thread

    private func scored(_ score: ScoreRequest, _ desk: inout DiscriminatorDesk) throws -> Scores {
        let scores = try desk.score(score)
        view.withLock {
            $0.scoredGroups += 1
            $0.scoredImages += scores.rewards.elementCount
        }
        return scores
    }

    private func trained(_ order: DiscriminatorTraining, _ desk: inout DiscriminatorDesk) throws -> DiscriminatorTrained
    {
        let trained = try desk.train(order)
        view.withLock {
            $0.version = trained.version
            $0.report = desk.lastReport
            $0.trainings += order.steps > 0 ? 1 : 0
        }
        return trained
    }

    private func restored(
        _ restore: DiscriminatorRestore, _ desk: inout DiscriminatorDesk
    ) throws -> DiscriminatorRestored {
        if let joined = try desk.restore(restore) {
            joining.withLock { $0 }?(joined)
            view.withLock {
                $0.runID = joined
                $0.version = restore.version
                $0.epoch = nil
            }
            logger.info("serving run \(joined) with discriminator \(restore.version)")
        }
        return DiscriminatorRestored(version: restore.version, models: models)
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
            digests.merge(try ModelDigest.pipeline(settings.model, [.autoencoder])) { $1 }
        }
        return digests
    }

    /// A learner introduces itself.
    private func answer(_ peer: Hello) throws(Failure) -> Welcome {
        guard peer.settingsDigest == settings.methodDigest else {
            throw Failure(
                code: .settingsMismatch, message: "the reward server runs other settings than the learner",
                remedy: "start both with the run's own settings.yaml")
        }
        if let part = ModelDigest.difference(models, peer.models) {
            throw Failure(
                code: .modelMismatch,
                message:
                    "the reward server has another \(part) than the learner: its files hold other weights or settings",
                remedy: "copy the learner's \(part) to the reward server's machine")
        }
        let view = view.withLock { $0 }
        guard let runID = view.runID else { throw Self.notReady }
        return Welcome(runID: runID, discriminatorVersion: view.version, epoch: view.epoch?.number)
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
