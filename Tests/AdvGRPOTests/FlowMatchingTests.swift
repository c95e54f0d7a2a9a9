import ImageModels
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

/// Supervised flow matching, held to diffusers' loss and PyTorch's optimiser, and to what its draws have to be like.
@Suite("flow matching")
struct FlowMatchingTests {
    private let golden: Golden
    private let adapter: LoRAAdapter
    private let policy: TrainablePolicy

    init() throws {
        golden = try Golden("supervised.safetensors")
        let model = try MMDiT(folder: Repository.fixtures + "/mmdit-a", engine: engine)
        let adapter = try LoRAAdapter(path: Repository.fixtures + "/mmdit-a-lora", engine: engine)
        self.adapter = adapter
        policy = TrainablePolicy { parameters in
            guard let model = try? model.merged(adapter.replacing(parameters)) else {
                preconditionFailure("parameters of another adapter")
            }
            return { model.velocity($0, timesteps: $1, conditioning: $2) }
        }
    }

    private func flowMatching(chunk: Int = 2) -> FlowMatching {
        var settings = SupervisedSettings()
        settings.batch = 3
        settings.promptDropout = 0.3
        let schedule = FlowMatchSchedule()
        return FlowMatching(settings: settings, referenceCount: 5, seed: 5, chunks: Chunks(size: chunk)) {
            schedule.shifted($0)
        }
    }

    private func reference(_ index: Int) throws -> ReferenceLatents {
        func input(_ name: String) throws -> Tensor { try golden.tensor("input/" + name, on: engine) }
        let row = index..<index + 1
        return ReferenceLatents(
            latents: try input("latents").rows(row),
            prompt: PromptConditioning(
                positive: Conditioning(
                    text_BSD: try input("text").rows(row), pooled_BP: try input("pooled").rows(row)),
                negative: Conditioning(
                    text_BSD: try input("negative_text"), pooled_BP: try input("negative_pooled"))))
    }

    /// Four steps: their reports, and the policy after them.
    private func learned(_ flowMatching: FlowMatching, lanes: Int) throws -> ([SupervisedReport], Parameters) {
        let settings = AdamW.Settings(learningRate: 4e-3, weightDecay: 1e-4)
        var state = PolicyState(
            parameters: adapter.parameters, settings: PolicySettings(fidelity: .fixed), optimizer: settings)
        let reports = try (0..<4).map {
            try flowMatching(
                step: $0, &state, reference: reference, policy: policy, maximumGradientNorm: 0.3,
                lanes: Lanes(count: lanes))
        }
        return (reports, state.parameters)
    }

    @Test("four steps follow PyTorch: draws, losses, norms, weights")
    func curve() throws {
        let draws = (0..<4).flatMap { flowMatching().draws(step: $0) }
        #expect(draws.map(\.reference) == (try golden.integers("reference")))
        #expect(draws.map { $0.dropsPrompt ? 1 : 0 } == (try golden.integers("drops")))
        expectClose(draws.map(\.level), try golden.floats("level"), relative: 1e-6, absolute: 0)
        let (reports, parameters) = try learned(flowMatching(), lanes: 2)
        expectClose(reports.map { Float($0.loss) }, try golden.floats("loss"), relative: 1e-4, absolute: 0)
        expectClose(
            reports.map { Float($0.gradientNorm) }, try golden.floats("grad_norm"), relative: 1e-3, absolute: 0)
        for (name, tensor) in parameters.entries {
            try expectClose(tensor, golden, "final/base_model.model.\(name)", relative: 0, absolute: 2e-4)
        }
    }

    @Test("threads change no bit")
    func lanes() throws {
        let (one, three) = (try learned(flowMatching(), lanes: 1), try learned(flowMatching(), lanes: 3))
        #expect(one.0 == three.0)
        for (name, tensor) in one.1.entries { #expect(tensor.values == three.1[name]?.values, "\(name)") }
    }

    @Test("a pass shows every reference once, and passes differ")
    func passes() {
        let settings = SupervisedSettings()
        let flowMatching = FlowMatching(
            settings: settings, referenceCount: 40, seed: 1, chunks: Chunks(size: 8), sigma: { $0 })
        // 5 steps of 32 are four passes.
        let shown = (0..<5).flatMap { flowMatching.draws(step: $0).map(\.reference) }
        let passes = (0..<4).map { Array(shown[$0 * 40..<$0 * 40 + 40]) }
        for pass in passes { #expect(pass.sorted() == Array(0..<40)) }
        #expect(Set(passes).count == 4)
        #expect(flowMatching.references(ofStep: 0) == shown.prefix(32).sorted())
    }

    /// σ(N(0, 1)) is below σ(-1) and above σ(1) with probability 0.1587 each; standard errors at 6,400 draws: 0.0046.
    @Test("levels are logit-normal, and a tenth of the prompts is left out")
    func density() {
        let flowMatching = FlowMatching(
            settings: SupervisedSettings(), referenceCount: 7, seed: 3, chunks: Chunks(size: 8), sigma: { $0 })
        let draws = (0..<200).flatMap { flowMatching.draws(step: $0) }
        func share(_ condition: (FlowMatching.Draw) -> Bool) -> Double {
            Double(draws.count(where: condition)) / Double(draws.count)
        }
        #expect(abs(share { $0.level < 0.268941 } - 0.1587) < 0.02)
        #expect(abs(share { $0.level > 0.731059 } - 0.1587) < 0.02)
        #expect(abs(share { $0.level < 0.5 } - 0.5) < 0.025)
        #expect(abs(share(\.dropsPrompt) - 0.1) < 0.015)
    }

    @Test("a gradient that is not finite is refused, and the policy stays")
    func notFinite() throws {
        var state = PolicyState(parameters: adapter.parameters, settings: PolicySettings(fidelity: .fixed))
        let before = state.parameters
        #expect(throws: NumericalFailure.self) {
            try flowMatching()(
                step: 0, &state,
                reference: { index in
                    var reference = try reference(index)
                    reference.latents = reference.latents * .infinity
                    return reference
                }, policy: policy, maximumGradientNorm: 1, lanes: Lanes(count: 1))
        }
        for (name, tensor) in before.entries { #expect(tensor.values == state.parameters[name]?.values) }
    }
}
