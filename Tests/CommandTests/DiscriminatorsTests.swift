import Foundation
import Raster
import TestSupport
import Testing
import TinyRun

extension ProcessTests {
    /// `advgrpo discriminators`: heads tried on given images.
    @Suite("Discriminators", .timeLimit(.minutes(2)))
    struct DiscriminatorsTests {
        struct Document: Decodable {
            struct Point: Decodable {
                var steps: Int
                var seconds: Double, auc: Double, margin: Double
            }
            var head: String
            var images: String
            var readingSeconds: Double
            var points: [Point]
            var gradientCosine: Double?, gradientCosineStandardError: Double?
        }

        /// Discs on noise as references of ten prompts, and grey images without any as generated ones.
        private func writeImages(_ workspace: Workspace) throws {
            var (references, images): ([String: [String]], [String: [String]]) = ([:], [:])
            for prompt in 0..<10 {
                references["prompt \(prompt)"] = (0..<2).map { "data/images/\(prompt % 6)-\($0).png" }
                images["prompt \(prompt)"] = ["made-\(prompt).png"]
                let grey = (0..<64 * 64).flatMap { position -> [UInt8] in
                    let level = UInt8((position * (prompt + 3)) % 90 + 60)
                    return [level, level, level]
                }
                try RGBImage(width: 64, height: 64, pixels: grey)
                    .writePNG(to: "\(workspace.path)/made-\(prompt).png")
            }
            func write(_ name: String, _ lists: [String: [String]]) throws {
                try workspace.write(name, String(decoding: try JSONEncoder().encode(lists), as: UTF8.self))
            }
            try write("references.json", references)
            try write("made.json", images)
            try workspace.write("unused.txt", "none of these\n")
            try workspace.write("prompts.txt", references.keys.sorted().joined(separator: "\n") + "\n")
        }

        private func arguments(_ more: [String]) -> [String] {
            [
                "discriminators", "settings.yaml", "--images", "made.json", "--set", "data.references=references.json",
                "--set", "data.prompts=prompts.txt", "--set", "data.evaluationPrompts=unused.txt", "--set",
                "discriminator.realBatch=8", "--set", "reward.references=raw", "--set",
                "discriminator.learningRate=0.01",
            ] + more
        }

        @Test("heads are trained one after the other; points, and a sheet of what each believes")
        func heads() async throws {
            try await withWorkspace { workspace in
                try writeImages(workspace)
                let finished = try await RunningProcess(
                    arguments([
                        "--head", "texture", "--head", "dino_relative", "--steps", "12", "--out", "sheets", "--json",
                    ]),
                    folder: workspace.path, name: "heads"
                ).finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(finished.errors.contains("evaluationBackbone is the reward's"), "\(finished.errors)")
                let heads = try JSONDecoder().decode([Document].self, from: Data(finished.output.utf8))
                #expect(heads.map(\.head) == ["texture", "dino_relative"])
                #expect(heads.allSatisfy { $0.images == "made.json" })
                #expect(heads[0].gradientCosine == nil, "the host's statistics have no gradient")
                let cosine = try #require(heads[1].gradientCosine)
                #expect(abs(cosine) < 1 && cosine != 0 && heads[1].gradientCosineStandardError ?? 0 > 0)
                for head in heads {
                    #expect(head.points.map(\.steps) == [0, 1, 2, 4, 8, 12])
                    #expect(head.points.last?.auc == 1 && head.points.last?.margin ?? 0 > 0.5, "\(head)")
                    #expect(zip(head.points, head.points.dropFirst()).allSatisfy { $0.seconds < $1.seconds })
                    // The images of every other prompt, a row of five.
                    let sheet = try RGBImage(path: "\(workspace.path)/sheets/\(head.head).png")
                    #expect(sheet.width == 5 * 68 + 4 && sheet.height == 68 + 4)
                }
            }
        }

        @Test("of a run: its base and its snapshots, each with every head")
        func ofRun() async throws {
            try await withWorkspace { workspace in
                try writeImages(workspace)
                let settings = [
                    "--set", "data.references=references.json", "--set", "data.prompts=prompts.txt", "--set",
                    "data.evaluationPrompts=unused.txt", "--set", "discriminator.realBatch=8", "--set",
                    "policy.start=sft(1)", "--set", "supervised.stepsPerEpoch=1", "--set", "run.epochs=2", "--set",
                    "run.snapshotEvery=1",
                ]
                let trained = try await RunningProcess(
                    ["train", "settings.yaml", "--run-dir", "run"] + settings, folder: workspace.path, name: "train"
                ).finish()
                #expect(trained.exit == .status(0), "\(trained.errors)")
                let finished = try await workspace.run(
                    "discriminators", "run", "--head", "dino_cls", "--prompts", "4", "--steps", "1", "--out", "sheets",
                    "--json")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                let heads = try JSONDecoder().decode([Document].self, from: Data(finished.output.utf8))
                #expect(heads.map(\.images) == ["base", "epoch 1", "epoch 2"])
                #expect(heads.allSatisfy { $0.points.map(\.steps) == [0, 1] && $0.gradientCosine != nil })
                // Other policies, other images, other figures.
                #expect(Set(heads.map { $0.points[0].margin }).count == 3)
                for number in 1...3 { #expect(workspace.exists("sheets/\(number)-dino_cls.png")) }
                // The policies are sampled with the run's own settings.
                let without = try await workspace.run("discriminators", "settings.yaml", "--head", "dino_cls")
                #expect(without.exit == .status(1) && without.errors.contains("--images"), "\(without.errors)")
            }
        }

        @Test("what cannot be tried is refused by name")
        func refused() async throws {
            try await withWorkspace { workspace in
                try writeImages(workspace)
                func refusal(_ more: String...) async throws -> String {
                    let finished = try await RunningProcess(
                        arguments(["--head", "texture"] + more), folder: workspace.path,
                        name: "refused-\(UUID().uuidString.prefix(8))"
                    ).finish()
                    #expect(finished.exit != .status(0) && finished.output.isEmpty)
                    return finished.errors
                }
                #expect(try await refusal("--set", "discriminator.realBatch=0").contains("discriminator.realBatch"))
                #expect(try await refusal("--head", "pickscore_adversarial").contains("pickscore_adversarial"))
                #expect(try await refusal("--set", "rollout.resolution=32").contains("64 x 64"))
                try workspace.write("made.json", #"{"prompt 1": ["made-1.png"]}"#)
                #expect(try await refusal().contains("one prompt"))
                try workspace.write("made.json", #"{"prompt 1": ["made-1.png"], "elsewhere": ["made-2.png"]}"#)
                #expect(try await refusal().contains("elsewhere"))
            }
        }
    }
}
