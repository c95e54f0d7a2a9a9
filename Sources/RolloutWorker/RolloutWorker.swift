import AdvGRPO
public import Logging
import MethodModels
import NeuralNetworks
import Protocol
public import Runtime
public import TensorCore
public import Transport

#if canImport(Glibc)
    import Glibc
#endif

/// Samples groups for the learner until it says stop.
///
///     consumes: leases and weights from the learner
///     produces: images for the reward server, trajectories and rewards for the learner
///     waits for: a lease (the learner answers at once, with work or with when to ask again), a score
///     freed by: the learner's stop, or a shutdown signal between two groups
///
/// It keeps no state worth saving: noise follows from the group's coordinates, weights are fetched by version, and a group it
/// takes to its grave is leased to somebody else.
public final class RolloutWorker: Sendable {
    /// How it ended.
    public enum Ending: Sendable, Equatable {
        /// The learner has no more work.
        case stopped(reason: String)
        /// A signal asked it to end.
        case interrupted
    }

    private let settings: Settings
    private let name: String
    private let policy: DiffusionPolicy
    private let models: [String: String]
    private let rollout: Rollout
    private let chunks: Chunks
    private let lanes: Lanes
    private let learner: Client
    private let rewardServer: Client
    private let relay: Client?
    private let reporter: WorkerReporter
    private let contract: RunContract
    private let journal: RequestJournal?
    private let shutdown: ShutdownSignal
    private let logger: Logger
    private let startedAt = ContinuousClock.now

    /// Connects and loads the model.
    ///
    /// - Parameters:
    ///   - name: unique among the run's workers; a new process of the same name takes over.
    ///   - learner, rewardServer: clients of the two servers.
    ///   - relay: of a relay that is asked for weights before the learner is.
    ///   - journal: of the groups that ended this worker before; nil for a worker that nobody starts again.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file.
    public init(
        settings: Settings, name: String, engine: any Engine, learner: Client, rewardServer: Client,
        relay: Client? = nil, journal: RequestJournal? = nil, shutdown: ShutdownSignal, logger: Logger
    ) throws {
        self.settings = settings
        self.name = name
        self.learner = learner
        self.rewardServer = rewardServer
        self.relay = relay
        contract = RunContract(settings.method)
        self.journal = journal
        self.shutdown = shutdown
        self.logger = logger
        policy = try DiffusionPolicy(
            PolicySource(path: settings.model, engine: engine, dtype: settings.precision.dtype),
            settings: settings.method.policy, seed: UInt64(settings.seed), embeddings: settings.data.embeddings)
        models = try ModelDigest.pipeline(settings.model)
        rollout = try policy.rollout(settings.method.rollout, seed: UInt64(settings.seed))
        chunks = Chunks(size: settings.method.rollout.chunkSize)
        lanes = Lanes(count: settings.cluster.threadsPerWorker)
        reporter = WorkerReporter(name: name, learner: learner)
    }

    /// What answers the requests of the worker's own socket: how it is.
    public var router: Router {
        Router(.rolloutWorker, shutdown: shutdown, []) { [reporter, startedAt] in
            $0.reply(reporter.health(startedAt: startedAt))
        }
    }

    /// Works until stopped. Blocks the calling thread.
    ///
    /// - Parameter patience: longest wait for the learner; a supervised worker asks again after it, until its supervisor ends it.
    /// - Throws: `TransportError` when the learner cannot be reached within `patience`, `Failure` when it refuses this worker,
    ///   `NumericalFailure` never: a group that cannot be made is reported to the learner.
    public func run(patience: Duration = .seconds(60)) throws -> Ending {
        // The group in progress is abandoned: the learner leases it to somebody else.
        shutdown.onRequest { [learner, rewardServer, relay] _ in
            learner.close()
            rewardServer.close()
            relay?.close()
        }
        do {
            return try workUntilStopped(patience: patience)
        } catch  where shutdown.isRequested {
            return .interrupted
        }
    }

    private func workUntilStopped(patience: Duration) throws -> Ending {
        var isIntroduced = false
        var held: HeldWeights?
        let store = WeightsStore(WeightsDownload(learner: learner, relay: relay, logger: logger))
        defer { reporter.stop() }
        while !shutdown.isRequested, !shutdown.isDraining {
            do {
                if !isIntroduced { try introduce(patience) }
                isIntroduced = true
                if let reason = try takeTurn(&held, store, patience) { return .stopped(reason: reason) }
            } catch let failure as Failure where failure.code == .runComplete {
                return .stopped(reason: failure.message)
            } catch let failure as Failure where Self.isOfNewLearner(failure) {
                // The learner was started again; introduce this worker again. Not at once: a reward server may serve the other run
                // for a while, and would refuse the worker as often as it came.
                isIntroduced = false
                shutdown.sleep(for: .milliseconds(250))
            } catch let error as TransportError where error.code == .deadlineExceeded && Lifeline.isSupervised {
                logger.warning("\(error); asking again")
            } catch  where Self.mayPass(error) {
                logger.warning("\(learner.endpoint): \(error); asking again")
                shutdown.sleep(for: .milliseconds(250))
            }
        }
        return .interrupted
    }

    /// Whether a refusal means that the learner does not know this worker, or is the learner of another run by now.
    private static func isOfNewLearner(_ failure: Failure) -> Bool {
        [.unknownWorker, .wrongRun].contains(failure.code)
    }

    /// Whether the next answer may be another: the learner is busy or says what cannot be meant. What it says of this worker's
    /// settings, models, key or program stays true.
    private static func mayPass(_ error: any Error) -> Bool {
        guard let failure = error as? Failure else { return error is WireError }
        return ![.settingsMismatch, .modelMismatch, .notAllowed, .unsupportedVersion].contains(failure.code)
    }

    private func introduce(_ patience: Duration) throws {
        let welcome = try learner.requestBlocking(
            RoleIdentity.hello(
                .rolloutWorker, name: name, settings: settings, engine: policy.engine, models: models),
            deadline: patience)
        learner.join(welcome.runID)
        rewardServer.join(welcome.runID)
        reporter.joined(welcome.runID)
        logger.info("joined run \(welcome.runID)")
        reporter.start()
    }

    /// Asks for work and does it.
    ///
    /// - Returns: why the learner says stop; nil when it does not.
    private func takeTurn(_ held: inout HeldWeights?, _ store: WeightsStore, _ patience: Duration) throws -> String? {
        reporter.enter(.waiting, .starved)
        let answer = try learner.requestBlocking(
            LeaseRequest(worker: name, policyVersion: held?.version, weightsDigest: held?.digest), deadline: patience)
        switch answer {
        case .stop(let reason): return reason
        case .wait(_, let milliseconds): shutdown.sleep(for: .milliseconds(min(milliseconds, 1000)))
        case .lease(let lease): try work(on: lease, held: &held, store, patience: patience)
        }
        return nil
    }

    /// Makes one group and delivers it; whatever goes wrong with it is told to the learner.
    private func work(
        on lease: Lease, held: inout HeldWeights?, _ store: WeightsStore, patience: Duration
    ) throws {
        let result: GroupResult
        do {
            try contract.check(lease)
            if held?.digest != lease.weightsDigest || held?.version != lease.policyVersion {
                // Before the next one comes: two versions of merged weights would be the most that a worker ever holds.
                held = nil
                held = try fetch(lease, store)
            }
            reporter.holds(held?.version)
            guard let weights = held else { return }
            result = try recorded(lease) { try make(lease, weights: weights) }
        } catch let failure as Failure where failure.code == .staleVersion {
            held = nil
            return
        } catch is LeaseLost {
            logger.info("group \(lease.group) is abandoned: its lease has ended, or its epoch is over")
            return
        } catch {
            if let failure = error as? Failure, Self.isOfNewLearner(failure) { throw failure }
            logger.warning("group \(lease.group) failed: \(error)")
            reporter.count(failed: 1)
            _ = try learner.requestBlocking(
                GroupFailure(
                    worker: name, leaseID: lease.leaseID, group: lease.group, cause: String("\(error)".prefix(500))),
                deadline: patience)
            return
        }
        reporter.enter(.reporting, .blocked)
        let acknowledgement = try learner.requestBlocking(result, deadline: patience)
        reporter.count(delivered: acknowledgement.verdict == .accepted ? 1 : 0)
        if acknowledgement.verdict == .refused {
            // Start over from the learner's own weights, whatever was wrong with these.
            logger.warning("group \(lease.group) was refused: \(acknowledgement.reason ?? "no reason given")")
            held = nil
            store.forget()
        }
    }

    /// Makes a group, unless it ended this worker before.
    private func recorded(_ lease: Lease, _ make: () throws -> GroupResult) throws -> GroupResult {
        guard let journal else { return try make() }
        return try journal.during(RequestFingerprint(of: lease), at: .work, make)
    }

    /// Fetches what is missing of a version and builds the transformer.
    private func fetch(_ lease: Lease, _ store: WeightsStore) throws -> HeldWeights {
        reporter.enter(.loadingWeights, .blocked)
        let parameters = try store.parameters(lease.manifest, of: lease.weightsDigest, on: policy.engine)
        for (name, tensor) in policy.initialParameters.entries where parameters[name]?.dtype != tensor.dtype {
            throw Failure(
                code: .notOfThisRun,
                message:
                    "the weights' \(name) is \(parameters[name].map { "\($0.dtype)" } ?? "missing"), expected \(tensor.dtype)",
                remedy: "start learner and workers with the run's own settings.yaml")
        }
        return HeldWeights(
            version: lease.policyVersion, digest: lease.weightsDigest, sampling: try policy.sampling(parameters))
    }

    /// Samples, decodes and has the group scored.
    private func make(_ lease: Lease, weights: HeldWeights) throws -> GroupResult {
        let clock = ContinuousClock()
        reporter.enter(.rollingOut, .busy, group: lease.group)
        logger.debug("group \(lease.group) begins with policy \(weights.version)")
        let begin = clock.now
        let sample = try rollout.sample(
            lease.group, prompt: try policy.conditioning(lease.prompt), engine: policy.engine, chunks: chunks,
            lanes: lanes,
            velocity: weights.sampling.velocity, windowVelocity: weights.sampling.windowVelocity)
        let sampled = clock.now
        let images = policy.images(sample.finalLatents_BCHW, lanes: lanes)
        let decoded = clock.now
        reporter.enter(.scoring, .blocked, group: lease.group)
        let scores = try score(
            ScoreRequest(
                group: lease.group, prompt: lease.prompt, policyVersion: weights.version,
                discriminatorVersion: lease.discriminatorVersion,
                images: TensorPayload(uint8s: images.levels(), shape: images.shape)))
        try contract.check(scores)
        let scored = clock.now
        return GroupResult(
            worker: name, leaseID: lease.leaseID, group: lease.group, policyVersion: weights.version,
            weightsDigest: weights.digest, discriminatorVersion: scores.discriminatorVersion,
            seconds: [
                "sample": (sampled - begin).seconds, "decode": (decoded - sampled).seconds,
                "score": (scored - decoded).seconds,
            ],
            latents: TensorPayload(sample.trajectory.latents),
            logProbabilities: TensorPayload(sample.trajectory.logProbabilities),
            rewards: scores.rewards, components: scores.components,
            stepIndices: TensorPayload(int32s: sample.trajectory.stepIndices.map(Int32.init)))
    }

    /// Has the images scored. A reward server that has just been started has no discriminator until the learner notices and
    /// restores it, and one that still trains the lease's version has none to score with yet; that is no fault of the group, which
    /// waits as long as a score may take, or until the learner has gone back to a snapshot and wants other groups.
    ///
    /// - Throws: `LeaseLost`, or what the request throws.
    private func score(_ request: ScoreRequest) throws -> Scores {
        let end = ContinuousClock.now + .seconds(120)
        while true {
            do {
                return try rewardServer.requestBlocking(request, deadline: max(.seconds(1), end - .now))
            } catch let failure as Failure
                where [.notReady, .busy].contains(failure.code) && ContinuousClock.now < end && !shutdown.isRequested
            {
                if reporter.hasLost(request.group) { throw LeaseLost() }
                shutdown.sleep(for: .milliseconds(100))
            } catch let failure as Failure where failure.code == .closedEpoch {
                throw LeaseLost()
            }
        }
    }
}

/// The learner gave a group to somebody else, or does not want it any more.
private struct LeaseLost: Error {}

/// A version of the policy, ready to sample with, and the digest of what it was built from.
private struct HeldWeights {
    var version: PolicyVersion
    var digest: WeightsDigest
    var sampling: SamplingPolicy
}
