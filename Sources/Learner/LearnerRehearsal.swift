import AdvGRPO
import Datasets
import MethodModels
import NeuralNetworks
public import Runtime
public import TensorCore

/// A learner's computations on an engine that only notes their memory.
public enum LearnerRehearsal {
    /// Loads the models, evaluates, and trains for two epochs with a snapshot.
    ///
    /// - Parameters:
    ///   - discriminatorStateByteCount: of the reward server's state, which its snapshots hold.
    ///   - prompts: of the run, at least one.
    ///   - promptCount: prompts whose embeddings it keeps in the end.
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError` naming the file.
    public static func run(
        _ settings: Settings, engine: RehearsalEngine, discriminatorStateByteCount: Int, prompts: [String],
        promptCount: Int
    ) throws {
        let trace = engine.trace
        let method = settings.method
        let policy = try trace.noting(.weights) {
            try DiffusionPolicy(
                folder: settings.model, engine: engine, dtype: settings.precision.dtype, settings: method.policy,
                seed: UInt64(settings.seed), embeddings: settings.data.embeddings)
        }
        let lanes = Lanes(count: settings.cluster.learnerThreads, engine: engine)
        let images = try trace.noting(.weights) {
            try ImageRehearsal(settings, policy: policy, lanes: lanes, trace: trace)
        }
        let conditioning = try trace.noting(.caches) { try policy.conditioning(policy.hardest(of: prompts)) }
        let embeddings = trace.holding(conditioning.positive.byteCount * max(0, promptCount - 1), .caches)
        var state = trace.noting(.training) {
            PolicyState(parameters: policy.initialParameters, settings: method.policy)
        }
        let parameterByteCount = state.parameters.byteCount
        // What workers fetch.
        let published = trace.holding(parameterByteCount, .training)
        try images.show(state.average.parameters)

        let rollout = try policy.rollout(method.rollout, seed: UInt64(settings.seed))
        let update = PolicyUpdate(
            settings: method.policy, rollout: rollout, chunks: Chunks(size: method.rollout.chunkSize))
        let shape = [method.rollout.groupSize, method.rollout.window.size + 1] + rollout.latentShape
        let trajectoryByteCount = 4 * shape.reduce(1, *)
        // Results arrive as messages; with overlap those of the next epoch, too.
        let results = trace.holding(
            trajectoryByteCount * method.rollout.groupsPerEpoch * (method.rollout.overlap ? 2 : 1), .caches)
        let count = groupCount(method, lanes: lanes)
        for epoch in 0..<2 {
            let groups = trace.noting(.caches) {
                (0..<method.rollout.groupsPerEpoch).map { index in
                    let group = GroupID(epoch: epoch, index: index)
                    let start = rollout.windowStart(of: group)
                    return ScoredGroup(
                        group: group, prompt: conditioning,
                        trajectory: Trajectory(
                            stepIndices: Array(start..<start + method.rollout.window.size),
                            latents: engine.zeros(shape),
                            logProbabilities: engine.zeros([method.rollout.groupSize, method.rollout.window.size])),
                        rewards: [Float](repeating: 0, count: method.rollout.groupSize))
                }
            }
            let trained = Array(groups.prefix(count))
            let advantages = Advantages(
                rewards: trained.map(\.rewards), deviation: method.policy.advantageStandardDeviation)
            _ = try update(
                &state, groups: trained, advantages: advantages, policy: policy.trainable, lanes: lanes)
            withExtendedLifetime(groups) {}
        }
        // A snapshot: the discriminator's state in pieces and whole, the policy's tensors file by file.
        let discriminator = trace.holding(2 * discriminatorStateByteCount, .caches)
        trace.passing(parameterByteCount)
        try images.show(state.average.parameters)
        withExtendedLifetime((embeddings, published, results, discriminator)) {}
    }

    /// Groups whose pieces occupy all threads twice: more need no more memory.
    private static func groupCount(_ method: MethodSettings, lanes: Lanes) -> Int {
        let pieces =
            Chunks(size: method.rollout.chunkSize).ranges(method.rollout.groupSize).count
            * method.rollout.window.size
        let updates = min(method.policy.updatesPerEpoch, method.rollout.groupsPerEpoch)
        return min(method.rollout.groupsPerEpoch, max(updates, (2 * lanes.count + pieces - 1) / pieces * updates))
    }
}

/// Previews and evaluation.
private struct ImageRehearsal {
    /// Steps of an image; more need no more memory.
    private static let stepCount = 2

    private let policy: DiffusionPolicy
    private let lanes: Lanes
    private let generator: ImageGenerator
    private let evaluator: Evaluator?
    private let prompts: [String]
    private let references: HeldMemory?

    init(_ settings: Settings, policy: DiffusionPolicy, lanes: Lanes, trace: MemoryTrace) throws {
        let rollout = settings.method.rollout
        let evaluation = settings.run.evaluation
        let chunks = Chunks(size: rollout.chunkSize)
        let all = try PromptList(path: settings.data.evaluationPrompts).prompts
        self.policy = policy
        self.lanes = lanes
        prompts = Array(all.prefix(settings.run.previewPrompts))
        generator = try ImageGenerator(
            policy: policy, steps: min(Self.stepCount, evaluation.steps), guidance: rollout.guidance,
            height: rollout.resolution, width: rollout.resolution, seed: UInt64(settings.seed), chunks: chunks)
        let chosen = Array(all.prefix(evaluation.prompts))
        if chosen.isEmpty {
            (evaluator, references) = (nil, nil)
            return
        }
        let library = try ReferenceLibrary(path: settings.data.references, required: chosen)
        evaluator = try Evaluator(
            generator: generator,
            backbone: VisionBackbone(
                folder: settings.resolvedEvaluationBackbone, engine: policy.engine, dtype: .float32, resize: .tensor,
                chunks: chunks),
            library: library, prompts: chosen, imagesPerPrompt: evaluation.seeds, side: rollout.resolution)
        let count = chosen.reduce(0) { $0 + library.paths(of: $1).count }
        references = trace.holding(count * rollout.resolution * rollout.resolution * 3, .caches)
    }

    func show(_ parameters: Parameters) throws {
        if !prompts.isEmpty {
            _ = try generator.images(
                ImageGenerator.Order.all(prompts: prompts, count: 2), transformer: policy.transformer(parameters),
                lanes: lanes)
        }
        _ = try evaluator?.measure(policy.transformer(parameters), lanes: lanes)
    }
}
