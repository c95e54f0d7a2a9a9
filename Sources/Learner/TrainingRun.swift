import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import Logging
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import Raster
import RunFiles
import TensorCore
import Transport
import WeightsTransfer

/// The learner's training thread: one epoch after the other, from a snapshot to the run's end.
///
///     consumes: scored groups, in group order
///     produces: policy versions, metrics, snapshots, contact sheets
///     waits for: every group of the epoch; the reward server's training
///     freed by: workers that deliver, leases that end, the shutdown signal
///
/// Whatever fails outside this process ends here in one way: back to the last snapshot, the reward server restored to it, the
/// epochs run again. They give the same bits.
final class TrainingRun {
    /// How it ended.
    enum Ending: Sendable, Equatable {
        case completed
        case interrupted
    }

    /// The reward server lost its state: it was restarted, or belongs to another run by now.
    struct RewardServerReset: Error {
        var reason: String
    }

    /// The shutdown signal came where there is nothing to snapshot.
    struct Interruption: Error {}

    let settings: Settings
    let directory: RunDirectory
    let policy: DiffusionPolicy
    let rollout: Rollout
    let lanes: Lanes
    let shared: SharedState<LearnerState>
    /// nil in runs without rewards.
    let rewardServer: Client?
    let prompts: [String]
    /// Which of them an epoch samples.
    let promptOrder: PromptOrder
    let outputs: RunOutputs
    let shutdown: ShutdownSignal
    let logger: Logger
    let versions: ProgramVersions
    let progressLine: ProgressLine
    let snapshots: SnapshotStore
    /// Loaded by the first supervised epoch.
    var supervisedReferences: SupervisedReferences?
    /// What the gauge remembers of epochs that the run was taken back from; nil before it ever was.
    var takenBack: Gauge.State?

    /// What is trained, on what, and where it is kept.
    struct Job {
        var settings: Settings
        var directory: RunDirectory
        var policy: DiffusionPolicy
        var rollout: Rollout
        var lanes: Lanes
        var prompts: [String]
        var promptOrder: PromptOrder
    }

    init(
        _ job: Job, shared: SharedState<LearnerState>, rewardServer: Client?, outputs: RunOutputs,
        shutdown: ShutdownSignal, logger: Logger
    ) throws {
        settings = job.settings
        directory = job.directory
        policy = job.policy
        rollout = job.rollout
        lanes = job.lanes
        prompts = job.prompts
        promptOrder = job.promptOrder
        self.shared = shared
        self.rewardServer = rewardServer
        self.outputs = outputs
        self.shutdown = shutdown
        self.logger = logger
        versions = ProgramVersions(logger: logger)
        progressLine = ProgressLine()
        snapshots = try SnapshotStore(folder: directory.checkpointsFolder, keptCount: settings.run.snapshotsKept)
    }

    /// Runs to the end, starting again from the last snapshot whenever the reward server loses its state.
    func run() throws -> Ending {
        while true {
            do {
                return try runFromSnapshot()
            } catch let reset as RewardServerReset {
                logger.warning("\(reset.reason); going back to the last snapshot")
                shared.withLock { $0.isLeasing = false }
            } catch let rollback as Rollback {
                shared.withLock { $0.isLeasing = false }
                try goBack(rollback)
            } catch is Interruption {
                return .interrupted
            }
        }
    }

    private func runFromSnapshot() throws -> Ending {
        enter(.starting)
        var checkpoint = try Checkpoint.newest(in: snapshots, run: self)
        applyGauge(to: &checkpoint)
        shared.withLock {
            $0.ledger.restore(checkpoint.record.ledger)
            $0.results = [:]
            $0.step = nil
        }
        try restoreRewardServer(&checkpoint)
        let metrics = try MetricsWriter(directory: directory, resumingAfter: checkpoint.record.epoch)
        if snapshots.steps().isEmpty { try snapshot(&checkpoint) }
        try outputs.showBefore(checkpoint.trainer, epoch: checkpoint.record.epoch) { self.enter($0) }
        try open(checkpoint.record.epoch, checkpoint, scoredBy: checkpoint.discriminatorVersion)
        logger.info(
            "training from epoch \(checkpoint.record.epoch) of \(settings.run.epochs), policy \(checkpoint.trainer.version)"
        )

        while !isOver(checkpoint) {
            if let reason = shutdown.drainReason {
                logger.info("stopping after epoch \(checkpoint.record.epoch)", metadata: ["reason": "\(reason)"])
                snapshotBeforeLeaving(&checkpoint)
                return .interrupted
            }
            try outputs.showStart(checkpoint.trainer, epoch: checkpoint.record.epoch) { self.enter($0) }
            checkpoint.epochBegan = .now
            let sampler = checkpoint.trainer.samplingParameters
            var site = LearnerSite(self, checkpoint: checkpoint)
            var schedule = checkpoint.schedule
            do {
                _ = try Epoch(checkpoint.record.epoch, of: settings.method).run(at: &site, schedule: &schedule)
            } catch is LearnerSite.Interruption {
                snapshotBeforeLeaving(&checkpoint)
                return .interrupted
            }
            checkpoint = site.checkpoint
            checkpoint.schedule = schedule
            guard var epoch = site.report else { preconditionFailure("an epoch ended without a report") }
            enter(.recording)
            let alarms = read(&epoch, &checkpoint)
            epoch.judgement = try preview(checkpoint)
            try metrics.append(epoch)
            report(epoch, checkpoint)
            if !alarms.isEmpty { try answer(alarms, site.results, sampledWith: sampler, &checkpoint) }
            if checkpoint.record.epoch % settings.run.snapshotEvery == 0 || isOver(checkpoint) {
                try snapshot(&checkpoint)
            }
        }
        shared.withLock { $0.stopReason = "the run is complete" }
        try outputs.showAfter(
            checkpoint.trainer, metrics: metrics.records, record: checkpoint.record, roles: { self.roleSeconds() }
        ) { self.enter($0) }
        enter(.finished)
        progressLine.finish()
        return .completed
    }

    /// Whether the run has had its epochs or its minutes.
    func isOver(_ checkpoint: Checkpoint) -> Bool {
        checkpoint.record.epoch >= settings.run.epochs
            || (settings.run.minutes > 0 && checkpoint.record.trainingSeconds >= 60 * settings.run.minutes)
    }

    func enter(_ phase: RunStatus.Phase) {
        shared.withLock { $0.enter(phase, now: monotonicMilliseconds()) }
    }

    // MARK: Rollout

    /// Opens an epoch's groups to the workers, and publishes what they are to be sampled with; a supervised one has no groups.
    ///
    /// - Parameter version: the discriminator that is to score them, which may still be in training.
    /// - Throws: `WireError` for weights that cannot be published, `RewardServerReset`.
    func open(_ epoch: Int, _ checkpoint: Checkpoint, scoredBy version: DiscriminatorVersion) throws {
        let published = try checkpoint.trainer.published()
        if settings.method.supervisedSteps(ofEpoch: epoch) != nil {
            return shared.withLock { state in
                state.weights = published
                state.progress.epochs = settings.run.epochs
                state.epoch = epoch
            }
        }
        let chosen = promptOrder.prompts(epoch: epoch).map { prompts[$0] }
        try openAtRewardServer(epoch)
        // The results of the epoch before are returned to be freed outside the lock: that takes a while for thousands.
        _ = shared.withLock { state in
            defer { state.results = [:] }
            state.weights = published
            state.discriminatorVersion = version
            state.progress.epochs = settings.run.epochs
            state.epoch = epoch
            state.ledger.open(epoch: epoch, prompts: chosen, now: monotonicMilliseconds())
            state.isLeasing = true
            return state.results
        }
    }

    /// Waits until all groups of the epoch that was opened are scored.
    ///
    /// - Returns: the results in group order; nil when the shutdown signal came first.
    /// - Throws: `RewardServerReset`; `RuntimeError` when too many groups are quarantined.
    func collect(_ checkpoint: Checkpoint) throws -> [GroupResult]? {
        enter(.rollout)
        defer { shared.withLock { $0.isLeasing = false } }
        var saysWaiting = ContinuousClock.now + .seconds(15)
        while true {
            if shutdown.isRequested { return nil }
            let results = shared.wait(for: "the groups of epoch \(checkpoint.record.epoch)", limit: .seconds(1)) {
                state -> [GroupResult]? in
                guard state.ledger.isComplete(.rollout) else { return nil }
                return state.ledger.scoredGroups.compactMap { state.results[$0] }
            }
            if let results {
                try checkQuarantine()
                return results
            }
            shared.withLock { state in
                for (task, worker) in state.ledger.expire(now: monotonicMilliseconds()) {
                    logger.warning("worker \(worker) did not deliver \(task) in time; it goes to another")
                }
            }
            if ContinuousClock.now > saysWaiting, shared.withLock({ $0.workers.isEmpty }) {
                logger.notice(
                    "no worker has joined: start one with advgrpo rollout-worker \(directory.path)/settings.yaml, --connect and --reward-server"
                )
                saysWaiting += .seconds(300)
            }
            try checkRewardServer(checkpoint)
        }
    }

    /// A run that loses a fifth of an epoch's groups has something to be told about.
    private func checkQuarantine() throws {
        let (bad, total) = shared.withLock { ($0.ledger.quarantined(.rollout), $0.ledger.entries(of: .rollout).count) }
        for entry in bad { logger.error("\(entry.task) is quarantined: \(entry.failures.last ?? "no cause")") }
        guard bad.count * 5 < total else {
            throw RuntimeError(
                code: .processFailed, subject: "epoch \(bad.first?.task.group.epoch ?? 0)",
                message:
                    "\(bad.count) of \(total) groups failed on the workers that tried them, the last one with: \(bad.last?.failures.last ?? "")",
                remedy: "mend the cause and continue with --resume")
        }
    }

    // MARK: Snapshots

    private func snapshot(_ checkpoint: inout Checkpoint) throws {
        enter(.snapshot)
        if let rewardServer {
            checkpoint.discriminatorState = try Self.asking(
                "the reward server has no state to snapshot", resetting: nil
            ) {
                try rewardServer.discriminatorState(checkpoint.discriminatorVersion)
            }
        }
        let frozen = checkpoint
        let written = try snapshots.write(step: checkpoint.record.epoch) {
            try frozen.write(to: $0, baseModel: self.settings.model)
        }
        logger.info("snapshot \(written.path)")
    }

    /// Takes a snapshot where there is none yet and the reward server still answers. Without it nothing is lost but time: the
    /// epochs since the last one are run again, with the same bits.
    private func snapshotBeforeLeaving(_ checkpoint: inout Checkpoint) {
        if shutdown.reason == Lifeline.goneReason { return }
        if let newest = try? snapshots.newest(warn: { _ in }), newest.step == checkpoint.record.epoch { return }
        do {
            try snapshot(&checkpoint)
        } catch {
            logger.warning(
                "no snapshot of epoch \(checkpoint.record.epoch): \(error); --resume goes on from the one before")
        }
    }

    /// Shows the epoch on the progress line and in the status.
    private func report(_ epoch: EpochReport, _ checkpoint: Checkpoint) {
        let byTime = settings.run.minutes > 0 ? checkpoint.record.trainingSeconds / (60 * settings.run.minutes) : 0
        let fraction = min(1, max(byTime, Double(checkpoint.record.epoch) / Double(settings.run.epochs)))
        let values = epoch.values
        let left = fraction > 0 ? checkpoint.record.trainingSeconds * (1 - fraction) / fraction : nil
        shared.withLock { state in
            state.progress.images = checkpoint.record.images
            state.progress.secondsLeft = left
            state.progress.metrics.merge(values.filter { $0.value.isFinite }) { _, new in new }
        }
        progressLine.update(
            Progress(
                epoch: checkpoint.record.epoch, epochCount: settings.run.epochs,
                phase: epoch.step.phase, fraction: fraction,
                figures: RunMetrics.live(values), secondsLeft: left))
    }
}
