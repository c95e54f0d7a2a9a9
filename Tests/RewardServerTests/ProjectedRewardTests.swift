import AdvGRPO
import ComputeRoles
import Configuration
import Foundation
import Logging
import MethodModels
import Protocol
import TensorCore
import TestSupport
import Testing
import TinyRun

@testable import RewardServer

/// A reward that is told the prompt, and what the reward server loads for it.
@Suite("Reward server with dino_projected", .timeLimit(.minutes(2)))
struct ProjectedRewardTests {
    private static let overrides = [
        "reward.weights.texture=0", "reward.weights.dino_projected=1", "reward.projectedLayers=[2,-1]",
        "reward.references=raw", "discriminator.augmentedViews=2",
    ]

    @Test("scores, maps, trains, and goes on in another process with the same bits")
    func restored() throws {
        var state = TensorSet()
        let overrides = Self.overrides + ["policy.advantage=patch"]
        func next(_ bench: RewardBench) throws -> ([Scores], DiscriminatorTrained) {
            try bench.open(1)
            return (try bench.scores(1, version: 1), try bench.train(1, from: 1))
        }
        var first: ([Scores], DiscriminatorTrained)?
        try withRewardServer(overrides: overrides) { bench in
            try bench.restore()
            try bench.open(0)
            let scores = try bench.scores(0)
            #expect(scores.allSatisfy { Set($0.components.keys) == ["dino_projected"] })
            #expect(scores.allSatisfy { $0.maps?.shape == [2, 8, 8] })
            _ = try bench.train(0, from: 0)
            state = try bench.state(1)
            first = try next(bench)
        }
        try withRewardServer(overrides: overrides) { bench in
            try bench.restore(1, state)
            let second = try next(bench)
            #expect(first?.0 == second.0 && first?.1 == second.1)
        }
    }

    /// The base model without its first text encoder's weights.
    private func mute(in folder: String) throws -> String {
        let (model, base) = (folder + "/model", Repository.models + "/emoji-sd3-tiny")
        try FileManager.default.createDirectory(atPath: model, withIntermediateDirectories: true)
        for name in try FileManager.default.contentsOfDirectory(atPath: base) where name != "text_encoder" {
            try FileManager.default.createSymbolicLink(
                atPath: "\(model)/\(name)", withDestinationPath: "\(base)/\(name)")
        }
        return model
    }

    @Test("only runs with this head load text encoders, compare them with the learner's, and plan for them")
    func loading() throws {
        try withTemporaryFolder { folder in
            let plain = try TinyRun.load(in: folder, overrides: ["reward.references=raw"])
            let told = try TinyRun.load(in: folder, overrides: Self.overrides)
            let mute = try mute(in: folder)
            let engine = OpenBLASEngine.shared
            func scorer(_ overrides: [String]) throws -> Scorer {
                try Scorer(
                    settings: TinyRun.load(in: folder, overrides: overrides + ["model=\(mute)"]), engine: engine)
            }
            _ = try scorer(["reward.references=raw"])
            let error = #expect(throws: (any Error).self) { _ = try scorer(Self.overrides) }
            #expect("\(String(describing: error))".contains("text_encoder"), "\(String(describing: error))")

            func digests(_ settings: Settings) throws -> Set<String> {
                Set(
                    try RewardIntroduction(
                        settings,
                        versions: ProgramVersions(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
                    ).models.keys)
            }
            #expect(try digests(plain) == ["rewardBackbone"])
            #expect(try digests(told).isSuperset(of: ["rewardBackbone", "model/text_encoder", "model/tokenizer"]))
            #expect(try !digests(told).contains("model/transformer"))

            func weights(_ settings: Settings) throws -> Int {
                let engine = RehearsalEngine(trace: MemoryTrace())
                _ = try RewardServerRehearsal.run(settings, engine: engine, epochCount: 2)
                return engine.trace.peak.byteCounts[.weights] ?? 0
            }
            let encoders = try ["text_encoder", "text_encoder_2"].reduce(0) { sum, name in
                let file = "\(Repository.models)/emoji-sd3-tiny/\(name)/model.safetensors"
                let size = try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int
                return sum + (size ?? 0)
            }
            #expect(try weights(told) - weights(plain) > encoders / 2, "text encoders have \(encoders) bytes on disk")
        }
    }
}
