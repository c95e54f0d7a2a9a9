import AdvGRPO
import ComputeRoles
import Configuration
import MethodModels
import NeuralNetworks
import Processes
import Protocol
import SafeTensors
import TensorCore

/// A group that has been sampled and waits for its scores.
struct SampledGroup: Sendable {
    /// What was recorded of the window.
    var trajectory: GroupResult.Trajectory
    /// U8 [members, H, W, 3], RGB.
    var images: TensorPayload
    /// Seconds spent, `sample` and `decode`.
    var seconds: [String: Double]
}

/// Makes the images of a group: noise of its coordinates, the run's schedule, the lease's prompt and weights.
struct GroupSampler: Sendable {
    private let policy: DiffusionPolicy
    private let rollout: Rollout
    private let chunks: Chunks
    private let lanes: Lanes

    init(policy: DiffusionPolicy, settings: Settings, rollout: Rollout, lanes: Lanes) {
        self.policy = policy
        self.rollout = rollout
        self.lanes = lanes
        chunks = Chunks(size: settings.method.rollout.chunkSize)
    }

    /// Samples and decodes a group. Blocks the calling thread.
    ///
    /// - Throws: what the prompt's encoders throw; `NumericalFailure`.
    func sample(_ lease: Lease, with weights: SamplingPolicy) throws -> SampledGroup {
        let begin = ContinuousClock.now
        let sample = try rollout.sample(
            lease.group, prompt: try policy.conditioning(lease.prompt), engine: policy.engine, chunks: chunks,
            lanes: lanes, velocity: weights.velocity, windowVelocity: weights.windowVelocity)
        let sampled = ContinuousClock.now
        let pictures = policy.images(sample.finalLatents_BCHW, lanes: lanes)
        let images = TensorPayload(uint8s: pictures.levels(), shape: pictures.shape)
        return SampledGroup(
            trajectory: GroupResult.Trajectory(
                latents: TensorPayload(sample.trajectory.latents),
                logProbabilities: TensorPayload(sample.trajectory.logProbabilities),
                stepIndices: TensorPayload(int32s: sample.trajectory.stepIndices.map(Int32.init))),
            images: images,
            seconds: ["sample": (sampled - begin).seconds, "decode": (ContinuousClock.now - sampled).seconds])
    }
}
