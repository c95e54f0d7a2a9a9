import AdvGRPO
import ComputeRoles
public import Configuration
import MethodModels
import NeuralNetworks
public import TensorCore
import WeightsTransfer

/// A rollout worker's computations on an engine that only notes their memory.
public enum WorkerRehearsal {
    /// Loads the model, takes in two versions of the policy one after the other, and makes a group and its gradient with each.
    ///
    /// - Parameters:
    ///   - settings: of the run.
    ///   - engine: notes what it is asked for, and computes nothing.
    ///   - prompts: of the run, at least one.
    ///   - promptCount: prompts whose embeddings it keeps in the end.
    /// - Throws: `ModelError`, `SafeTensorsError` naming the file; `NumericalFailure` never.
    public static func run(_ settings: Settings, engine: RehearsalEngine, prompts: [String], promptCount: Int) throws {
        let trace = engine.trace
        let seed = UInt64(settings.seed)
        let policy = try trace.noting(.weights) {
            try DiffusionPolicy(
                PolicySource(path: settings.model, engine: engine, dtype: settings.precision.dtype),
                settings: settings.method.policy, seed: seed, embeddings: settings.data.embeddings)
        }
        let rollout = try policy.rollout(settings.method.rollout, seed: seed)
        let chunks = Chunks(size: settings.method.rollout.chunkSize)
        let lanes = Lanes(count: settings.cluster.threadsPerWorker, engine: engine)
        let conditioning = try trace.noting(.caches) { try policy.conditioning(policy.hardest(of: prompts)) }
        let embeddings = trace.holding(conditioning.positive.byteCount * max(0, promptCount - 1), .caches)

        // Weights arrive in pieces, which stay for the next version if they are not too large.
        let weightsByteCount = policy.initialParameters.byteCount
        let staysHere = weightsByteCount <= WeightsStore.keptByteCount
        let pieces = staysHere ? trace.holding(weightsByteCount, .training) : nil
        let update = PolicyUpdate(settings: settings.method.policy, rollout: rollout, chunks: chunks)
        var held: SamplingPolicy?
        var trajectories: HeldMemory?
        for epoch in 0..<2 {
            held = nil
            var arrived =
                staysHere
                ? [:]
                : policy.initialParameters.entries.reduce(into: [String: HeldMemory]()) {
                    $0[$1.name] = trace.holding($1.tensor.count * $1.tensor.dtype.byteCount, .training)
                }
            let parameters = trace.noting(.training) {
                policy.initialParameters.mapped { name, tensor in
                    defer { arrived[name] = nil }
                    // Put together first when it came in several pieces.
                    let byteCount = tensor.count * tensor.dtype.byteCount
                    if byteCount > PublishedWeights.pieceByteCount { trace.passing(byteCount) }
                    return engine.zeros(tensor.shape)
                }
            }
            held = try trace.noting(.weights) { try policy.sampling(parameters) }
            guard let sampling = held else { continue }
            let sample = try rollout.sample(
                GroupID(epoch: epoch, index: 0), prompt: conditioning, engine: engine, chunks: chunks,
                lanes: lanes, velocity: sampling.velocity, windowVelocity: sampling.windowVelocity)
            let images = policy.images(sample.finalLatents_BCHW, lanes: lanes)
            // The images as floats and as bytes; the trajectory as bytes, and once more in the message.
            trace.passing(5 * images.count + 8 * sample.trajectory.latents.count)
            let method = settings.method.rollout
            if trajectories == nil {
                // Those of an epoch's groups, with overlap of two, should it be alone.
                let count = method.groupsPerEpoch * (method.overlap ? 2 : 1)
                trajectories = trace.holding(
                    min(4 * sample.trajectory.latents.count * count, TrajectoryStore.keptByteCount), .caches)
            }
            let group = CreditedGroup(
                group: GroupID(epoch: epoch, index: 0), prompt: conditioning, trajectory: sample.trajectory,
                advantages: [Float](repeating: 0, count: sample.trajectory.logProbabilities.count / method.window.size))
            let made = try update.gradient(
                of: group, sampleCount: method.groupSize * method.window.size, at: sampling.tracked, lanes: lanes)
            // As bytes, and once more in the message.
            trace.passing(2 * made.gradient.byteCount)
        }
        withExtendedLifetime((held, embeddings, pieces, trajectories)) {}
    }
}
