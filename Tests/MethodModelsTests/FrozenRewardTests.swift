import AdvGRPO
import Foundation
import NeuralNetworks
import Raster
import TensorCore
import TestSupport
import Testing

@testable import MethodModels

/// Rewards of frozen models, from image files' pixels and prompts to scores, against the libraries that made the models.
@Suite struct FrozenRewardTests {
    private struct Document: Decodable { var prompts: [String] }

    @Test("every row that the discriminator does not give has a loader, and no other")
    func loaders() {
        for component in RewardComponent.allCases {
            #expect((FrozenReward.loader(of: component) == nil) == component.isAdversarial, "\(component.rawValue)")
        }
        let files = RewardComponent.allCases.flatMap(FrozenReward.additionalFiles)
        #expect(files == ["sac+logos+ava1-l14-linearMSE.safetensors"])
    }

    @Test(
        "each image's logit with its own prompt, whatever the batch",
        arguments: [("pickscore", "clip-dual-a"), ("siglip", "siglip-a")])
    func imageText(component: String, fixture: String) throws {
        let folder = Repository.fixtures + "/" + fixture
        let golden = try Golden(fixture + "/images.safetensors")
        let prompts = try JSONDecoder().decode(
            Document.self, from: Data(contentsOf: URL(fileURLWithPath: folder + "/scores.json"))
        ).prompts
        let images = try (0..<4).map { try golden.image("image.\($0)") }
        let (pairs, expected) = (
            prompts.indices.flatMap { p in images.indices.map { ($0, p) } }, try golden.floats("logits")
        )
        for engine in testEngines {
            let reward = try frozenReward(component, folder: folder, engine: engine, chunk: 3)
            let scores = try reward.scores(
                of: pairs.map { images[$0.0] }, prompts: pairs.map { prompts[$0.1] }, lanes: Lanes(count: 2))
            expectClose(scores, pairs.map { expected[$0.0 * prompts.count + $0.1] }, "\(component) on \(engine.name)")
            let alone = try reward.scores(of: [images[1]], prompts: [prompts[3]], lanes: Lanes(count: 1))
            expectClose(alone, [expected[1 * prompts.count + 3]], "alone")
            let none = try reward.scores(of: [], prompts: [], lanes: Lanes(count: 1))
            #expect(none.isEmpty)
        }
    }

    @Test("aesthetic ratings equal the reference's, and a predictor for another CLIP is refused")
    func aesthetic() throws {
        let folder = Repository.fixtures + "/clip-dual-a"
        let golden = try Golden("clip-dual-a/images.safetensors")
        let images = try (0..<4).map { try golden.image("image.\($0)") }
        for engine in testEngines {
            let reward = try frozenReward("aesthetic", folder: folder, engine: engine, chunk: 3)
            let scores = try reward.scores(
                of: images, prompts: ["", "", "", ""], lanes: Lanes(count: 2))
            expectClose(scores, try golden.floats("aesthetic"), "on \(engine.name)")
        }
        try withTemporaryFolder { temporary in
            let name = "/sac+logos+ava1-l14-linearMSE.safetensors"
            for file in ["config.json", "model.safetensors"] {
                try FileManager.default.copyItem(
                    atPath: Repository.fixtures + "/clip-dual-b/" + file, toPath: temporary + "/" + file)
            }
            func load() throws {
                _ = try frozenReward("aesthetic", folder: temporary)
            }
            #expect("\(#expect(throws: (any Error).self) { try load() }!)".contains(name))
            try FileManager.default.copyItem(atPath: folder + name, toPath: temporary + name)
            let error = #expect(throws: ModelError.self) { try load() }
            #expect(error?.message == "tensor layers.0.weight has shape [16, 12], the model needs [16, 8]")
        }
    }

    @Test("JPEG compressibility is minus the thousands of bytes that Pillow writes")
    func jpeg() throws {
        let folder = Repository.fixtures + "/Raster/"
        let names = ["source", "bicubic-64x64"]
        let reward = try frozenReward("jpeg_compressibility")
        let scores = try reward.scores(
            of: names.map { try RGBImage(path: folder + $0 + ".png") }, prompts: ["", ""], lanes: Lanes(count: 2))
        let expected = try names.map {
            -Float(try Data(contentsOf: URL(fileURLWithPath: folder + $0 + "-95.jpg")).count) / 1000
        }
        #expect(scores == expected)
    }

    @Test(
        "a map's mean differs between images as the score does, and what the square leaves out adds nothing",
        arguments: [("pickscore", "clip-dual-a"), ("aesthetic", "clip-dual-a"), ("siglip", "siglip-a")])
    func maps(name: String, folder: String) throws {
        for (width, height) in [(24, 24), (48, 24)] {
            let images = (0..<3).map { number in
                let noise = Philox(seed: 5, purpose: .tests, number).normals(width * height * 3)
                return RGBImage(
                    width: width, height: height, pixels: noise.map { UInt8(min(max(128 + 6 * $0, 0), 255)) })
            }
            for engine in testEngines {
                let reward = try frozenReward(name, folder: Repository.fixtures + "/" + folder, engine: engine)
                let prompts = [String](repeating: "a", count: 3)
                let scores = try reward.scores(of: images, prompts: prompts, lanes: Lanes(count: 1))
                let attribution = Attribution(chunks: Chunks(size: 2), lanes: Lanes(count: 2))
                let maps = try #require(try reward.maps(of: images, prompt: "a", attribution: attribution))
                func centred(_ values: [Float]) -> [Float] {
                    values.map { $0 - values.reduce(0, +) / Float(values.count) }
                }
                let means = maps.values.map { Float($0.reduce(0, +) / Double($0.count)) }
                expectClose(centred(means), centred(scores), relative: 2e-2, "\(name), \(width) on \(engine.name)")
                #expect(maps.values.allSatisfy { Set($0).count > 1 })
                if width > height, name != "siglip" {
                    #expect(maps.values.allSatisfy { $0[0] == 0 && $0[maps.grid.columns - 1] == 0 })
                }
            }
        }
        #expect(
            try frozenReward("jpeg_compressibility").maps(
                of: [RGBImage(width: 8, height: 8, color: .white)], prompt: "",
                attribution: Attribution(chunks: Chunks(size: 1), lanes: Lanes(count: 1))) == nil)
    }

    @Test("a tokenizer of another model is refused")
    func otherTokenizer() throws {
        try withTemporaryFolder { folder in
            let source = Repository.fixtures + "/clip-dual-a/"
            for file in ["config.json", "model.safetensors"] {
                try FileManager.default.copyItem(atPath: source + file, toPath: "\(folder)/\(file)")
            }
            let base = Repository.models + "/emoji-sd3-tiny/tokenizer/"
            for file in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
                try FileManager.default.copyItem(atPath: base + file, toPath: "\(folder)/\(file)")
            }
            let reward = try frozenReward("pickscore", folder: folder)
            let image = RGBImage(width: 24, height: 24, color: .white)
            let error = #expect(throws: ModelError.self) {
                try reward.scores(of: [image], prompts: ["a"], lanes: Lanes(count: 1))
            }
            #expect(error?.message.hasSuffix("the model knows 21") == true)
        }
    }
}
