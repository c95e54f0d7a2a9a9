import ImageModels
import NeuralNetworks
import TestSupport
import Testing

@testable import AdvGRPO
@testable import MethodModels
@testable import TensorCore

/// The backbone's trained end against timm's gradients and against the frozen network.
@Suite("tunable backbone")
struct TunableBackboneTests {
    private let engine = OpenBLASEngine.shared
    private let folder = Repository.models + "/emoji-sd3-tiny/dino"

    @Test(
        "features and gradients of the last blocks are timm's",
        arguments: ["dino-a", "dino-b", "dino-reg", "dino-swiglu", "dino-v3"])
    func timm(name: String) throws {
        let golden = try Golden("\(name)/golden.safetensors")
        let network = try DINOv2(folder: Repository.fixtures + "/" + name, engine: engine)
        let depth = network.configuration.layerCount
        for blockCount in 1...depth {
            let end = try DINOv2End(
                folder: Repository.fixtures + "/" + name, blockCount: blockCount, engine: engine)
            #expect(end.firstBlock == depth - blockCount)
            let states = network.hiddenStates(try golden.tensor("input", on: engine), layers: [end.firstBlock])[0]
            let layers = end.layers.tracked()
            let features = end.features(states_BTD: states, blocks: [depth - 1], layers: layers, dtype: .float32)
            try expectClose(features.classToken.detached, golden, "cls", relative: 5e-5, absolute: 5e-5)
            try expectClose(
                features.layers[depth - 1]?.detached, golden, "blocks.\(depth - 1)", relative: 5e-5, absolute: 5e-5)
            // Registers get no gradient from what is read; the golden's upstream is split as the tokens are.
            let upstream = network.split(try golden.tensor("grad_output", on: engine))
            guard network.configuration.registerCount == 0 else { continue }
            let loss =
                (features.classToken * upstream.classToken).sum() + (features.patches * upstream.patches).sum()
            for (name, gradient) in layers.gradients(from: loss.gradients()).entries {
                let expected = try golden.floats("grad/\(name)")
                expectClose(gradient.values, expected, relative: 1e-4, absolute: 1e-4, name)
            }
        }
    }

    @Test(
        "untrained it gives the frozen network's features", arguments: [BackboneTraining.last, .lora],
        [DType.float32, .bfloat16])
    func untrained(_ training: BackboneTraining, _ dtype: DType) throws {
        var settings = DiscriminatorSettings(fidelity: .fixed)
        settings.backbone = training
        let chunks = Chunks(size: 3)
        let tuned = try TunableBackbone(folder: folder, settings: settings, seed: 1, engine: engine, chunks: chunks)
            .tuned
        #expect(tuned.firstBlock == (training == .last ? 4 : 0))
        let vision = try VisionBackbone(
            folder: folder, engine: engine, dtype: dtype, resize: .tensor, chunks: chunks)
        let images = engine.tensor(
            Philox(seed: 1, purpose: .tests).normals(3 * 64 * 64 * 3).map { 0.5 + 0.1 * $0 }, shape: [3, 64, 64, 3])
        let lanes = Lanes(count: 1)
        let frozen = vision.function(lanes: lanes)(images, [4, 5], .score)
        let states = vision.states(before: tuned.firstBlock, lanes: lanes)(images, .score)
        let features = tuned.features(states, [4, 5], tuned.parameters, dtype)
        let tolerance: Float = dtype == .float32 ? 0 : 3e-2
        func same(_ a: Tensor, _ b: Tensor, _ what: String) {
            if tolerance == 0 {
                #expect(a.values == b.values, "\(what)")
            } else {
                expectClose(a.values, b.values, relative: tolerance, what)
            }
        }
        same(features.classToken_BD, frozen.classToken_BD, "class")
        same(features.patches_BND, frozen.patches_BND, "patches")
        for block in [4, 5] {
            same(try #require(features.blocks[block]), try #require(frozen.blocks[block]), "block \(block)")
        }
    }

    @Test(
        "an adapter changes attention and feed-forward layers of all blocks, and no more; too many blocks are refused")
    func parameters() throws {
        var settings = DiscriminatorSettings(fidelity: .fixed)
        func tuned() throws -> TunedBackbone {
            try TunableBackbone(folder: folder, settings: settings, seed: 1, engine: engine, chunks: Chunks(size: 2))
                .tuned
        }
        settings.backbone = .lora
        settings.backboneRank = 4
        // Per block: fused queries, keys and values, output, up and down; two factors each.
        #expect(try tuned().parameters.count == 6 * 4 * 2)
        settings.backbone = .last
        settings.backboneBlocks = 1
        #expect(try tuned().parameters.names.allSatisfy { $0.hasPrefix("blocks.5.") })
        settings.backboneBlocks = 7
        let violation = #expect(throws: SettingViolation.self) { _ = try tuned() }
        #expect(violation?.path == "discriminator.backboneBlocks")
    }
}
