import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// The policy update on a real (tiny) SD3 transformer with a LoRA adapter, held to PyTorch.
@Suite("policy update of a transformer")
struct TransformerUpdateTests {
    private struct Options {
        var learningRate = 3e-4
        var clipRange = 1e-5
        var gradientNormLimit = 1.0
    }

    /// The transformer and its adapter on one engine.
    private struct Subject {
        let model: MMDiT
        let adapter: LoRAAdapter

        init(_ engine: any Engine, dtype: DType = .float32) throws {
            model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine, dtype: dtype)
            adapter = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
        }

        /// The adapter added to the weights, as everything that runs has it.
        var policy: TrainablePolicy {
            TrainablePolicy { parameters in
                guard let velocity = try? merged(parameters) else {
                    preconditionFailure("parameters of another adapter")
                }
                return velocity
            }
        }

        /// The same as a function of a batch.
        func merged(_ parameters: Parameters) throws -> VelocityFunction {
            let model = try model.merged(adapter.replacing(parameters))
            return { model.velocity($0, timesteps: $1, conditioning: $2) }
        }
    }

    private let golden: Golden
    private let model: MMDiT
    private let adapter: LoRAAdapter
    private let policy: TrainablePolicy

    init() throws {
        golden = try Golden("grpo.safetensors")
        let subject = try Subject(engine)
        (model, adapter, policy) = (subject.model, subject.adapter, subject.policy)
    }

    private func rollout() throws -> Rollout {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.window = WindowSettings(size: 2, start: .fixed(0))
        return Rollout(settings: settings, sigmas: try tenSteps(), latentShape: [4, 8, 8], seed: 1)
    }

    /// The fixture's members have texts of their own: each becomes a group of one.
    private func groups(on engine: any Engine = engine) throws -> [ScoredGroup] {
        func input(_ name: String) throws -> Tensor { try golden.tensor("input/" + name, on: engine) }
        let (text, pooled) = (try input("text"), try input("pooled"))
        let negative = Conditioning(text_BSD: try input("negative_text"), pooled_BP: try input("negative_pooled"))
        let all = Trajectory(
            stepIndices: [0, 1], latents: try input("latents"), logProbabilities: try input("old_log_probability"))
        return (0..<4).map { member in
            let row = member..<member + 1
            let positive = Conditioning(text_BSD: text.rows(row), pooled_BP: pooled.rows(row))
            return ScoredGroup(
                group: GroupID(epoch: 0, index: member),
                prompt: PromptConditioning(positive: positive, negative: negative), trajectory: all.members(row),
                rewards: [0])
        }
    }

    private func update(_ options: Options, chunk: Int = 1) throws -> PolicyUpdate {
        var settings = PolicySettings(fidelity: .fixed)
        settings.learningRate = options.learningRate
        settings.clipRange = options.clipRange
        settings.maximumGradientNorm = options.gradientNormLimit
        settings.updatesPerEpoch = 1
        return PolicyUpdate(settings: settings, rollout: try rollout(), chunks: Chunks(size: chunk))
    }

    private func advantages() throws -> Advantages {
        Advantages(values: try golden.floats("input/advantages").map { [Double($0)] })
    }

    /// The fixture names tensors as PEFT's file does.
    private func expectTensors(_ parameters: Parameters, _ prefix: String, relative: Float, absolute: Float) throws {
        for (name, tensor) in parameters.entries {
            let full = "\(prefix)/base_model.model.\(name)"
            try expectClose(tensor, golden, full, relative: relative, absolute: absolute)
        }
    }

    @Test("one update: log-probabilities, loss, every gradient, the clipped AdamW step")
    func step() throws {
        let update = try update(Options())
        let total = update.fold(
            update.credited(try groups(), try advantages())[...], at: policy.tracked(at: adapter.parameters),
            lanes: Lanes(count: 1)
        ).total()
        let (gradient, statistics) = (total.gradient, total.statistics)
        #expect(abs(statistics.loss - (try golden.scalar("step/loss"))) < 2e-5)
        #expect(abs(statistics.meanRatio - 1) < 2e-5)
        #expect(abs(gradient.norm - (try golden.scalar("step/grad_norm"))) < 5e-5)
        try expectTensors(gradient, "step/grad", relative: 0, absolute: 5e-5)
        var state = PolicyState(parameters: adapter.parameters, settings: update.settings)
        _ = try update(
            &state, groups: try groups(), advantages: try advantages(), policy: policy, lanes: Lanes(count: 1))
        // AdamW's first step is lr · g / |g|: a gradient near zero decides its sign, and nothing else, in fp32
        try expectTensors(state.parameters, "step/updated", relative: 0, absolute: 1e-5)
    }

    @Test("ten updates follow PyTorch's curve of loss, norm and clipping")
    func curve() throws {
        let update = try update(Options(learningRate: 4e-3, clipRange: 0.08, gradientNormLimit: 0.04))
        var state = PolicyState(parameters: adapter.parameters, settings: update.settings)
        let (losses, norms) = (try golden.floats("curve/loss"), try golden.floats("curve/grad_norm"))
        let fractions = try golden.floats("curve/clip_fraction")
        for index in 0..<10 {
            let report = try update(
                &state, groups: try groups(), advantages: try advantages(), policy: policy, lanes: Lanes(count: 2))[0]
            #expect(abs(Float(report.statistics.loss) - losses[index]) < 1e-4, "loss of update \(index)")
            #expect(
                abs(Float(report.gradientNorm) - norms[index]) < 1e-3 * max(1, norms[index]), "norm of update \(index)")
            #expect(Float(report.statistics.clipFraction) == fractions[index], "clipping of update \(index)")
        }
        try expectTensors(state.parameters, "curve/final", relative: 0, absolute: 2e-4)
    }

    /// Ratios of an unchanged policy: sampled with one function, trained with another.
    private func ratios(
        _ engine: any Engine, chunk: Int, sampling: @escaping VelocityFunction, window: VelocityFunction? = nil,
        training: TrainablePolicy,
        parameters: Parameters
    ) throws -> PolicyStatistics {
        let rollout = try rollout()
        let prompt = try groups(on: engine)[0].prompt
        let group = GroupID(epoch: 0, index: 0)
        let parts = try Chunks(size: chunk).ranges(5).map {
            try rollout.sample(
                group, members: $0, prompt: prompt, engine: engine, velocity: sampling, windowVelocity: window)
        }
        let scored = ScoredGroup(
            group: group, prompt: prompt, trajectory: RolloutSample(joining: parts).trajectory,
            rewards: [0, 0, 0, 0, 0])
        let update = try update(Options(), chunk: chunk)
        return update.fold(
            update.credited([scored], Advantages(values: [[1, -1, 0.5, -0.5, 0]]))[...],
            at: training.tracked(at: parameters), lanes: Lanes(count: 2)
        ).total().statistics
    }

    @Test(
        "the ratio of an unchanged transformer is exactly 1",
        arguments: EngineKind.allCases,
        [1, 2, 3])
    func ratio(kind: EngineKind, chunk: Int) throws {
        let engine = try kind.engine()
        for dtype in DType.allCases {
            let subject = try Subject(engine, dtype: dtype)
            let parameters = subject.adapter.parameters
            let statistics = try ratios(
                engine, chunk: chunk, sampling: subject.policy.velocity(parameters),
                window: subject.policy.velocity(parameters.tracked()), training: subject.policy, parameters: parameters)
            #expect(statistics.smallestRatio == 1 && statistics.largestRatio == 1, "\(kind), \(dtype)")
        }
    }
}
