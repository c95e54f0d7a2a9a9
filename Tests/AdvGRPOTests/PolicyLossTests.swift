import TensorCore
import TestSupport
import Testing

@testable import AdvGRPO

@Suite("policy loss")
struct PolicyLossTests {
    private func loss(clipRange: Double, klWeight: Double = 0) -> PolicyLoss {
        var settings = PolicySettings(fidelity: .fixed)
        settings.clipRange = clipRange
        settings.klWeight = klWeight
        return PolicyLoss(settings: settings)
    }

    @Test("agrees with PyTorch's clipped loss", arguments: ["method", "wide", "on_policy"])
    func golden(name: String) throws {
        let golden = try Golden("flow.safetensors")
        let prefix = "policy_loss.\(name)"
        let old = try golden.floats("\(prefix)/old_log_probability")
        let current = try golden.tensor("\(prefix)/log_probability").tracked()
        let limit = Float(try golden.scalar("\(prefix)/advantage_limit"))
        let advantages = try golden.floats("\(prefix)/advantages").map { min(max($0, -limit), limit) }
        let (perSample, statistics) = loss(clipRange: try golden.scalar("\(prefix)/epsilon")).clipped(
            logProbability: current, old: engine.tensor(old, shape: [old.count]), advantages: advantages)
        let expected = try golden.scalar("\(prefix)/loss")
        #expect(abs(Double(perSample.mean().scalar) - expected) < 1e-6)
        let gradient = try #require(perSample.mean().gradients()[current])
        expectClose(
            gradient.values, try golden.floats("\(prefix)/grad_log_probability"), relative: 1e-5, absolute: 1e-6,
            "gradient")
        #expect(abs(statistics.approximateKL - (try golden.scalar("\(prefix)/approximate_kl"))) < 1e-6)
        #expect(statistics.clipFraction == (try golden.scalar("\(prefix)/clip_fraction")))
        #expect(statistics.clipFractionAbove == (try golden.scalar("\(prefix)/clip_fraction_above")))
        #expect(statistics.clipFractionBelow == (try golden.scalar("\(prefix)/clip_fraction_below")))
    }

    @Test("an unchanged policy has ratio 1 exactly and loss -A")
    func unchanged() {
        let step = FlowStep(1, of: [1, 0.96, 0.91], kind: .cps, noiseLevel: 0.8)
        let mean = engine.tensor(normals(4 * 48, 1), shape: [4, 3, 4, 4])
        let next = step.next(mean: mean, noise: engine.tensor(normals(4 * 48, 2), shape: [4, 3, 4, 4]))
        let old = step.logProbability(of: next, mean: mean)
        let (perSample, statistics) = loss(clipRange: 1e-5)(
            step: step, mean: mean.tracked(), next: next, old: old, advantages: [1, -2, 0.5, 0])
        #expect(perSample.values == [-1, 2, -0.5, 0])
        #expect(statistics.smallestRatio == 1 && statistics.largestRatio == 1)
        #expect(statistics.approximateKL == 0 && statistics.clipFraction == 0)
    }

    @Test(
        "the gradient is that of central differences, clipped and unclipped samples mixed",
        arguments: [StochasticStep.cps, .flowSDE])
    func finiteDifferences(kind: StochasticStep) {
        let step = FlowStep(0, of: [0.9, 0.8], kind: kind, noiseLevel: 0.7)
        let x = engine.tensor(normals(24, 3), shape: [3, 2, 2, 2])
        let velocity = normals(24, 4)
        let next = engine.tensor(normals(24, 5), shape: [3, 2, 2, 2])
        let reference = engine.tensor(normals(24, 6), shape: [3, 2, 2, 2])
        let old = step.logProbability(
            of: next, mean: step.mean(x, velocity_BCHW: engine.tensor(velocity, shape: x.shape)))
        let shifted = old + engine.tensor([0.3, -0.3, 0.01], shape: [3])
        let policyLoss = loss(clipRange: 0.1, klWeight: 0.5)
        checkGradients([engine.tensor(velocity, shape: x.shape)], step: 3e-3) { inputs in
            policyLoss(
                step: step, mean: step.mean(x, velocity_BCHW: inputs[0]), next: next, old: shifted,
                advantages: [1, 1, -2], referenceMean: reference
            ).perSample.mean()
        }
    }

    @Test("distance to the reference policy agrees with PyTorch", arguments: ["cps", "sde"])
    func referenceDistance(name: String) throws {
        let golden = try Golden("flow.safetensors")
        let mean = try golden.tensor("kl.\(name)/mean").tracked()
        let weight = try golden.scalar("kl.\(name)/weight")
        // a Flow-SDE step with s = 0.85: s² = η² σ / (1 - σ) · (σ - σ'), here at σ = 0.5, σ' = 0.4
        let eta = name == "cps" ? 0.8 : (0.85 * 0.85 / 0.1).squareRoot()
        let step = FlowStep(0, of: [0.5, 0.4], kind: name == "cps" ? .cps : .flowSDE, noiseLevel: eta)
        let (perSample, statistics) = loss(clipRange: 0.1, klWeight: weight)(
            step: step, mean: mean, next: mean, old: step.logProbability(of: mean, mean: mean.detached),
            advantages: [Float](repeating: 0, count: mean.shape[0]),
            referenceMean: try golden.tensor("kl.\(name)/reference_mean"))
        let value = try golden.scalar("kl.\(name)/value")
        #expect(abs(Double(perSample.mean().scalar) - value) < 1e-5)
        #expect(abs(statistics.referenceDistance * weight - value) < 1e-5)
        let gradient = try #require(perSample.mean().gradients()[mean])
        expectClose(gradient.values, try golden.floats("kl.\(name)/grad_mean"), "gradient")
    }
}
