import AdvGRPO
import ComputeRoles
public import Configuration
import Datasets
import MethodModels
import NeuralNetworks
import Raster
public import TensorCore

/// A learner's computations on an engine that only notes their memory.
public enum LearnerRehearsal {
    /// Loads the models, evaluates, and trains for two epochs with a snapshot.
    ///
    /// - Parameters:
    ///   - settings: of the run.
    ///   - engine: notes what it is asked for, and computes nothing.
    ///   - discriminatorStateByteCount: of the reward server's state, which its snapshots hold.
    ///   - prompts: of the run, at least one.
    ///   - promptCount: prompts that the run trains on.
    ///   - shownCount: prompts of previews and evaluations.
    /// - Throws: `ModelError`, `SafeTensorsError`, `DatasetError` naming the file.
    public static func run(
        _ settings: Settings, engine: RehearsalEngine, discriminatorStateByteCount: Int, prompts: [String],
        promptCount: Int, shownCount: Int
    ) throws {
        let trace = engine.trace
        let method = settings.method
        let policy = try trace.noting(.weights) {
            try DiffusionPolicy(
                PolicySource(path: settings.model, engine: engine, dtype: settings.precision.dtype),
                settings: method.policy, seed: UInt64(settings.seed), embeddings: settings.data.embeddings)
        }
        let lanes = Lanes(count: settings.cluster.learnerThreads, engine: engine)
        let images = try trace.noting(.weights) {
            try ImageRehearsal(settings, policy: policy, lanes: lanes, trace: trace)
        }
        let conditioning = try trace.noting(.caches) { try policy.conditioning(policy.hardest(of: prompts)) }
        // Prompts of rollouts are their workers' to embed, unless gradients are made here.
        let embedsPrompts =
            method.supervisedSteps(ofEpoch: 0) != nil || !OptimizerStep.canHold(policy.initialParameters)
        let embeddings = trace.holding(
            conditioning.positive.byteCount * max(0, shownCount + (embedsPrompts ? promptCount : 0) - 1), .caches)
        var site = RehearsalSite(
            policy: policy,
            state: trace.noting(.training) {
                PolicyState(parameters: policy.initialParameters, settings: method.policy)
            }, lanes: lanes, trace: trace, conditioning: conditioning,
            rollout: try policy.rollout(method.rollout, seed: UInt64(settings.seed)), method: method)
        let parameterByteCount = site.state.parameters.byteCount
        // What workers fetch, and what a supervised start leaves.
        let published = trace.holding(parameterByteCount * (method.supervisedStart == nil ? 1 : 2), .training)
        try images.show(site.state.average.parameters)

        // The references' latents stay when rollouts follow.
        var references: [ReferenceLatents] = []
        if let steps = method.supervisedSteps(ofEpoch: 0) {
            let (latents, autoencoder) = try Self.references(settings, prompts, conditioning, engine: engine)
            references = latents
            try site.learn(steps.prefix(1), references)
            withExtendedLifetime(autoencoder) {}
        }
        guard method.usesRollouts else {
            trace.passing(parameterByteCount)
            try images.show(site.state.average.parameters)
            return withExtendedLifetime((embeddings, published, references)) {}
        }

        // Results arrive as messages; with overlap those of the next epoch, too.
        let results = trace.holding(
            site.trajectoryByteCount * method.rollout.groupsPerEpoch * (method.rollout.overlap ? 2 : 1), .caches)
        var discriminatorSettings = method.discriminator
        // The reward server's own rehearsal trains it.
        discriminatorSettings.train = false
        var schedule = Schedule(schedule: method.schedule, discriminator: discriminatorSettings)
        for epoch in 0..<2 {
            _ = try Epoch(epoch, deviation: method.policy.advantageStandardDeviation).run(
                at: &site, schedule: &schedule)
        }
        // A snapshot: the discriminator's state in pieces and whole, the policy's tensors file by file.
        let discriminator = trace.holding(2 * discriminatorStateByteCount, .caches)
        trace.passing(parameterByteCount)
        try images.show(site.state.average.parameters)
        withExtendedLifetime((embeddings, published, references, results, discriminator)) {}
    }

    /// Latents of all references, of which those of one prompt are encoded, and what encodes them.
    private static func references(
        _ settings: Settings, _ prompts: [String], _ conditioning: PromptConditioning, engine: RehearsalEngine
    ) throws -> ([ReferenceLatents], LatentAutoencoder) {
        let library = try RunPrompts(settings).references(of: prompts)
        let side = settings.method.rollout.resolution
        let autoencoder = try engine.trace.noting(.weights) {
            try PolicySource(path: settings.model, engine: engine).autoencoder()
        }
        let one = autoencoder.encode(engine.zeros([1, side, side, 3]))
        let count = prompts.reduce(0) { $0 + library.paths(of: $1).count }
        let latents = engine.trace.noting(.caches) {
            (0..<count).map { _ in ReferenceLatents(latents: engine.zeros(one.shape), prompt: conditioning) }
        }
        return (latents, autoencoder)
    }
}

/// An epoch of which only memory is noted: groups of zeros train the policy.
private struct RehearsalSite: EpochSite {
    let policy: DiffusionPolicy
    var state: PolicyState
    let lanes: Lanes
    let trace: MemoryTrace
    let conditioning: PromptConditioning
    let rollout: Rollout
    let method: MethodSettings

    private var latentShape: [Int] {
        [method.rollout.groupSize, method.rollout.window.size + 1] + rollout.latentShape
    }

    /// Of a group's window.
    var trajectoryByteCount: Int { 4 * latentShape.reduce(1, *) }

    func collect(_ epoch: Int) -> [ScoredGroup] {
        trace.noting(.caches) {
            (0..<method.rollout.groupsPerEpoch).map { index in
                let group = GroupID(epoch: epoch, index: index)
                let start = rollout.windowStart(of: group)
                let (size, window) = (method.rollout.groupSize, method.rollout.window.size)
                return ScoredGroup(
                    group: group, prompt: conditioning,
                    trajectory: Trajectory(
                        stepIndices: Array(start..<start + window), latents: policy.engine.zeros(latentShape),
                        logProbabilities: policy.engine.zeros([size, window])),
                    rewards: [Float](repeating: 0, count: size))
            }
        }
    }

    func compare(_ groups: [ScoredGroup]) -> Schedule.Evidence { Schedule.Evidence(realMean: 0, fakeMean: 0) }

    func trainDiscriminator(_ groups: [ScoredGroup]) -> () throws -> Double { { 0 } }

    mutating func updatePolicy(_ groups: [ScoredGroup], _ advantages: Advantages) throws -> [PolicyUpdateReport] {
        let update = PolicyUpdate(
            settings: method.policy, rollout: rollout, chunks: Chunks(size: method.rollout.chunkSize))
        if OptimizerStep.canHold(state.parameters) { return try add(groups.count, update) }
        let trained = Array(groups.prefix(groupCount))
        let own = Advantages(rewards: trained.map(\.rewards), deviation: method.policy.advantageStandardDeviation)
        defer { withExtendedLifetime(groups) {} }
        return try update(&state, groups: trained, advantages: own, policy: policy.trainable, lanes: lanes)
    }

    /// Gradients come as messages, wait for those before them and are added up.
    private mutating func add(_ groupCount: Int, _ update: PolicyUpdate) throws -> [PolicyUpdateReport] {
        let byteCount = state.parameters.byteCount
        return try update.partition(groupCount).enumerated().map { number, range in
            // The weights of a later step, which workers fetch.
            let published = trace.holding(number == 0 ? 0 : byteCount, .training)
            let waiting = trace.holding(
                byteCount * min(range.count, OptimizerStep.window(of: state.parameters)), .caches)
            var fold = update.fold(groupCount: range.count)
            // More than two need no more memory.
            for _ in range.prefix(2) {
                let gradient = trace.noting(.training) { [policy] in
                    state.parameters.mapped { policy.engine.zeros($1.shape) }
                }
                fold.add(GroupGradient(gradient: gradient, statistics: PolicyStatistics()))
            }
            defer { withExtendedLifetime((published, waiting)) {} }
            return try fold.descend(&state, "")
        }
    }

    mutating func learnReferences(_ steps: Range<Int>) -> [SupervisedReport] { [] }

    func publish(_ report: StepReport) {}

    /// Supervised steps; any references need as much memory as those that are drawn.
    mutating func learn(_ steps: Range<Int>, _ references: [ReferenceLatents]) throws {
        let model = policy.model
        let flowMatching = FlowMatching(
            settings: method.supervised, referenceCount: references.count, seed: rollout.seed,
            chunks: Chunks(size: method.rollout.chunkSize)
        ) { model.sigma(at: $0) }
        for step in steps {
            _ = try flowMatching(
                step: step, &state, reference: { references[$0] }, policy: policy.trainable,
                maximumGradientNorm: method.policy.maximumGradientNorm, lanes: lanes)
        }
    }

    /// Groups whose pieces occupy all threads twice: more need no more memory.
    private var groupCount: Int {
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
    private let judge: PreviewJudge?
    private let prompts: [String]
    private let side: Int
    private let references: HeldMemory?

    init(_ settings: Settings, policy: DiffusionPolicy, lanes: Lanes, trace: MemoryTrace) throws {
        let rollout = settings.method.rollout
        let evaluation = settings.run.evaluation
        let chunks = Chunks(size: rollout.chunkSize)
        let run = try RunPrompts(settings)
        self.policy = policy
        self.lanes = lanes
        prompts = Array(run.evaluation.prefix(settings.run.previewPrompts))
        generator = try ImageGenerator(
            policy: policy, steps: min(Self.stepCount, evaluation.steps), guidance: rollout.guidance,
            height: rollout.resolution, width: rollout.resolution, seed: UInt64(settings.seed), chunks: chunks)
        side = rollout.resolution
        judge = try settings.judge.isEmpty ? nil : PreviewJudge(settings, engine: policy.engine) { _ in }
        let chosen = run.evaluated
        if chosen.isEmpty {
            (evaluator, references) = (nil, nil)
            return
        }
        let library = try run.references(of: chosen)
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
                ImageGenerator.Order.all(prompts: prompts, count: 2), velocity: policy.velocity(parameters),
                lanes: lanes)
            let blank = RGBImage(width: side, height: side, pixels: [UInt8](repeating: 0, count: side * side * 3))
            _ = try judge?.judged(
                [RGBImage](repeating: blank, count: 2 * prompts.count), count: 2, lanes: lanes)
        }
        _ = try evaluator?.measure(policy.velocity(parameters), lanes: lanes)
    }
}
