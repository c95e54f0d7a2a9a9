import AdvGRPO
import ComputeRoles
public import Configuration
public import Logging
import MethodModels
public import Processes
import Protocol
public import TensorCore
public import Transport
import WeightsTransfer

/// Samples groups for the learner and makes their gradients until it says stop.
///
///     consumes: leases, weights, and trajectories of other workers' groups, from the learner
///     produces: images for the reward server; trajectories, rewards and gradients for the learner
///     waits for: a lease (the learner answers when there is work, or after a second), a score
///     freed by: the learner's stop, or a shutdown signal between two tasks
///
/// It keeps no state worth saving: noise follows from the group's coordinates, weights and trajectories are fetched by digest, and
/// a task it takes to its grave is leased to somebody else.
public final class RolloutWorker: Sendable {
    /// How it ended.
    public enum Ending: Sendable, Equatable {
        /// The learner has no more work.
        case stopped(reason: String)
        /// A signal asked it to end.
        case interrupted
    }

    /// Whom a worker asks.
    public struct Peers: Sendable {
        let learner: Client
        let rewardServer: Client
        let relay: Client?

        /// Clients of the two servers.
        ///
        /// - Parameter relay: of a relay that is asked for weights before the learner is.
        public init(learner: Client, rewardServer: Client, relay: Client? = nil) {
            self.learner = learner
            self.rewardServer = rewardServer
            self.relay = relay
        }

        fileprivate func close() {
            learner.close()
            rewardServer.close()
            relay?.close()
        }
    }

    private let peers: Peers
    private let hello: Hello
    private let policy: DiffusionPolicy
    private let rollout: Rollout
    private let sampler: GroupSampler
    private let gradients: GradientMaker
    private let reporter: WorkerReporter
    private let contract: RunContract
    private let scorePatience: Duration
    private let journal: RequestJournal?
    private let shutdown: ShutdownSignal
    private let logger: Logger

    /// Connects and loads the model.
    ///
    /// - Parameters:
    ///   - settings: of the run.
    ///   - name: unique among the run's workers; a new process of the same name takes over.
    ///   - engine: what computes.
    ///   - peers: clients of those it asks.
    ///   - journal: of the groups that ended this worker before; nil where nothing is kept of that.
    ///   - shutdown: the signal that ends it.
    ///   - logger: of this process.
    /// - Throws: `ModelError`, also when the model's schedule has other steps than the settings ask for; `SafeTensorsError`.
    public init(
        settings: Settings, name: String, engine: any Engine, peers: Peers, journal: RequestJournal? = nil,
        shutdown: ShutdownSignal, logger: Logger
    ) throws {
        // Its clock starts before the model is loaded.
        reporter = WorkerReporter(name: name, learner: peers.learner)
        self.peers = peers
        contract = RunContract(settings.method)
        scorePatience = GroupScorer.patience(settings.method)
        self.journal = journal
        self.shutdown = shutdown
        self.logger = logger
        policy = try DiffusionPolicy(
            PolicySource(path: settings.model, engine: engine, dtype: settings.precision.dtype),
            settings: settings.method.policy, seed: UInt64(settings.seed), embeddings: settings.data.embeddings)
        hello = RoleIdentity.hello(
            .rolloutWorker, name: name, settings: settings, engine: engine,
            models: try ModelDigest.pipeline(settings.model))
        rollout = try policy.rollout(settings.method.rollout, seed: UInt64(settings.seed))
        let lanes = Lanes(count: settings.cluster.threadsPerWorker)
        sampler = GroupSampler(policy: policy, settings: settings, rollout: rollout, lanes: lanes)
        gradients = GradientMaker(policy: policy, settings: settings, rollout: rollout, lanes: lanes)
    }

    /// What answers the requests of the worker's own socket: how it is.
    public var router: Router {
        Router(.rolloutWorker, clock: reporter.clock, shutdown: shutdown, journal: journal, []) { [reporter] in
            reporter.health()
        }
    }

    /// Works until stopped. Blocks the calling thread.
    ///
    /// - Parameter patience: longest wait for the learner; a supervised worker asks again after it, until its supervisor ends it.
    /// - Throws: `TransportError` when the learner cannot be reached within `patience`, `Failure` when it refuses this worker,
    ///   `NumericalFailure` never: a group that cannot be made is reported to the learner.
    public func run(patience: Duration = .seconds(60)) throws -> Ending {
        // The task in progress is abandoned: the learner leases it to somebody else.
        shutdown.onRequest { [peers] _ in peers.close() }
        let learner = LearnerLink(
            peers.learner, hello: hello, patience: patience, versions: ProgramVersions(logger: logger))
        do {
            return try workUntilStopped(learner)
        } catch  where shutdown.isRequested {
            return .interrupted
        }
    }

    /// What it has fetched or made and needs again.
    private struct Holdings {
        let weights: WorkerWeights
        let trajectories: TrajectoryStore
    }

    private func workUntilStopped(_ learner: LearnerLink) throws -> Ending {
        var isIntroduced = false
        let holdings = Holdings(
            weights: WorkerWeights(
                policy: policy,
                store: WeightsStore(WeightsDownload(learner: peers.learner, relay: peers.relay, logger: logger))),
            trajectories: TrajectoryStore(learner: peers.learner))
        defer { reporter.stop() }
        while !shutdown.isRequested, !shutdown.isDraining {
            do {
                if !isIntroduced { try introduce(to: learner) }
                isIntroduced = true
                if let reason = try takeTurn(learner, holdings) { return .stopped(reason: reason) }
            } catch let failure as Failure where failure.code == .runComplete {
                return .stopped(reason: failure.message)
            } catch let failure as Failure where LearnerLink.isOfNewLearner(failure) {
                // The learner was started again; introduce this worker again. Not at once: a reward server may serve the other run
                // for a while, and would refuse the worker as often as it came.
                isIntroduced = false
                shutdown.sleep(for: .milliseconds(250))
            } catch let error as TransportError where error.code == .deadlineExceeded && Lifeline.isSupervised {
                logger.warning("\(error); asking again")
            } catch  where LearnerLink.mayPass(error) {
                logger.warning("\(peers.learner.endpoint): \(error); asking again")
                shutdown.sleep(for: .milliseconds(250))
            }
        }
        return .interrupted
    }

    private func introduce(to learner: LearnerLink) throws {
        let runID = try learner.join()
        peers.rewardServer.join(runID)
        reporter.joined(runID)
        logger.info("joined run \(runID)")
        reporter.start()
    }

    /// Asks for work and does it.
    ///
    /// - Returns: why the learner says stop; nil when it does not.
    private func takeTurn(_ learner: LearnerLink, _ holdings: Holdings) throws -> String? {
        reporter.enter(.waiting)
        switch try learner.lease() {
        case .stop(let reason): return reason
        case .wait(_, let milliseconds): shutdown.sleep(for: .milliseconds(min(milliseconds, 1000)))
        case .lease(let lease):
            if let result = try result(of: lease, learner, holdings) {
                reporter.enter(.reporting)
                try deliver(result, of: lease, learner, holdings)
            }
        }
        return nil
    }

    /// Does a task; whatever goes wrong with it is told to the learner.
    ///
    /// - Returns: nil when there is nothing to deliver.
    /// - Throws: what has nothing to do with the task.
    private func result(of lease: Lease, _ learner: LearnerLink, _ holdings: Holdings) throws -> TaskResult? {
        let weights = holdings.weights
        do {
            try contract.check(lease, rollout)
            if !weights.holds(lease.weights) {
                reporter.enter(.loadingWeights)
                try weights.fetch(lease.weights)
            }
            reporter.holds(weights.reference?.version)
            return try recorded(lease) {
                guard let order = lease.gradient else { return .group(try group(lease, holdings)) }
                return .gradient(try gradient(lease, order, holdings, patience: learner.patience))
            }
        } catch let failure as Failure where failure.code == .staleVersion {
            weights.drop()
        } catch is LeaseLost {
            logger.info("\(lease.task) is abandoned: its lease has ended, or its epoch is over")
        } catch let failure as Failure where LearnerLink.isOfNewLearner(failure) {
            throw failure
        } catch {
            logger.warning("\(lease.task) failed: \(error)")
            reporter.count(failed: 1)
            try learner.giveBack(lease, cause: "\(error)")
        }
        return nil
    }

    /// Does a task, unless it ended this worker before.
    private func recorded(_ lease: Lease, _ make: () throws -> TaskResult) throws -> TaskResult {
        guard let journal else { return try make() }
        return try journal.during(RequestFingerprint(of: lease), at: .work, make)
    }

    /// Samples a group and has it scored.
    private func group(_ lease: Lease, _ holdings: Holdings) throws -> GroupResult {
        reporter.begin(lease)
        logger.debug("\(lease.task) begins with policy \(lease.weights.version)")
        let sampled = try sampler.sample(lease, with: try holdings.weights.sampling())
        reporter.enter(.scoring, lease.task)
        let begin = ContinuousClock.now
        let scorer = GroupScorer(client: peers.rewardServer, patience: scorePatience, shutdown: shutdown)
        let scores = try scorer.score(sampled, of: lease) { reporter.hasLost(lease.task) }
        try contract.check(scores)
        holdings.trajectories.keep(sampled.trajectory)
        var seconds = sampled.seconds
        seconds["score"] = (ContinuousClock.now - begin).seconds
        return GroupResult(of: lease, by: hello.name, sampled.trajectory, scores, seconds: seconds)
    }

    /// Makes the gradient of a group.
    private func gradient(
        _ lease: Lease, _ order: GradientOrder, _ holdings: Holdings, patience: Duration
    ) throws -> GradientResult {
        reporter.begin(lease)
        let trajectory = try holdings.trajectories.trajectory(order.trajectory, patience: patience)
        try contract.check(trajectory, of: lease.group, rollout)
        return try gradients.gradient(
            of: lease, order, trajectory, at: try holdings.weights.sampling(), by: hello.name)
    }

    private func deliver(
        _ result: TaskResult, of lease: Lease, _ learner: LearnerLink, _ holdings: Holdings
    ) throws {
        let acknowledgement = try learner.deliver(result)
        reporter.count(delivered: acknowledgement.verdict == .accepted ? 1 : 0)
        if acknowledgement.verdict == .refused {
            // Start over from the learner's own weights, whatever was wrong with these.
            logger.warning("\(lease.task) was refused: \(acknowledgement.reason ?? "no reason given")")
            holdings.weights.forget()
        }
    }
}
