import AdvGRPO
import ComputeRoles
import Logging
import MethodModels
import Processes
import Protocol
import RunFiles
import TensorCore
import Transport
import WeightsTransfer

/// What the run asks of the reward server, and what it takes for a lost state.
extension TrainingRun {
    /// Has the reward server train, or only measure when no steps are asked for.
    static func train(_ order: DiscriminatorTraining, on rewardServer: Client?) throws -> DiscriminatorTrained {
        guard let rewardServer else { preconditionFailure("a run without rewards trains no discriminator") }
        let codes: [FailureCode] = [.notReady, .busy, .versionMismatch, .unknownGroup, .wrongRun, .closedEpoch]
        let trained = try asking("the reward server cannot train", resetting: codes) {
            try rewardServer.requestBlocking(order, deadline: .seconds(600))
        }
        let version = order.fromVersion.rawValue + (order.steps > 0 ? 1 : 0)
        guard trained.version.rawValue == version else {
            throw RewardServerReset(
                reason: "the reward server made version \(trained.version) of \(order.fromVersion), expected \(version)"
            )
        }
        return trained
    }

    /// Asks the reward server; a server that is gone, or has lost its state, sends the run back to its snapshot.
    ///
    /// - Parameter codes: failures that mean a lost state; nil for all of them.
    /// - Throws: `RewardServerReset`; `Interruption` when a run that is to end has waited long enough; any other failure as it
    ///   came.
    static func asking<Answer>(_ what: String, resetting codes: [FailureCode]?, _ body: () throws -> Answer) throws
        -> Answer
    {
        do {
            return try body()
        } catch let failure as Failure
            where failure.code != .endedRole && codes?.contains(failure.code) ?? true
        {
            throw RewardServerReset(reason: "\(what): \(failure.message)")
        } catch let error as TransportError where error.code == .deadlineExceeded {
            throw RewardServerReset(reason: "\(what): \(error)")
        } catch let error as TransportError where error.code == .closed {
            throw Interruption()
        } catch let error as WireError {
            throw RewardServerReset(reason: "\(what): it answered what cannot be: \(error)")
        }
    }

    /// Has the reward server score the groups of an epoch from now on, and no others.
    func openAtRewardServer(_ epoch: Int) throws {
        guard let rewardServer else { return }
        _ = try Self.asking("the reward server cannot open epoch \(epoch)", resetting: nil) {
            try rewardServer.requestBlocking(EpochOpening(epoch: epoch), deadline: .seconds(60))
        }
    }

    /// Has the reward server continue from the checkpoint's state.
    ///
    /// - Throws: `RewardServerReset`; `modelChanged` when it scores with other models than the run began with; `Failure` when it
    ///   refuses this run.
    func restoreRewardServer(_ checkpoint: inout Checkpoint) throws {
        guard let rewardServer else { return }
        try wait(for: rewardServer)
        let (version, state, runID) = (
            checkpoint.discriminatorVersion, checkpoint.discriminatorState, checkpoint.record.runID
        )
        let models = try Self.asking("the reward server cannot be restored", resetting: [.restoreInterrupted, .busy]) {
            try rewardServer.restoreDiscriminator(version, state, runID: runID)
        }
        try checkpoint.record.checkModels(models, of: directory.path)
        checkpoint.record.models = (checkpoint.record.models ?? [:]).merging(models) { known, _ in known }
        rewardServer.join(runID)
    }

    private var hello: Hello {
        RoleIdentity.hello(
            .learner, name: "learner", settings: settings, engine: policy.engine,
            models: shared.withLock { $0.models })
    }

    /// Waits until the reward server answers at all; it may load for long, or be started again.
    ///
    /// - Throws: `Interruption` when the shutdown signal comes first.
    private func wait(for rewardServer: Client) throws {
        var warnsAt = ContinuousClock.now + .seconds(30)
        while true {
            if shutdown.isRequested { throw Interruption() }
            do {
                _ = try rewardServer.requestBlocking(hello, deadline: .seconds(2))
                return
            } catch let failure as Failure {
                if [.settingsMismatch, .modelMismatch].contains(failure.code) { throw failure }
                return  // It has no discriminator yet, or serves another run.
            } catch is WireError {
                return  // It answers; what it makes of a restore will show.
            } catch let error as TransportError where error.code == .deadlineExceeded {
                guard ContinuousClock.now >= warnsAt else { continue }
                logger.warning("waiting for the reward server: \(error)")
                warnsAt = .now + .seconds(30)
            }
        }
    }

    /// Whether the reward server is still this run's: it may have been started again, or another run's learner may have taken it.
    ///
    /// - Returns: what it says of itself; nil in runs without rewards.
    @discardableResult
    func checkRewardServerIsOurs() throws -> Welcome? {
        guard let rewardServer else { return nil }
        let welcome = try Self.asking("the reward server is not ready", resetting: nil) {
            try rewardServer.requestBlocking(hello, deadline: .seconds(15))
        }
        versions.note(welcome.program, of: "the reward server at \(rewardServer.endpoint)")
        guard welcome.runID == shared.withLock({ $0.runID }) else {
            throw RewardServerReset(reason: "the reward server serves run \(welcome.runID)")
        }
        return welcome
    }

    /// Whether the reward server is still this run's, has the version that the epoch is scored with, and scores it: a message of a
    /// learner that died before its first snapshot may have arrived late.
    func checkRewardServer(_ checkpoint: Checkpoint) throws {
        guard let welcome = try checkRewardServerIsOurs() else { return }
        guard welcome.epoch == checkpoint.record.epoch else {
            throw RewardServerReset(
                reason: "the reward server scores epoch \(welcome.epoch ?? -1), expected \(checkpoint.record.epoch)")
        }
        guard welcome.discriminatorVersion == checkpoint.discriminatorVersion else {
            throw RewardServerReset(
                reason:
                    "the reward server is at version \(welcome.discriminatorVersion?.rawValue ?? -1), expected \(checkpoint.discriminatorVersion)"
            )
        }
    }

    /// Where the time of the roles went that the learner knows of: its own, the reward server's as that says, the workers' as
    /// their last heartbeats said.
    func roleSeconds() -> [Report.RoleTime] {
        let (own, workers) = shared.withLock { state in
            (
                state.clock.seconds(),
                state.workers.sorted { $0.key < $1.key }.compactMap { name, worker in
                    worker.heartbeat.map { Report.RoleTime(name: name, seconds: $0.seconds) }
                }
            )
        }
        var roles = [Report.RoleTime(name: "learner", seconds: own)]
        guard let rewardServer else { return roles + workers }
        do {
            let health = try rewardServer.requestBlocking(HealthRequest(), deadline: .seconds(5))
            roles.append(Report.RoleTime(name: "reward server", seconds: health.seconds))
        } catch {
            logger.notice("the report lacks the reward server's time: \(error)")
        }
        return roles + workers
    }
}
