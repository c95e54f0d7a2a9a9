import AdvGRPO
import ComputeRoles
public import Configuration
import ImageModels
public import Logging
import MethodModels
public import Processes
public import Protocol
import Synchronization
public import TensorCore
public import Transport

/// Scores generated images with the discriminator and trains it when told.
///
///     consumes: images from workers, orders and states from the learner
///     produces: rewards under one discriminator version, new versions, its state
///     waits for: requests; the processes of rewards of one's own
///     freed by: the shutdown signal
///
/// Hello, health and the opening of an epoch are answered at once; everything else is compared with the run as it arrives
/// and goes through one queue to one compute thread, which alone holds the discriminator; rewards of one's own are asked for
/// meanwhile, and added when they come. It keeps no files but what ended it: what must survive is fetched into the learner's
/// snapshots.
public final class RewardServer: Sendable {
    /// What other threads may know of the compute thread's state, and the epoch that is open.
    struct View: Sendable {
        var runID: RunID?
        var version: DiscriminatorVersion?
        var epoch: RewardAdmission.OpenEpoch?
        var report: DiscriminatorReport?
        var scoredImages = 0
        /// Means of the group scored last.
        var witnesses: [String: Double] = [:]
        var scoredGroups = 0
        var trainings = 0
        var failures = 0
        /// Scores that lack only the rewards of others.
        var incomplete = 0
        var activity = "waiting for the learner"
    }

    private let admission: RewardAdmission
    private let introduction: RewardIntroduction
    private let queue = JobQueue()
    private let view = SharedState(View())
    /// Told of the run this server belongs to.
    private let joining = Mutex<(@Sendable (RunID) -> Void)?>(nil)
    private let clock = RoleClock(RewardServerActivity.starting)
    private let shutdown: ShutdownSignal
    private let logger: Logger
    private let journal: RequestJournal?
    private let scorer: Scorer
    private let processes: RewardProcesses

    /// Loads the backbone and checks the references.
    ///
    /// - Parameters:
    ///   - settings: of the run.
    ///   - engine: what computes.
    ///   - loop: on which the processes of rewards of one's own are asked.
    ///   - shutdown: the signal that ends it.
    ///   - journal: of what ended the reward server before.
    ///   - logger: of this process.
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError`, `SettingViolation`, `RuntimeError`, `TransportError` naming
    ///   the file, key or endpoint.
    public init(
        settings: Settings, engine: any Engine, loop: SocketLoop, shutdown: ShutdownSignal,
        journal: RequestJournal? = nil, logger: Logger
    ) throws {
        processes = RewardProcesses(
            try RewardProcessPeer.all(settings, on: loop), creditsPatches: settings.method.policy.patchCredit != nil,
            logger: logger)
        self.shutdown = shutdown
        self.journal = journal
        self.logger = logger
        scorer = try Scorer(settings: settings, engine: engine)
        admission = try RewardAdmission(settings, prompts: scorer.references.prompts.map(\.text))
        introduction = try RewardIntroduction(settings, versions: ProgramVersions(logger: logger))
        if let leftOut = scorer.leftOut { logger.warning("\(leftOut)") }
        if let lonePrompts = scorer.lonePrompts { logger.warning("\(lonePrompts)") }
        if let cuts = scorer.promptCuts { logger.warning("\(cuts.warning)") }
    }

    /// What answers the requests of the server's socket, or queues them.
    public var router: Router {
        Router(
            .rewardServer, clock: clock, shutdown: shutdown, journal: journal,
            [
                Route(Hello.self) { [self] hello, request in
                    try hello.check(request.peer)
                    request.reply(try answer(hello))
                },
                Route(EpochOpening.self) { [self] in try open($0) },
                Route(ScoreRequest.self) { [self] score, request in
                    try admission.check(score, in: view.withLock { $0.epoch })
                    let others = processes.ask(score, RequestFingerprint(of: request.message))
                    try queue(request, .scoring, "scoring group \(score.group)") { [self] in
                        try scored(score, &$0, others, request)
                    }
                },
                Route(DiscriminatorTraining.self) { [self] order, request in
                    try admission.check(order, in: view.withLock { $0.epoch })
                    try queue(request, .training, "training on epoch \(order.epoch)") { [self] in
                        try trained(order, &$0)
                    }
                },
                Route(DiscriminatorStateRequest.self) { [self] state, request in
                    try queue(request, .state, "giving its state") { try $0.state(state) }
                },
                Route(DiscriminatorRestore.self) { [self] restore, request in
                    try queue(request, .state, "taking a state") { [self] in try restored(restore, &$0) }
                },
            ]
        ) { [self] in health() }
    }

    /// Works through the queue until the shutdown signal. Blocks the calling thread.
    ///
    /// - Parameter onJoin: called when a learner has made this server part of its run.
    public func run(onJoin: @escaping @Sendable (RunID) -> Void) {
        joining.withLock { $0 = onJoin }
        defer {
            queue.close(ending)
            processes.close()
        }
        var discriminator = CurrentDiscriminator(scorer: scorer)
        clock.enter(.idle)
        while !shutdown.isRequested {
            guard let job = queue.next(limit: .milliseconds(200)) else {
                if shutdown.isDraining, view.withLock({ $0.incomplete == 0 }) { return }
                rest()
                continue
            }
            if job.request.isExpired { continue }
            let failure = job.request.answering {
                let answer = try recorded(job.request) { try job.work(&discriminator) }
                if let answer { job.request.reply(answer) }
            }
            note(failure, of: job.request)
            rest()
        }
    }

    /// Has nothing to compute.
    private func rest() {
        let waits = processes.waits
        view.withLock { view in
            let others = waits.isEmpty ? [view.version == nil ? "the learner" : "requests"] : waits
            view.activity = "waiting for " + others.joined(separator: ", ")
        }
        clock.enter(waits.isEmpty ? .idle : .rewardProcesses)
    }

    private func note(_ failure: Failure?, of request: Request) {
        guard let failure else { return }
        view.withLock { $0.failures += 1 }
        logger.warning("\(request.kind): \(failure)")
    }

    /// Works for a request, unless it ended this role before.
    private func recorded(_ request: Request, _ work: () throws -> (any WireMessage)?) throws -> (any WireMessage)? {
        guard let journal else { return try work() }
        return try journal.during(RequestFingerprint(of: request.message), at: .work, work)
    }

    private var ending: Failure {
        let reason = shutdown.reason ?? shutdown.drainReason ?? ""
        return Failure(
            code: .busy, message: "the reward server is about to end: \(reason)", remedy: "ask its successor")
    }

    private func queue(
        _ request: Request, _ activity: RewardServerActivity, _ description: String,
        _ work: @escaping @Sendable (inout CurrentDiscriminator) throws -> (any WireMessage)?
    ) throws(Failure) {
        if shutdown.isDraining { throw ending }
        queue.add(
            Job(request: request) { [view, clock] discriminator in
                view.withLock { $0.activity = description }
                clock.enter(activity)
                return try work(&discriminator)
            })
    }

    /// The learner names the epoch that is sampled from now on.
    private func open(_ opening: EpochOpening) throws -> EpochOpened {
        let epoch = admission.epoch(opening.epoch)
        try view.withLock { view in
            guard view.version != nil else { throw Failure.noDiscriminator }
            view.epoch = epoch
        }
        processes.forget()
        return EpochOpened()
    }

    // MARK: On the compute thread

    /// - Returns: nil where others' rewards are still to come: the request is answered then.
    private func scored(
        _ score: ScoreRequest, _ discriminator: inout CurrentDiscriminator, _ others: RewardProcesses.Answers?,
        _ request: Request
    ) throws -> Scores? {
        let scores = try discriminator.score(score)
        view.withLock {
            $0.scoredGroups += 1
            $0.scoredImages += scores.rewards.elementCount
            $0.witnesses = scores.witnesses.mapValues {
                $0.floats.reduce(0) { $0 + Double($1) } / Double($0.elementCount)
            }
        }
        guard let others else { return scores }
        view.withLock { $0.incomplete += 1 }
        Task { [self] in
            let answers = await others.result
            let failure = request.answering {
                do {
                    request.reply(scores.adding(try answers.get()))
                } catch is CancellationError {
                    throw ending
                }
            }
            note(failure, of: request)
            view.withLock { $0.incomplete -= 1 }
        }
        return nil
    }

    private func trained(_ order: DiscriminatorTraining, _ discriminator: inout CurrentDiscriminator) throws
        -> DiscriminatorTrained
    {
        let trained = try discriminator.train(order)
        view.withLock {
            // A repeated order, and one without steps, leave the version as it is.
            $0.trainings += $0.version == trained.version ? 0 : 1
            $0.version = trained.version
            $0.report = discriminator.lastReport
        }
        return trained
    }

    private func restored(
        _ restore: DiscriminatorRestore, _ discriminator: inout CurrentDiscriminator
    ) throws -> DiscriminatorRestored {
        if let joined = try discriminator.restore(restore) {
            joining.withLock { $0 }?(joined)
            view.withLock {
                $0.runID = joined
                $0.version = restore.version
                $0.epoch = nil
            }
            logger.info("serving run \(joined) with discriminator \(restore.version)")
        }
        return DiscriminatorRestored(version: restore.version, models: introduction.models)
    }

    /// A learner introduces itself.
    private func answer(_ learner: Hello) throws(Failure) -> Welcome {
        try introduction.check(learner)
        let view = view.withLock { $0 }
        guard let runID = view.runID else { throw .noDiscriminator }
        return Welcome(
            runID: runID, program: introduction.program, discriminatorVersion: view.version, epoch: view.epoch?.number)
    }

    private func health() -> RoleHealth {
        let view = view.withLock { $0 }
        return RoleHealth(
            serving: view.version != nil, reason: view.activity, runID: view.runID, version: view.version?.rawValue,
            queueDepth: queue.count,
            counters: [
                "imagesScored": Double(view.scoredImages), "groupsScored": Double(view.scoredGroups),
                "trainings": Double(view.trainings), "failures": Double(view.failures),
            ].merging(processes.counters) { own, _ in own },
            detail: .object(
                (view.report?.figures ?? [:]).mapValues { $0.map { .number($0) } ?? .null }.merging(
                    view.witnesses.map { ("gauge." + $0.key, .number($0.value)) }
                ) { first, _ in first }))
    }
}
