import Foundation
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import ImageModels

/// Every tensor of the published full-size models has a place, and no place is left empty: names and shapes only.
@Suite struct PublishedModelTests {
    private struct Document: Decodable {
        var tensors: [String: [Int]]
        var tensorCount: Int
    }

    private let engine = RehearsalEngine(trace: MemoryTrace())

    /// A tensor of a shape, without elements.
    private func tensor(_ shape: [Int]) -> Tensor {
        engine.tensor(bytes: UnsafeRawBufferPointer(start: nil, count: 0), shape: shape, dtype: .bfloat16)
    }

    /// Tensors with the model's names and shapes.
    private func parameters(_ name: String) throws -> (tensors: Parameters, configurationPath: String, count: Int) {
        let path = Repository.fixtures + "/names/\(name).json"
        let document = try JSONDecoder().decode(Document.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        return (Parameters(document.tensors.mapValues(tensor)), path, document.tensorCount)
    }

    /// The file's `configuration` object as a file of its own.
    private func withConfiguration<Result>(_ path: String, _ body: (String) throws -> Result) throws -> Result {
        let document = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
        let configuration = try #require((document as? [String: Any])?["configuration"])
        return try withTemporaryFolder { folder in
            let file = folder + "/config.json"
            try JSONSerialization.data(withJSONObject: configuration).write(to: URL(fileURLWithPath: file))
            return try body(file)
        }
    }

    private func weights(_ tensors: Parameters) -> Weights {
        Weights(tensors, source: "published", engine: engine, dtype: .bfloat16)
    }

    /// Loads a published model, of which no tensor is left out.
    @discardableResult
    private func published<Model: TransformersModel>(_ name: String, as type: Model.Type) throws -> Model {
        let (tensors, path, count) = try parameters(name)
        let model = try withConfiguration(path) {
            try Model(Model.Configuration(path: $0), weights: weights(tensors))
        }
        #expect(model.parameters.count == count)
        return model
    }

    @Test(
        "SD3's transformers",
        arguments: ["sd3-medium-transformer", "sd3.5-medium-transformer", "sd3.5-large-transformer"])
    func transformers(name: String) throws {
        let (tensors, path, count) = try parameters(name)
        let model = try withConfiguration(path) {
            try MMDiT(MMDiTConfiguration(path: $0), weights: weights(tensors))
        }
        #expect(model.parameters.count == count)
    }

    @Test("the method's adapter on SD3.5-medium has the published file's tensors")
    func adapter() throws {
        let (tensors, _, _) = try parameters("sd3.5-medium-transformer")
        let (published, _, count) = try parameters("sd3.5-medium-lora")
        let configuration = LoRAConfiguration()
        let layers = tensors.names.filter { $0.hasSuffix(".weight") }.map { String($0.dropLast(7)) }
            .filter(configuration.matches)
        #expect(layers.count * 2 == count)
        let prefix = "base_model.model."
        let adapter = try LoRAAdapter(
            configuration: configuration, parameters: published.renamed { String($0.dropFirst(prefix.count)) })
        #expect(adapter.layers == layers.sorted())
        #expect(adapter.parameters.elementCount == 18_776_064)
    }

    @Test("SD3's autoencoder")
    func autoencoder() throws {
        let (tensors, path, count) = try parameters("sd3-vae")
        let model = try withConfiguration(path) {
            try AutoencoderKL(AutoencoderKLConfiguration(path: $0), weights: weights(tensors))
        }
        #expect(model.parameters.count == count)
        #expect(model.configuration.spatialFactor == 8)
    }

    @Test("CLIP-L and OpenCLIP bigG", arguments: ["clip-l-text", "clip-bigg-text"])
    func textEncoders(name: String) throws {
        try published(name, as: CLIPTextEncoder.self)
    }

    @Test("PickScore, which is CLIP-H")
    func pickScore() throws {
        let model = try published("pickscore-clip-h", as: CLIPModel.self)
        #expect(model.parameters.elementCount == 986_109_441)
    }

    @Test("CLIP-L with both towers, of a file that also holds position numbers")
    func clipL() throws {
        let (tensors, path, count) = try parameters("clip-l")
        let numbers = { tensor([1, $0]) }
        let old = tensors.merging(
            Parameters([
                "text_model.embeddings.position_ids": numbers(77), "vision_model.embeddings.position_ids": numbers(257),
            ]))
        let model = try withConfiguration(path) {
            try CLIPModel(CLIPConfiguration(path: $0), weights: weights(old))
        }
        #expect(model.parameters.count == count)
    }

    @Test("SigLIP base")
    func siglip() throws {
        let model = try published("siglip-base-patch16-512", as: SiglipModel.self)
        #expect(model.configuration.imageSize == 512)
    }

    @Test("the aesthetic predictor")
    func aesthetic() throws {
        let (tensors, _, count) = try parameters("aesthetic-head")
        let head = try AestheticHead(weights(tensors), width: 768)
        #expect(head.parameters.count == count)
    }

    @Test("T5 v1.1 XXL")
    func t5() throws {
        try published("t5-xxl-encoder", as: T5Encoder.self)
    }

    @Test(
        "DINOv2 and DINOv3 of timm and transformers",
        arguments: [
            "dinov2-s-timm", "dinov2-b-timm", "dinov2-l-timm", "dinov2-g-timm", "dinov2-b-reg4-timm",
            "dinov2-g-reg4-timm",
            "dinov2-s-hf", "dinov2-b-hf", "dinov2-l-hf", "dinov2-g-hf", "dinov2-s-reg4-hf", "dinov2-b-reg4-hf",
            "dinov2-l-reg4-hf", "dinov2-g-reg4-hf", "dinov3-s-timm", "dinov3-b-timm", "dinov3-l-timm",
            "dinov3-l-qkvb-timm", "dinov3-s-hf", "dinov3-b-hf", "dinov3-l-hf",
        ])
    func backbones(name: String) throws {
        let (tensors, path, _) = try parameters(name)
        let needed = tensors.filtered { canonicalName($0) != nil }
        let weights = weights(needed.renamed { canonicalName($0) ?? $0 })
        let model = try withConfiguration(path) {
            try DINOv2(DINOv2Configuration(path: $0, weights: weights), weights: weights)
        }
        #expect(try weights.finish().count == needed.count)
        #expect(model.configuration.width / model.configuration.headCount == 64)
        let size = name.hasPrefix("dinov3") ? (name.hasSuffix("hf") ? 224 : 256) : 518
        #expect(model.configuration.imageSize == size)
        #expect(model.configuration.registerCount == (name.contains("reg4") || name.hasPrefix("dinov3") ? 4 : 0))
    }
}
