import AdvGRPO
import Foundation
import ImageModels
import NeuralNetworks
import TensorCore

@testable import MethodModels

/// A second policy model, whose samples are known in advance: every image is one colour, that of its prompt.
///
/// The flow to the point μ has the velocity v(x, t) = (x - μ) / σ, σ = t / 1000. An Euler step from σ to σ' then gives
/// μ + (x - μ) σ' / σ, so that a sample ends at μ whatever its noise and however many steps. Here μ = W p + b, where p tells which
/// of two words are in the prompt. With guidance w a sample ends at b + w W p.
struct PointMass: PolicyModel {
    static let pipelineClass = "PointMassPipeline"
    static let adapterTargets = ["colour"]
    /// Words that a prompt's pooled embedding tells of.
    static let words = ["red", "green"]

    let parameters: Parameters
    let dtype: DType

    static func parts(of path: String) -> [ModelPart] { [ModelPart("point", .network, folder: path + "/point")] }

    static func promptReaders(of path: String) -> [PromptReader] {
        [PromptReader(name: "words", limit: 8) { $0.split(separator: " ").count }]
    }

    init(_ source: PolicySource) throws {
        let weights = try Weights(
            path: source.files.file("point/weights.safetensors"), engine: source.engine, dtype: source.dtype)
        _ = try (weights.tensor("colour.weight", shape: [3, 2]), weights.tensor("colour.bias", shape: [3]))
        parameters = try weights.finish()
        dtype = source.dtype
    }

    static func textEncoder(_ source: PolicySource) -> TextEncoder {
        { [engine = source.engine] prompt in
            let pooled = words.map { prompt.contains($0) ? Float(1) : 0 }
            return Conditioning(text_BSD: engine.zeros([1, 1, 1]), pooled_BP: engine.tensor(pooled, shape: [1, 2]))
        }
    }

    static func autoencoder(_ source: PolicySource) -> LatentAutoencoder {
        LatentAutoencoder(encode: { $0.transposed(0, 3, 1, 2) }, decode: { $0.transposed(0, 2, 3, 1) })
    }

    var velocity: VelocityFunction { Self.velocity(parameters) }

    func velocity(with tensors: Parameters) throws -> VelocityFunction { Self.velocity(parameters.merging(tensors)) }

    private static func velocity(_ parameters: Parameters) -> VelocityFunction {
        { x_BCHW, timesteps, conditioning in
            guard let weight = parameters["colour.weight"], let bias = parameters["colour.bias"] else { return x_BCHW }
            let (B, H, W) = (x_BCHW.shape[0], x_BCHW.shape[2], x_BCHW.shape[3])
            let rows = (0..<B * H * W).map { Int32($0 / (H * W)) }
            let point = linear(conditioning.pooled_BP.gatheredRows(rows), weight: weight, bias: bias)
            let difference = x_BCHW - point.reshaped(B, H, W, 3).transposed(0, 3, 1, 2)
            let rates = x_BCHW.engine.tensor(timesteps.map { 1000 / $0 }, shape: [B])
            return difference.reshaped(B, -1).scaledRows(by: rates).reshaped(x_BCHW.shape)
        }
    }

    func sigmas(stepCount: Int) -> [Float] { (0...stepCount).map { 1 - Float($0) / Float(stepCount) } }

    func sigma(at time: Float) -> Float { time }

    let defaultSide = 8
    func latentShape(height: Int, width: Int) -> [Int] { [3, height, width] }
    func images(_ latents_BCHW: Tensor) -> Tensor { latents_BCHW.transposed(0, 2, 3, 1).clamped(to: 0...1) }

    let tokenSide = 1

    func work(latentShape: [Int], textTokens: Int, rank: Int) -> PolicyWork {
        var counts = OperationCounts()
        counts.linear(tokenCount(latentShape: latentShape), 2, 3, rank: rank)
        return PolicyWork(textWidth: 1, pooledWidth: 2, velocity: counts, decoding: 0)
    }

    /// Writes a pipeline of this class.
    ///
    /// - Parameters:
    ///   - weight: W, a row for red, green and blue each. bias: b.
    static func write(to folder: String, weight: [Float], bias: [Float], engine: any Engine) throws {
        try FileManager.default.createDirectory(atPath: folder + "/point", withIntermediateDirectories: true)
        try Data(#"{"_class_name": "PointMassPipeline"}"#.utf8).write(
            to: URL(fileURLWithPath: folder + "/model_index.json"))
        try Data("{}".utf8).write(to: URL(fileURLWithPath: folder + "/point/config.json"))
        try Parameters([
            "colour.weight": engine.tensor(weight, shape: [3, 2]), "colour.bias": engine.tensor(bias, shape: [3]),
        ]).write(to: folder + "/point/weights.safetensors")
    }
}
