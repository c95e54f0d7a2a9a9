import Foundation
import NeuralNetworks
import TensorCore
import TestSupport
import Testing

@testable import ImageModels

/// timm's name for one tensor of a file; nil for one that is not read.
func canonicalName(_ name: String) -> String? {
    (try? DINOv2WeightNames(of: [name], source: ""))?.canonical[name]
}

/// The vision transformer against timm, and the same weights under transformers' names.
@Suite struct DINOv2Tests {
    static let timm = ["dino-a", "dino-b", "dino-reg", "dino-swiglu", "dino-v3"]

    @Test("tokens after every block and after the final norm equal the reference's", arguments: timm)
    func tokens(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine)
            let layers = Array(1...model.configuration.layerCount)
            let states = model.hiddenStates(try golden.tensor("input", on: engine), layers: layers)
            for (layer, state) in zip(layers, states) { try expectClose(state, golden, "blocks.\(layer - 1)") }
            let tokens = model.normalized(states[states.count - 1])
            try expectClose(tokens, golden, "tokens")
            let (classToken, patches) = model.split(tokens)
            try expectClose(classToken, golden, "cls")
            let grid = model.configuration.gridSize
            #expect(patches.shape == [2, grid * grid, model.configuration.width])
        }
    }

    @Test("weights that stay in their file give the same tokens", arguments: timm)
    func mapped(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        let folder = Repository.fixtures + "/" + name
        for engine in testEngines {
            let weights = try Weights(
                path: folder, engine: engine, mappedFrom: 0, rename: canonicalName)
            let model = try DINOv2(
                DINOv2Configuration(path: folder + "/config.json", weights: weights), weights: weights)
            let states = model.hiddenStates(
                try golden.tensor("input", on: engine), layers: [model.configuration.layerCount])
            try expectClose(model.normalized(states[0]), golden, "tokens")
        }
    }

    @Test("gradients of every parameter and of the pixels equal the reference's", arguments: timm)
    func gradients(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let (configuration, tensors) = try parts(name, engine)
            let parameters = tensors.tracked()
            let model = try DINOv2(configuration, weights: Weights(parameters, source: name, engine: engine))
            let pixels = try golden.tensor("input", on: engine).tracked()
            let states = model.hiddenStates(pixels, layers: [model.configuration.layerCount])
            let gradients = model.normalized(states[0]).gradients(
                upstream: try golden.tensor("grad_output", on: engine))
            try expectClose(gradients[pixels], golden, "grad_input")
            let names = golden.names(below: "grad/")
            #expect(parameters.names == names.compactMap(canonicalName).sorted())
            for name in names {
                let tensor = try #require(canonicalName(name).flatMap { parameters[$0] })
                try expectClose(gradients[tensor], golden, "grad/" + name)
            }
        }
    }

    @Test("files of transformers give the same tokens", arguments: ["dino-b-hf", "dino-reg-hf"])
    func huggingFace(name: String) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine)
            let states = model.hiddenStates(
                try golden.tensor("input", on: engine), layers: [model.configuration.layerCount])
            try expectClose(model.normalized(states[0]), golden, "tokens")
        }
    }

    @Test(
        "transformers' classes give the reference's tokens, also at another size",
        arguments: [("dino-swiglu-hf", 42), ("dino-v3-hf", 48)])
    func huggingFaceOnly(name: String, other: Int) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine)
            let states = model.hiddenStates(try golden.tensor("input", on: engine), layers: [1, 2])
            try expectClose(states[0], golden, "blocks.0")
            let tokens = model.normalized(states[1])
            try expectClose(tokens, golden, "tokens")
            try expectClose(model.split(tokens).classToken, golden, "cls")
            let resized = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine, imageSize: other)
            let state = resized.hiddenStates(try golden.tensor("resized/input", on: engine), layers: [2])[0]
            try expectClose(resized.normalized(state), golden, "resized/tokens")
        }
    }

    @Test(
        "Meta's names and classifiers give the tokens of timm and transformers; heads are named",
        arguments: [
            ("dino-meta", ["local_cls_norm.bias", "local_cls_norm.weight"]),
            ("dino-head", ["classifier.bias", "classifier.weight"]),
        ])
    func users(name: String, leftOut: [String]) throws {
        let golden = try Golden(name + "/golden.safetensors")
        for engine in testEngines {
            let model = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine)
            #expect(model.leftOut == leftOut)
            let states = model.hiddenStates(
                try golden.tensor("input", on: engine), layers: [model.configuration.layerCount])
            try expectClose(model.normalized(states[0]), golden, "tokens")
        }
    }

    @Test("periods of another base than the configured one are refused")
    func periods() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "dino-\(UUID().uuidString)").path
        try FileManager.default.copyItem(atPath: Repository.fixtures + "/dino-meta", toPath: folder)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try #"{"num_heads": 2, "img_size": 32, "rope_theta": 10000}"#.write(
            toFile: folder + "/config.json", atomically: true, encoding: .utf8)
        let error = #expect(throws: ModelError.self) { _ = try DINOv2(folder: folder, engine: OpenBLASEngine.shared) }
        #expect(error?.code == .unsupported && error?.message.contains("rope_theta") == true)
    }

    @Test("wrappers, chunked blocks and pretraining heads are told apart; the teacher is the model")
    func wrappedNames() throws {
        let sorted = try DINOv2WeightNames(
            of: [
                "module.teacher.backbone.blocks.1.12.ls1.gamma", "student.backbone.cls_token",
                "teacher.dino_head.mlp.0.weight",
                "teacher.backbone.mask_token", "teacher.backbone.storage_tokens", "dino_loss.center",
            ], source: "x")
        #expect(
            sorted.canonical == [
                "module.teacher.backbone.blocks.1.12.ls1.gamma": "blocks.12.ls1.gamma",
                "teacher.backbone.storage_tokens": "reg_token",
            ])
        #expect(sorted.leftOut == ["dino_loss.center", "student.backbone.cls_token", "teacher.dino_head.mlp.0.weight"])
        // A number in a layer's own name is none of a block's.
        #expect(canonicalName("backbone.blocks.3.mlp.w12.weight") == "blocks.3.mlp.fc1.weight")
        #expect(
            try DINOv2WeightNames(of: ["norm.weight", "fc_norm.weight"], source: "x").leftOut == ["fc_norm.weight"])
        let error = #expect(throws: ModelError.self) {
            _ = try DINOv2WeightNames(of: ["blocks.0.norm1.weight", "fc_norm.weight"], source: "x")
        }
        #expect(error?.code == .unsupported)
    }

    @Test("features normalise pixels by the configuration, and layer 0 is the embedding")
    func features() throws {
        for engine in testEngines {
            let model = try DINOv2(folder: Repository.fixtures + "/dino-b", engine: engine)
            let golden = try Golden("dino-b/golden.safetensors")
            let pixels = try golden.tensor("input", on: engine)
            // Undo the normalisation: image = pixel · deviation + mean.
            let configuration = model.configuration
            let images =
                pixels.transposed(0, 2, 3, 1) * engine.tensor(configuration.deviation, shape: [3])
                + engine.tensor(configuration.mean, shape: [3])
            let features = model.features(images, layers: [1, 0])
            expectClose(model.normalizedPixels(images), pixels, relative: 1e-5, "pixels")
            try expectClose(features.classToken, golden, "cls")
            try expectClose(features.layers[1], golden, "blocks.0")
            let embedding = model.hiddenStates(pixels, layers: [0])[0]
            expectClose(try #require(features.layers[0]), embedding, relative: 1e-4, "embedding")
            let smaller = model.features(images.resizedBicubic(height: 30, width: 30))
            #expect(smaller.patches.shape == features.patches.shape)
        }
    }

    @Test("the base model's backbone loads from bf16 in both precisions")
    func baseModel() throws {
        let folder = Repository.models + "/emoji-sd3-tiny/dino"
        let engine = OpenBLASEngine.shared
        let model = try DINOv2(folder: folder, engine: engine)
        #expect(model.configuration.headCount == 3 && model.configuration.gridSize == 8)
        let images = engine.tensor(
            Philox(seed: 1, purpose: .tests).normals(64 * 64 * 3).map { min(1, max(0, $0 * 0.3 + 0.5)) },
            shape: [1, 64, 64, 3])
        let exact = model.features(images).classToken
        let rounded = try DINOv2(folder: folder, engine: engine, dtype: .bfloat16).features(images).classToken
        expectClose(rounded, exact, relative: 0.05, "bf16 against fp32")
    }

    @Test(
        "position tables are resized as each library resizes them",
        arguments: [("dino-a", 6, 5), ("dino-b", 4, 5), ("dino-reg", 2, 4), ("dino-b-hf", 4, 5), ("dino-reg-hf", 2, 4)])
    func resizedTable(name: String, rows: Int, columns: Int) throws {
        let engine = OpenBLASEngine.shared
        let model = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine)
        let configuration = model.configuration
        let table = try #require(parts(name, engine).tensors["pos_embed"]).values
        let first = configuration.hasClassPosition ? configuration.width : 0
        let resized = PositionTable.resized(
            Array(table[first...]), side: configuration.tableSide, width: configuration.width, rows: rows,
            columns: columns, antialias: configuration.resizesWithAntialiasing)
        let golden = try Golden(name + "/golden.safetensors").floats("resized/position_embedding")
        expectClose(resized, Array(golden.suffix(resized.count)), relative: 1e-5, name)
    }

    @Test("a model at another size has that size's patches, also made of its tensors")
    func otherSize() throws {
        for engine in testEngines {
            let image = engine.tensor([Float](repeating: 0.4, count: 32 * 32 * 3), shape: [1, 32, 32, 3])
            for (name, size) in [("dino-b", 56), ("dino-reg", 28), ("dino-v3", 48)] {
                let (configuration, tensors) = try parts(name, engine, imageSize: size)
                let model = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine, imageSize: size)
                let features = model.features(image)
                let grid = size / model.configuration.patchSize
                #expect(features.patches.shape == [1, grid * grid, model.configuration.width])
                let isFinite = features.patches.values.allSatisfy { $0.isFinite }
                #expect(isFinite)
                let again = try DINOv2(configuration, weights: Weights(tensors, source: name, engine: engine))
                    .features(image)
                #expect(again.classToken.values == features.classToken.values)
            }
        }
    }

    /// Configuration and tensors, by the model's names, of a fixture.
    private func parts(_ name: String, _ engine: any Engine, imageSize: Int? = nil) throws -> (
        configuration: DINOv2Configuration, tensors: Parameters
    ) {
        let folder = Repository.fixtures + "/" + name
        let weights = try Weights(path: folder, engine: engine, rename: canonicalName)
        let configuration = try DINOv2Configuration(
            path: folder + "/config.json", weights: weights, imageSize: imageSize)
        _ = try DINOv2(configuration, weights: weights)
        return (configuration, try weights.finish())
    }

    @Test("a configuration that contradicts the weights is refused")
    func contradiction() throws {
        let engine = OpenBLASEngine.shared
        try withTemporaryFolder { temporary in
            let path = temporary + "/config.json"
            for (name, json, message) in [
                ("dino-b", #"{"embed_dim": 32}"#, "embed_dim is 32, the weights say 16"),
                (
                    "dino-b", #"{"num_heads": 2, "img_size": 60}"#,
                    "image size 60 is no multiple of the patch size 14 up to 8192"
                ),
                ("dino-b", #"{"num_heads": 3}"#, "3 heads do not divide width 16"),
                ("dino-b", #"{"num_heads": 2, "hidden_act": "relu"}"#, "hidden_act relu is not supported"),
                (
                    "dino-v3", #"{"num_heads": 8}"#,
                    "rotary positions need heads whose width is a multiple of 4, not 2"
                ),
                (
                    "dino-v3", #"{"num_heads": 2, "img_size": 1048576}"#,
                    "image size 1048576 is no multiple of the patch size 16 up to 8192"
                ),
            ] {
                let folder = Repository.fixtures + "/" + name
                try Data(json.utf8).write(to: URL(fileURLWithPath: path))
                let error = #expect(throws: ModelError.self) {
                    try DINOv2Configuration(path: path, weights: Weights(path: folder, engine: engine))
                }
                #expect(error?.message == message)
            }
        }
    }
}
