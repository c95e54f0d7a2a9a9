import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// `advgrpo bench`: the figures that comparisons with PyTorch rest on.
    @Suite("Bench", .optimized, .timeLimit(.minutes(2)))
    struct BenchTests {
        private static let phases: Set = ["sample", "decode", "score", "discriminator", "policy"]

        private static let model = Repository.models + "/emoji-sd3-tiny"

        private func bench(_ workspace: Workspace, _ arguments: String...) async throws -> [String: Any] {
            let finished = try await RunningProcess(
                ["bench", Self.model, "--group", "2", "--text-tokens", "16", "--repeat", "1"] + arguments,
                folder: workspace.path, name: "bench"
            ).finish()
            #expect(finished.exit == .status(0), "\(finished.errors)")
            return try #require(
                try JSONSerialization.jsonObject(with: Data(finished.output.utf8)) as? [String: Any],
                "\(finished.output)")
        }

        @Test("the report has the keys of the PyTorch peer and says what was computed how")
        func keys() async throws {
            try await withWorkspace { workspace in
                let report = try await bench(workspace, "--threads", "2", "--json")
                #expect(report["peer"] as? String == "advgrpo")
                #expect(report["models"] as? String == "emoji-sd3-tiny")
                #expect(report["dtype"] as? String == "fp32")
                #expect(report["threads"] as? Int == 2)
                #expect(report["images"] as? Int == 2)
                let seconds = try #require(report["seconds"] as? [String: Double])
                #expect(Set(seconds.keys) == Self.phases && seconds.values.allSatisfy { $0 > 0 })
                let sum = seconds.values.reduce(0, +)
                #expect(abs((report["epoch"] as? Double ?? 0) - sum) < 1e-4)
                for key in ["gigaflopsPerSecond", "shareOfPeak", "processorSeconds", "systemAllocations"] {
                    #expect(Set((report[key] as? [String: Double] ?? [:]).keys) == Self.phases, "\(key)")
                }
                #expect((report["productPeak"] as? [String: Double])?["fp32"] ?? 0 > 0)
                #expect(report["peakMemoryBytes"] as? Int ?? 0 > 1 << 20)
                #expect((report["engine"] as? String)?.hasPrefix("onednn: ") == true)
                #expect((report["processor"] as? String)?.isEmpty == false)
                let work = try #require(report["work"] as? [String: Any])
                #expect(work["steps"] as? Int == 10 && work["window"] as? Int == 2 && work["chunk"] as? Int == 1)
                #expect(work["imageTokens"] as? Int == 64 && work["textTokens"] as? Int == 16)
            }
        }

        @Test("operations are those of the models: the tiny model's, by hand")
        func operations() async throws {
            try await withWorkspace { workspace in
                let report = try await bench(workspace, "--threads", "1", "--precision", "bf16", "--json")
                let flops = try #require(report["flops"] as? [String: Int])
                // MMDiT, D = 192, 6 blocks, 64 image and 16 text tokens, two blocks with a second attention on the image:
                // embeddings 2 (256 D + D² + D D + D²) + text 2·16 D² + patches 2·64·64 D
                let embeddings = 2 * (256 * 192 + 3 * 36_864) + 2 * 16 * 36_864 + 2 * 64 * 64 * 192
                // modulations 2 D² (6 + 6), +3 with a second attention, -4 in the last block; the output's 2
                let modulations = 2 * 36_864 * (6 * 12 + 2 * 3 - 4 + 2)
                // query, key, value, output 4·2 D² and the feed-forward layer's 8·2 D² a token; the last block's text has 3·2 D²
                let tokens = 5 * 80 * 24 * 36_864 + (64 * 24 + 16 * 6) * 36_864 + 2 * 64 * 8 * 36_864
                // attention 4 n² D
                let attention = 6 * 4 * 80 * 80 * 192 + 2 * 4 * 64 * 64 * 192
                let output = 2 * 64 * 192 * 64
                let forward = embeddings + modulations + tokens + attention + output
                #expect(flops["sample"] == 10 * 2 * 2 * forward)
                // Two window steps, adapter of rank 32 and its gradients included: by a script, layer by layer.
                #expect(flops["policy"] == 8_938_782_720)
                // 3 x 3 convolutions at 16², 32² and 64² pixels: 18 · pixels · input · output
                let decoder = [
                    18 * 256 * (16 * 64 + 8 * 4096), 18 * 1024 * (4096 + 4 * 4096), 18 * 4096 * 4096,
                    18 * 4096 * (2048 + 3 * 1024 + 96) + 2 * 4096 * 2048,
                ]
                #expect(flops["decode"] == 2 * decoder.reduce(0, +))
                // ViT-T/8 at 64², 65 tokens; the head on the class token and 64 patches
                let block = 65 * 24 * 36_864 + 4 * 65 * 65 * 192
                let (first, second) = (2 * 65 * 192 * 512, 2 * 65 * 512)
                #expect(flops["score"] == 2 * (2 * 64 * 192 * 192 + 6 * block + first + second))
                #expect(flops["discriminator"] == 2 * 2 * (2 * first + 3 * second))
            }
        }

        @Test("in steady state no phase asks the system for memory", arguments: ["fp32", "bf16"])
        func allocations(precision: String) async throws {
            try await withWorkspace { workspace in
                // One thread: with two, how many blocks are in use at once depends on who is faster.
                let report = try await bench(
                    workspace, "--threads", "1", "--precision", precision, "--repeat", "4", "--json")
                let allocations = try #require(report["systemAllocations"] as? [String: Int])
                #expect(allocations == Dictionary(uniqueKeysWithValues: Self.phases.map { ($0, 0) }))
            }
        }

        @Test("without --json a table, and only the phases asked for")
        func table() async throws {
            try await withWorkspace { workspace in
                let finished = try await workspace.run(
                    "bench", Self.model, "--group", "2", "--repeat", "1", "--phase",
                    "discriminator")
                #expect(finished.exit == .status(0), "\(finished.errors)")
                #expect(finished.output.contains("\ndiscriminator ") && !finished.output.contains("\nsample "))
                let missing = try await workspace.run("bench", "nowhere")
                #expect(missing.exit == .status(1) && missing.errors.contains("nowhere/transformer/config.json"))
            }
        }
    }
}
