import Foundation
import Raster
import TestSupport
import Testing

extension ProcessTests {
    /// `advgrpo score`: frozen rewards of image files.
    @Suite("Score", .timeLimit(.minutes(2)))
    struct ScoreTests {
        private static let backbone = Repository.fixtures + "/dino-a"
        private static let pickScore = Repository.fixtures + "/clip-dual-a"

        /// The fixture's images as PNG files `N.png`, and its logits [image][prompt].
        private func images(_ workspace: Workspace) throws -> [[Float]] {
            let golden = try Golden("clip-dual-a/images.safetensors")
            for number in 0..<4 {
                let shape = try golden.shape("image.\(number)")
                let pixels = try golden.integers("image.\(number)").map(UInt8.init)
                try RGBImage(width: shape[1], height: shape[0], pixels: pixels)
                    .writePNG(to: "\(workspace.path)/\(number).png")
            }
            let logits = try golden.floats("logits")
            return (0..<4).map { Array(logits[$0 * 4..<$0 * 4 + 4]) }
        }

        private func document(_ finished: Finished) throws -> [String: Any] {
            #expect(finished.exit == .status(0), "\(finished.errors)")
            return try #require(
                try JSONSerialization.jsonObject(with: Data(finished.output.utf8)) as? [String: Any])
        }

        @Test("images with one prompt: lines of scores, or a document that says what made them")
        func onePrompt() async throws {
            try await withWorkspace { workspace in
                let logits = try images(workspace)
                let arguments = ["score", "--reward", "pickscore", "--model", Self.pickScore, "--prompt", "cab ab 12"]
                let lines = try await RunningProcess(
                    arguments + ["2.png", "0.png"], folder: workspace.path, name: "lines"
                ).finish()
                let words = lines.output.split(separator: "\n").map { $0.split(whereSeparator: \.isWhitespace) }
                #expect(words.map(\.last) == ["2.png", "0.png"], "\(lines.output)\(lines.errors)")
                expectClose(words.compactMap { Float($0[1]) }, [logits[2][1], logits[0][1]])

                let document = try document(
                    try await RunningProcess(
                        arguments + ["2.png", "0.png", "--json"], folder: workspace.path, name: "json"
                    ).finish())
                let reward = try #require((document["rewards"] as? [[String: Any]])?.first)
                #expect(reward["name"] as? String == "pickscore" && reward["divisor"] as? Int == 26)
                #expect(reward["model"] as? String == Self.pickScore)
                let rows = try #require(document["images"] as? [[String: Any]])
                #expect(rows.map { $0["image"] as? String } == ["2.png", "0.png"])
                #expect(rows.map { $0["prompt"] as? String } == ["cab ab 12", "cab ab 12"])
                let scores = rows.compactMap { ($0["scores"] as? [String: Double])?["pickscore"].map { Float($0) } }
                expectClose(scores, [logits[2][1], logits[0][1]])
            }
        }

        @Test("a file of prompts with their images")
        func batch() async throws {
            try await withWorkspace { workspace in
                let logits = try images(workspace)
                try workspace.write("pairs.json", #"{"abc": ["0.png", "3.png"], "": ["1.png"]}"#)
                let document = try document(
                    try await workspace.run(
                        "score", "--reward", "pickscore", "--model", Self.pickScore, "--images", "pairs.json",
                        "--engine", "openblas", "--threads", "1", "--json"))
                let rows = try #require(document["images"] as? [[String: Any]])
                #expect(rows.map { $0["prompt"] as? String } == ["abc", "abc", ""])
                let scores = rows.compactMap { ($0["scores"] as? [String: Double])?["pickscore"].map { Float($0) } }
                expectClose(scores, [logits[0][0], logits[3][0], logits[1][2]])
            }
        }

        @Test("several rewards at once, and one that needs neither model nor prompt")
        func several() async throws {
            try await withWorkspace { workspace in
                let logits = try images(workspace)
                let alone = try document(
                    try await workspace.run("score", "--reward", "jpeg_compressibility", "1.png", "--json"))
                let row = try #require((alone["images"] as? [[String: Any]])?.first)
                let size = try RGBImage(path: workspace.path + "/1.png").jpegBytes(quality: 95).count
                let kilobytes = try #require((row["scores"] as? [String: Double])?["jpeg_compressibility"])
                #expect(abs(kilobytes + Double(size) / 1000) < 1e-6 && row["prompt"] == nil)
                let both = try await workspace.run(
                    "score", "--reward", "jpeg_compressibility", "--reward", "pickscore", "--model", Self.pickScore,
                    "--prompt", "abc", "1.png")
                let words = both.output.split(whereSeparator: \.isWhitespace)
                #expect(words.count == 5 && words[0] == "jpeg_compressibility" && words[2] == "pickscore")
                expectClose([words[1], words[3]].compactMap { Float($0) }, [Float(kilobytes), logits[1][0]])
            }
        }

        @Test("similarity to a prompt's references is 1 for one of them, and the same both ways round")
        func similarity() async throws {
            try await withWorkspace { workspace in
                func scores(_ references: String, _ pairs: String) async throws -> [Float] {
                    try workspace.write("references.json", references)
                    try workspace.write("pairs.json", pairs)
                    let document = try document(
                        try await workspace.run(
                            "score", "--reward", "image_similarity", "--model", Self.backbone, "--references",
                            "references.json", "--images", "pairs.json", "--json"))
                    return (document["images"] as? [[String: Any]] ?? []).compactMap {
                        ($0["scores"] as? [String: Double])?["image_similarity"].map { Float($0) }
                    }
                }
                let (a, b) = ("data/images/0-0.png", "data/images/1-1.png")
                let first = try await scores(
                    #"{"one": ["\#(a)"], "both": ["\#(a)", "\#(b)"]}"#,
                    #"{"one": ["\#(a)", "\#(b)"], "both": ["\#(b)"]}"#)
                let second = try await scores(#"{"one": ["\#(b)"]}"#, #"{"one": ["\#(a)"]}"#)
                try #require(first.count == 3 && second.count == 1)
                expectClose([first[0], first[2]], [1, 1], relative: 1e-5)
                #expect(first[1] < 0.9999)
                expectClose([first[1]], second, relative: 1e-5)
            }
        }

        @Test("what is missing or wrong is said before anything is computed")
        func mistakes() async throws {
            try await withWorkspace { workspace in
                _ = try images(workspace)
                for (arguments, status, words) in [
                    (
                        ["--reward", "pickscore", "0.png", "--prompt", "a"], 64,
                        "0 --model given, 1 needed: for pickscore"
                    ),
                    (["--reward", "pickscore", "--model", Self.pickScore, "0.png"], 64, "give --prompt"),
                    (
                        ["--reward", "pickscore", "--model", Self.pickScore, "--prompt", "a"], 64,
                        "image files or --images"
                    ),
                    (["--reward", "dino_patch", "0.png"], 64, "dino_patch is of a run's discriminator"),
                    (
                        ["--reward", "image_similarity", "--model", Self.backbone, "--prompt", "a", "0.png"], 64,
                        "--references and --reward image_similarity belong together"
                    ),
                    (
                        [
                            "--reward", "image_similarity", "--model", Self.backbone, "--prompt", "a", "--references",
                            "data/prompt2img.json", "0.png",
                        ], 1, "no references for 1 of 1 prompts: \"a\""
                    ),
                    (["--reward", "beauty", "0.png"], 64, "beauty"),
                    (
                        ["--reward", "pickscore", "--model", "nowhere", "--prompt", "a", "0.png"], 1,
                        "nowhere/config.json"
                    ),
                    (["--reward", "pickscore", "--model", Self.pickScore, "--prompt", "a", "4.png"], 1, "4.png"),
                ] as [([String], Int32, String)] {
                    let finished = try await RunningProcess(
                        ["score"] + arguments, folder: workspace.path, name: "mistake-\(UUID().uuidString)"
                    ).finish()
                    #expect(finished.exit == .status(status), "\(arguments): \(finished.errors)")
                    #expect(finished.errors.contains(words), "\(arguments): \(finished.errors)")
                    #expect(finished.output.isEmpty)
                }
            }
        }
    }
}
