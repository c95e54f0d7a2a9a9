import AdvGRPO
import Configuration
import Logging
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import Raster
import RunFiles

/// What the run does about the gauge's alarms.
extension TrainingRun {
    /// The run is to go back to a snapshot that knows nothing of an alarm's window.
    struct Rollback: Error {
        /// What was found.
        var alarm: GaugeAlarm
        /// The gauge after it.
        var gauge: Gauge
    }

    /// Puts into force what the gauge of a snapshot, or of epochs that the run was taken back from, has done.
    func applyGauge(to checkpoint: inout Checkpoint) {
        if let takenBack, takenBack.alarmCount > checkpoint.gauge.state.alarmCount {
            checkpoint.gauge.goBack(from: takenBack)
        }
        checkpoint.trainer.slowDown(to: checkpoint.gauge.learningRateShare)
        tellAlarms(checkpoint)
    }

    /// Has the gauge read an epoch.
    ///
    /// - Returns: the epoch's alarms.
    func read(_ epoch: inout EpochReport, _ checkpoint: inout Checkpoint) -> [GaugeAlarm] {
        epoch.learningRate = checkpoint.trainer.learningRate
        // Supervised steps follow no reward.
        guard epoch.step.supervised.isEmpty else { return [] }
        let alarms = checkpoint.gauge.note(
            epoch.gaugeReading, epoch: epoch.step.epoch, policyLearned: epoch.step.plan.trainsPolicy)
        epoch.alarmCount = checkpoint.gauge.state.alarmCount
        return alarms
    }

    /// Makes the contact sheet of an epoch that has one. A run that is to end goes without, and loses nothing that it has learned.
    ///
    /// - Returns: what the judge says of it; nil without sheet or judge.
    func preview(_ checkpoint: Checkpoint) throws -> PreviewJudge.Judgement? {
        let (epoch, every) = (checkpoint.record.epoch, settings.run.previewEvery)
        guard every > 0, epoch % every == 0 else { return nil }
        enter(.preview)
        defer { enter(.recording) }
        do {
            return try outputs.preview(checkpoint.trainer, epoch: epoch)
        } catch is Interruption {
            return nil
        }
    }

    /// Tells an epoch's alarms and does what the settings say.
    ///
    /// - Parameters:
    ///   - results: the epoch's groups.
    ///   - sampler: the weights that sampled them.
    /// - Throws: `Rollback`; what drawing or writing the contact sheet throws.
    func answer(
        _ alarms: [GaugeAlarm], _ results: [GroupResult], sampledWith sampler: Parameters,
        _ checkpoint: inout Checkpoint
    ) throws {
        enter(.preview)
        let sheet = try AlarmSheet(settings: settings, policy: policy, rollout: rollout, lanes: lanes).image(
            of: results, sampledWith: sampler, before: checkpoint.trainer.start ?? policy.initialParameters,
            now: checkpoint.trainer.samplingParameters)
        let name = AlarmSheet.name(ofEpoch: alarms[0].epoch)
        try directory.write(name, sheet.pngBytes())
        for alarm in alarms { logger.warning("\(alarm); see \(directory.path)/\(name); \(deed(checkpoint.gauge))") }
        tellAlarms(checkpoint)
        checkpoint.trainer.slowDown(to: checkpoint.gauge.learningRateShare)
        if settings.method.gauge.action == .rollback { throw Rollback(alarm: alarms[0], gauge: checkpoint.gauge) }
    }

    /// Removes the snapshots that know of the alarm's window; the newest that is left is the run's.
    ///
    /// - Throws: `processFailed` when the run was taken back as often as it may.
    func goBack(_ rollback: Rollback) throws {
        takenBack = rollback.gauge.state
        let beginning = rollback.gauge.beginning(ofWindowEnding: rollback.alarm.epoch)
        let kept = snapshots.steps()
        guard let target = kept.last(where: { $0 <= beginning }) ?? kept.first else { return }
        try snapshots.discard(after: target)
        guard !rollback.gauge.isSpent else {
            throw RuntimeError(
                code: .processFailed, subject: directory.path,
                message:
                    "the gauge has taken the run back as often as gauge.maximumRollbacks allows "
                    + "(\(settings.method.gauge.maximumRollbacks)), and again: \(rollback.alarm)",
                remedy:
                    "what it had learned before is in \(directory.checkpointsFolder)/latest; begin a run with a lower "
                    + "policy.learningRate or another reward")
        }
        logger.warning("going back to the snapshot after \(target) epochs")
    }

    /// What an alarm has done.
    private func deed(_ gauge: Gauge) -> String {
        switch settings.method.gauge.action {
        case .off, .warn: "gauge.action warn: nothing is changed"
        case .refresh: "the discriminator's next training takes \(settings.method.gauge.refresh) times the steps"
        case .slow, .rollback:
            "the policy's learning rate is \(settings.method.policy.learningRate * gauge.learningRateShare) from now on"
        }
    }

    private func tellAlarms(_ checkpoint: Checkpoint) {
        let alarms = checkpoint.gauge.state.alarms.map(\.description)
        shared.withLock { $0.progress.alarms = alarms }
    }
}
