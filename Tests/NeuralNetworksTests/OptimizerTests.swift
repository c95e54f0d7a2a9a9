import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@Suite struct OptimizerTests {
    @Test(
        "five updates equal torch's optimiser, values and moments",
        arguments: ["adamw.policy", "adamw.large", "adam.discriminator", "adam.large"])
    func adamW(name: String) throws {
        let golden = try Golden("optimizers.safetensors")
        for engine in testEngines {
            // The fixture rounds the options to fp32; their shortest decimals are what torch was given.
            let options = try golden.floats("\(name)/options").map { try #require(Double("\($0)")) }
            let settings = AdamW.Settings(
                learningRate: options[0], beta1: options[1], beta2: options[2], epsilon: options[3],
                weightDecay: options[4])
            var parameters = Parameters(["w": try golden.tensor("\(name)/initial", on: engine)])
            var optimizer = AdamW(settings, parameters: parameters)
            let gradients = try golden.tensor("\(name)/gradients", on: engine)
            let expected = try golden.tensor("\(name)/values", on: engine)
            for step in 0..<5 {
                let gradient = gradients.rows(step..<step + 1).reshaped(3, 4)
                parameters = optimizer.update(parameters, gradients: Parameters(["w": gradient]))
                let value = try #require(parameters["w"])
                expectClose(
                    value, expected.rows(step..<step + 1).reshaped(3, 4), relative: 1e-6, "\(name) step \(step)")
            }
            #expect(optimizer.updateCount == 5)
            try expectClose(optimizer.firstMoment["w"], golden, "\(name)/first_moment", relative: 1e-5)
            try expectClose(optimizer.secondMoment["w"], golden, "\(name)/second_moment", relative: 1e-6)
        }
    }

    @Test("an optimiser restored from its state continues bit for bit")
    func resumption() throws {
        let golden = try Golden("optimizers.safetensors")
        let engine = OpenBLASEngine.shared
        let gradients = try golden.tensor("adamw.policy/gradients", on: engine)
        func gradient(_ step: Int) -> Parameters { Parameters(["w": gradients.rows(step..<step + 1).reshaped(3, 4)]) }
        var parameters = Parameters(["w": try golden.tensor("adamw.policy/initial", on: engine)])
        var optimizer = AdamW(.init(learningRate: 3e-4, weightDecay: 1e-4), parameters: parameters)
        for step in 0..<3 { parameters = optimizer.update(parameters, gradients: gradient(step)) }
        var restored = AdamW(
            optimizer.settings, updateCount: optimizer.updateCount, firstMoment: optimizer.firstMoment,
            secondMoment: optimizer.secondMoment)
        let continued = optimizer.update(parameters, gradients: gradient(3))
        let resumed = restored.update(parameters, gradients: gradient(3))
        #expect(continued["w"]?.values == resumed["w"]?.values)
    }

    @Test("clipping by global norm equals torch's", arguments: ["clip_grad_norm.above", "clip_grad_norm.below"])
    func clipping(name: String) throws {
        let golden = try Golden("optimizers.safetensors")
        for engine in testEngines {
            var tensors: [String: Tensor] = [:]
            for index in 0..<3 { tensors["\(index)"] = try golden.tensor("\(name)/gradients.\(index)", on: engine) }
            let limit = Double(try golden.floats("\(name)/limit")[0])
            let (clipped, norm) = Parameters(tensors).clipped(toNorm: limit)
            expectClose([Float(norm)], try golden.floats("\(name)/norm"), relative: 1e-6, name)
            for index in 0..<3 {
                try expectClose(clipped["\(index)"], golden, "\(name)/clipped.\(index)", relative: 1e-6)
            }
        }
    }

    @Test("the average equals the formula over a hundred updates")
    func movingAverage() throws {
        let golden = try Golden("optimizers.safetensors")
        for engine in testEngines {
            let values = try golden.tensor("ema/values", on: engine)
            let expected = try golden.tensor("ema/averages", on: engine)
            let decays = try golden.floats("ema/decays")
            var average = ExponentialMovingAverage(
                decay: 0.9, interval: try golden.integers("ema/interval")[0],
                parameters: Parameters(["w": try golden.tensor("ema/initial", on: engine)]))
            for n in 0..<values.shape[0] {
                expectClose([Float(average.decay(atUpdate: n))], [decays[n]], relative: 1e-6, "decay \(n)")
                average.follow(Parameters(["w": values.rows(n..<n + 1).reshaped(4)]))
                let value = try #require(average.parameters["w"])
                expectClose(value, expected.rows(n..<n + 1).reshaped(4), relative: 1e-6, "average \(n)")
            }
        }
    }
}
