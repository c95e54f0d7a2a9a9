import AdvGRPO
import ComputeRoles
import Logging
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import TensorCore
import WeightsTransfer

/// The gradients of an optimiser step, which workers make.
extension TrainingRun {
    /// How long a learner that is to end goes on waiting for gradients: its step belongs to an epoch that is over but for it.
    private static let patience = Duration.seconds(30)

    /// Opens a step's gradients to the workers and hands each over in the order of the groups, as they arrive.
    ///
    /// - Parameters:
    ///   - number: of the step within the epoch.
    ///   - groups: of the step, each with its advantages, one a member or token.
    ///   - parameters: where the gradients are taken.
    ///   - version: of the policy that the epoch began with.
    ///   - add: takes a gradient.
    /// - Throws: `RuntimeError` for a gradient that nobody can make; `LearnerSite.Interruption`; `RewardServerReset`; `WireError` for weights that cannot
    ///   be published.
    func gradients(
        _ number: Int, of groups: [(result: GroupResult, advantages: [Float])], at parameters: Parameters,
        _ version: PolicyVersion, _ add: (GroupGradient) -> Void
    ) throws {
        let current = number == 0 ? shared.withLock { $0.weights } : nil
        let weights =
            if let current, current.version == version { current } else {
                try PublishedWeights(version: version, parameters: parameters)
            }
        let step = OptimizerStep(weights, groups)
        let tasks = groups.map {
            Ledger.GradientTask(group: $0.result.group, prompt: $0.result.prompt, preferred: $0.result.worker)
        }
        shared.withLock { state in
            state.step = step
            state.ledger.open(
                update: number, of: tasks, window: OptimizerStep.window(of: parameters), now: monotonicMilliseconds())
            state.isLeasing = true
        }
        for task in tasks {
            let result = try gradient(.gradient(task.group, update: number))
            add(
                GroupGradient(
                    gradient: try result.tensors.parameters(on: policy.engine),
                    statistics: result.statistics.policy))
        }
        // All tasks are closed: nobody is given one of this step any more.
        shared.withLock { $0.step = nil }
    }

    /// Waits for a gradient.
    private func gradient(_ task: TaskID) throws -> GradientResult {
        var leavesAt: ContinuousClock.Instant?
        while true {
            let result = shared.wait(for: "\(task)", limit: .seconds(1)) { state -> GradientResult? in
                guard let result = state.step?.arrived.removeValue(forKey: task.group) else { return nil }
                state.ledger.close(task, now: monotonicMilliseconds())
                return result
            }
            if let result { return result }
            let failed = shared.withLock { state in
                for (task, worker) in state.ledger.expire(now: monotonicMilliseconds()) {
                    logger.warning("worker \(worker) did not deliver \(task) in time; it goes to another")
                }
                return state.ledger.quarantined(.gradient).first
            }
            if let failed {
                // Left out, it would be missing from its step without a trace.
                throw RuntimeError(
                    code: .processFailed, subject: "\(failed.task)",
                    message: "failed on every worker that tried it, the last one with: \(failed.failures.last ?? "")",
                    remedy: "mend the cause and continue with --resume")
            }
            guard shutdown.isRequested else {
                // With overlap workers may wait for scores that a reward server without its state cannot give, and it for this learner.
                try checkRewardServerIsOurs()
                continue
            }
            let end = leavesAt ?? .now + Self.patience
            leavesAt = end
            if shutdown.reason == Lifeline.goneReason || end < .now { throw LearnerSite.Interruption() }
        }
    }
}
