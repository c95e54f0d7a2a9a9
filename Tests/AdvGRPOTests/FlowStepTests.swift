import AdvGRPO
import Foundation
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@Suite("flow step")
struct FlowStepTests {
    @Test("coefficients are those of method.md 1.5")
    func coefficients() throws {
        let sigmas = try tenSteps()
        // a, b, s of CPS and s of Flow-SDE, ten steps, shift 3, noise level 0.8
        let table: [(Float, Float, Float, Float)] = [
            (0.336567, -0.039871, 0.913137, 0.800000), (0.368891, -0.071943, 0.868646, 0.849102),
        ]
        for (index, row) in table.enumerated() {
            let cps = FlowStep(index, of: sigmas, kind: .cps, noiseLevel: 0.8)
            expectClose(
                [cps.latentCoefficient, cps.velocityCoefficient, cps.noiseScale], [row.0, row.1, row.2], relative: 0,
                absolute: 2e-6)
            let sde = FlowStep(index, of: sigmas, kind: .flowSDE, noiseLevel: 0.8)
            expectClose([sde.noiseScale], [row.3], relative: 0, absolute: 2e-6)
        }
    }

    @Test("on-policy log-probability of CPS is -s² on average", arguments: [(0, -0.833820), (1, -0.754547)])
    func expectedLogProbability(index: Int, expected: Double) throws {
        let step = FlowStep(index, of: try tenSteps(), kind: .cps, noiseLevel: 0.8)
        let shape = [1, 16, 64, 64]
        let mean = engine.tensor(normals(65_536, 1), shape: shape)
        let next = step.next(mean: mean, noise: engine.tensor(normals(65_536, 2), shape: shape))
        let value = Double(step.logProbability(of: next, mean: mean).scalar)
        // standard deviation of a mean of 65,536 squares of s ε: s² sqrt(2 / 65,536) <= 0.0046
        #expect(abs(value - expected) < 4 * 0.0046)
    }

    @Test(
        "what a step samples has a log-probability that its noise can have, and hardly anything else has",
        arguments: [StochasticStep.cps, .flowSDE], [4, 64, 1024])
    func plausible(kind: StochasticStep, count: Int) throws {
        for (index, noiseLevel) in [(0, 0.8), (5, 0.8), (8, 0.3), (4, 1e-3)] {
            let step = FlowStep(index, of: try tenSteps(), kind: kind, noiseLevel: noiseLevel)
            let range = step.plausibleLogProbabilities(elementCount: count)
            let shape = [200, 1, 1, count]
            // Latents as large as a policy's that has gone far.
            let mean = engine.tensor(normals(200 * count, 1).map { 20 * $0 }, shape: shape)
            let next = step.next(mean: mean, noise: engine.tensor(normals(200 * count, 2), shape: shape))
            let values = step.logProbability(of: next, mean: mean).values
            #expect(values.allSatisfy { range.contains(Double($0)) }, "\(step.index): \(values.max() ?? 0) in \(range)")
            #expect(!range.contains(range.upperBound + 1) && !range.contains(-1e30))
            // The exponential of any difference of two of them is finite.
            #expect(exp(range.upperBound - range.lowerBound).isFinite)
        }
        let step = FlowStep(1, of: try tenSteps(), kind: .cps, noiseLevel: 0.8)
        let (range, square) = (
            step.plausibleLogProbabilities(elementCount: 65_536), Double(step.noiseScale * step.noiseScale)
        )
        #expect(range.lowerBound > -1.09 * square && range.upperBound < -0.9 * square)
    }

    @Test(
        "steps agree with the NumPy and PyTorch references",
        arguments: ["cps.0", "cps.1", "cps.8", "cps.full_noise", "sde.0", "sde.1", "sde.8"])
    func golden(name: String) throws {
        let golden = try Golden("flow.safetensors")
        let isSDE = name.hasPrefix("sde")
        let sigmas = try [golden.floats("\(name)/sigma")[0], golden.floats("\(name)/sigma_next")[0]]
        // at sigma = 1 the schedule's second sigma is this step's next one
        let step = FlowStep(
            0, of: sigmas, kind: isSDE ? .flowSDE : .cps, noiseLevel: try golden.scalar("\(name)/noise_level"))
        expectClose([step.noiseScale], try golden.floats("\(name)/deviation"), "deviation")
        let x = try golden.tensor("\(name)/sample")
        let next = try golden.tensor("\(name)/next")
        for suffix in ["", "_new"] {
            let velocity = try golden.tensor("\(name)/velocity\(suffix)").tracked()
            let mean = step.mean(x, velocity_BCHW: velocity)
            let logProbability = step.logProbability(of: next, mean: mean)
            if suffix.isEmpty {
                expectClose(mean.values, try golden.floats("\(name)/mean"), "mean")
                let taken = step.next(mean: mean, noise: try golden.tensor("\(name)/noise"))
                expectClose(taken.values, next.values, "next")
            }
            expectClose(
                logProbability.values, try golden.floats("\(name)/log_probability\(suffix)"), "log-probability")
            let gradients = logProbability.gradients(upstream: try golden.tensor("\(name)/grad_log_probability"))
            let gradient = try #require(gradients[velocity])
            expectClose(gradient.values, try golden.floats("\(name)/grad_velocity\(suffix)"), "gradient")
        }
    }

    @Test("without noise CPS is the Euler step, and the last step gives the predicted clean latents")
    func deterministic() throws {
        let golden = try Golden("flow.safetensors")
        for name in ["cps.ode", "cps.last"] {
            let sigmas = try [golden.floats("\(name)/sigma")[0], golden.floats("\(name)/sigma_next")[0]]
            let kind: StochasticStep? = name == "cps.ode" ? nil : .cps
            let step = FlowStep(0, of: sigmas, kind: kind, noiseLevel: try golden.scalar("\(name)/noise_level"))
            let mean = step.mean(
                try golden.tensor("\(name)/sample"), velocity_BCHW: try golden.tensor("\(name)/velocity"))
            expectClose(mean.values, try golden.floats("\(name)/mean"), name)
            #expect(step.noiseScale == 0)
        }
    }

    @Test("guidance is v₋ + w (v₊ - v₋), the batch is [negative; positive]")
    func guidance() throws {
        let golden = try Golden("flow.safetensors")
        let (negative, positive) = (try golden.tensor("guidance/negative"), try golden.tensor("guidance/positive"))
        func conditioning(_ value: Float) -> Conditioning {
            Conditioning(
                text_BSD: engine.tensor([value], shape: [1, 1, 1]), pooled_BP: engine.tensor([value], shape: [1, 1]))
        }
        let prompt = PromptConditioning(positive: conditioning(1), negative: conditioning(-1))
        let guided = GuidedVelocity(scale: try golden.scalar("guidance/scale"))
        let v = guided(engine.zeros(negative.shape), timestep: 1000, prompt: prompt) { _, _, conditioning in
            #expect(conditioning.text_BSD.values == [-1, -1, 1, 1])
            #expect(conditioning.pooled_BP.values == [-1, -1, 1, 1])
            return concatenated([negative, positive], axis: 0)
        }
        expectClose(v.values, try golden.floats("guidance/output"))
        let apart = guided(
            engine.zeros(negative.shape), timestep: 1000, prompt: prompt,
            velocity: { x, _, conditioning in
                precondition(conditioning.text_BSD.shape[0] == x.shape[0])
                return conditioning.text_BSD.values[0] < 0 ? negative : positive
            }, lanes: Lanes(count: 2))
        #expect(apart.values == v.values)
    }
}
