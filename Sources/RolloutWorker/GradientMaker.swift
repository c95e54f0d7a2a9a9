import AdvGRPO
import ComputeRoles
import Configuration
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import TensorCore
import WeightsTransfer

/// Makes the gradient of a group: the lease's weights and advantages, the group's trajectory.
struct GradientMaker {
    private let policy: DiffusionPolicy
    private let update: PolicyUpdate
    private let lanes: Lanes

    init(policy: DiffusionPolicy, settings: Settings, rollout: Rollout, lanes: Lanes) {
        self.policy = policy
        self.lanes = lanes
        update = PolicyUpdate(
            settings: settings.method.policy, rollout: rollout, chunks: Chunks(size: settings.method.rollout.chunkSize))
    }

    /// The gradient of a leased group. Blocks the calling thread.
    ///
    /// - Parameters:
    ///   - lease: the group, its prompt and its advantages, which are the run's (`RunContract`).
    ///   - order: the lease's.
    ///   - trajectory: the group's, which is the run's.
    ///   - weights: the lease's.
    ///   - worker: who makes it.
    /// - Throws: what the prompt's encoders throw; `NumericalFailure`.
    func gradient(
        of lease: Lease, _ order: GradientOrder, _ trajectory: GroupResult.Trajectory, at weights: SamplingPolicy,
        by worker: String
    ) throws -> GradientResult {
        let begin = ContinuousClock.now
        let group = CreditedGroup(
            group: lease.group, prompt: try policy.conditioning(lease.prompt),
            trajectory: Trajectory(
                stepIndices: trajectory.stepIndices.int32s.map(Int.init),
                latents: try trajectory.latents.tensor(on: policy.engine),
                logProbabilities: try trajectory.logProbabilities.tensor(on: policy.engine)),
            advantages: lease.advantages?.floats ?? [])
        let made = try update.gradient(
            of: group, sampleCount: order.sampleCount, at: weights.tracked, lanes: lanes)
        let tensors = TensorSet(made.gradient)
        return GradientResult(
            of: lease, order, by: worker, gradient: tensors, digest: ContentDigest(of: tensors),
            statistics: GradientStatistics(made.statistics),
            seconds: ["gradient": (ContinuousClock.now - begin).seconds])
    }
}
