import Foundation
import SafeTensors
import TestSupport
import Testing

/// One way in which a file of a model or a data set is not what it should be.
struct Fault: Sendable, CustomTestStringConvertible {
    let name: String
    /// Words of the one sentence: the file or key, and what is wrong.
    let words: [String]
    /// Commands that read the file, and so must refuse it.
    let commands: [String]
    let apply: @Sendable (Workspace) throws -> Void
    var testDescription: String { name }

    /// Commands that load the whole pipeline.
    private static let pipeline = ["sample", "evaluate", "plan", "train"]

    static let all: [Fault] = [
        Fault(
            name: "a weight that is not a number", words: ["transformer", "not finite"],
            commands: ["sample", "evaluate", "train"]
        ) { try $0.damage("model/transformer/diffusion_pytorch_model.safetensors") },
        Fault(
            name: "a weight of a text encoder", words: ["text_encoder", "not finite"],
            commands: ["sample", "evaluate", "train"]
        ) { try $0.damage("model/text_encoder/model.safetensors") },
        Fault(
            name: "a weight of the backbone", words: ["backbone", "not finite"],
            commands: ["evaluate", "train", "score"]
        ) { try $0.damage("backbone/model.safetensors") },
        Fault(
            name: "a web page", words: ["diffusion_pytorch_model.safetensors", "web page"],
            commands: pipeline + ["inspect"]
        ) {
            try $0.write("model/transformer/diffusion_pytorch_model.safetensors", "<!DOCTYPE html><html>log in</html>")
        },
        Fault(
            name: "a web page as backbone", words: ["backbone", "web page"],
            commands: ["evaluate", "plan", "train", "score"]
        ) { try $0.write("backbone/model.safetensors", "<html>log in</html>") },
        Fault(name: "a shift of 0", words: ["scheduler_config.json", "shift"], commands: pipeline) {
            try $0.edit("model/scheduler/scheduler_config.json", "shift", 0)
        },
        Fault(
            name: "a scheduler of another class", words: ["scheduler_config.json", "DDIMScheduler"], commands: pipeline
        ) { try $0.edit("model/scheduler/scheduler_config.json", "_class_name", "DDIMScheduler") },
        Fault(
            name: "a scheduler of another class in the index alone", words: ["model_index.json", "DDIMScheduler"],
            commands: pipeline
        ) { try $0.edit("model/model_index.json", "scheduler", ["diffusers", "DDIMScheduler"]) },
        Fault(name: "a scaling factor of 0", words: ["vae/config.json", "scaling_factor"], commands: pipeline) {
            try $0.edit("model/vae/config.json", "scaling_factor", 0)
        },
        Fault(
            name: "merges of another vocabulary", words: ["merges.txt"], commands: ["sample", "evaluate", "train"]
        ) { try $0.write("model/tokenizer/merges.txt", "#version: 0.2\nqqqq zzzz\n") },
        Fault(name: "a configuration that is no JSON", words: ["transformer/config.json"], commands: pipeline) {
            try $0.write("model/transformer/config.json", "{,}")
        },
        Fault(name: "a table of prompts", words: ["list.csv"], commands: pipeline) {
            try $0.write("list.csv", "prompt,tag\na red circle,1\n")
            try $0.write("settings.yaml", $0.text("settings.yaml").replacing("data/train.txt", with: "list.csv"))
        },
        Fault(name: "a reference that is a GIF", words: ["0-0.png", "GIF"], commands: ["train", "score"]) {
            try $0.write("data/images/0-0.png", "GIF89a..............")
        },
    ]
}

extension Workspace {
    /// The text of a file.
    fileprivate func text(_ name: String) throws -> String {
        try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8)
    }

    /// Changes one entry of a JSON object.
    fileprivate func edit(_ name: String, _ key: String, _ value: any Sendable) throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
        var object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        object[key] = value
        try JSONSerialization.data(withJSONObject: object).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }

    /// Makes the first element of the last floating-point tensor one that is not a number.
    fileprivate func damage(_ name: String) throws {
        let file = try SafeTensorsFile(path: "\(path)/\(name)")
        let last = try #require(file.entries.last { [.float32, .bfloat16, .float16].contains($0.dtype) })
        let tensors = try file.entries.map { entry in
            var bytes = try file.bytes(of: entry.name).array
            if entry.name == last.name {
                for index in 0..<entry.dtype.bitCount / 8 { bytes[index] = 0xFF }
            }
            return SafeTensor(
                name: entry.name, dtype: entry.dtype, shape: entry.shape, bytes: SharedBytes(copying: bytes))
        }
        try SafeTensorsWriter.write(tensors, metadata: file.metadata, to: "\(path)/\(name)")
    }
}

extension ProcessTests {
    /// Kinds of faulty files against every command that reads them: one sentence, and never a crash or another result.
    @Suite("Files and commands", .optimized, .timeLimit(.minutes(5)))
    struct MatrixTests {
        private static func arguments(_ command: String, _ fault: Fault) -> [String] {
            let images = ["--steps", "1", "--guidance", "1", "--size", "32"]
            let list = fault.words.contains("list.csv") ? "list.csv" : "data/test.txt"
            switch command {
            case "sample": return ["sample", "--model", "model", "--prompts", list, "--out", "out"] + images
            case "evaluate":
                return [
                    "evaluate", "--model", "model", "--references", "data/prompt2img.json", "--prompts", list,
                    "--backbone", "backbone", "--limit", "2", "--count", "1",
                ] + images
            case "score":
                return [
                    "score", "--reward", "image_similarity", "--model", "backbone", "--references",
                    "data/prompt2img.json", "--prompt", "a red circle", "data/images/0-0.png",
                ]
            case "inspect": return ["inspect", "model"]
            case "plan": return ["plan", "settings.yaml"]
            default: return ["train", "settings.yaml", "--run-dir", "run", "--set", "run.epochs=1"]
            }
        }

        private func prepare(_ workspace: Workspace) throws {
            let source = Repository.models + "/emoji-sd3-tiny"
            try FileManager.default.copyItem(atPath: source, toPath: workspace.path + "/model")
            for part in ["dino", "dino-evaluation"] {
                try FileManager.default.removeItem(atPath: "\(workspace.path)/model/\(part)")
            }
            try FileManager.default.copyItem(atPath: source + "/dino", toPath: workspace.path + "/backbone")
            try workspace.write(
                "settings.yaml",
                Workspace.settings.replacing(source + "/dino", with: "backbone").replacing(source, with: "model"))
        }

        @Test("a fault is told in one sentence by each", arguments: Fault.all)
        func refused(fault: Fault) async throws {
            try await withWorkspace { workspace in
                try prepare(workspace)
                try fault.apply(workspace)
                for command in ["inspect", "sample", "evaluate", "score", "plan", "train"]
                where command != "train" || fault.commands.contains("train") {
                    let finished = try await RunningProcess(
                        Self.arguments(command, fault), folder: workspace.path, name: "\(command)-process"
                    ).finish()
                    guard fault.commands.contains(command) else {
                        // What does not read the file may work or say so, and never dies of it.
                        #expect([.status(0), .status(1)].contains(finished.exit), "\(command): \(finished.errors)")
                        continue
                    }
                    #expect(finished.exit == .status(1), "\(command): \(finished.errors)\(finished.output)")
                    let sentences = finished.errors.split(separator: "\n").filter { $0.hasPrefix("advgrpo: ") }
                    #expect(sentences.count == 1, "\(command): \(finished.errors)")
                    for word in fault.words {
                        #expect(finished.errors.contains(word), "\(command) does not say \(word): \(finished.errors)")
                    }
                    #expect(!finished.errors.contains("started again"), "\(command): \(finished.errors)")
                }
            }
        }

        @Test("marks and line ends of other systems change no picture")
        func sameResult() async throws {
            try await withWorkspace { workspace in
                try prepare(workspace)
                func latents(_ name: String) async throws -> [Float] {
                    let finished = try await workspace.run(
                        "sample", "--model", "model", "--prompts", "list.txt", "--out", "out", "--steps", "2",
                        "--guidance", "1", "--size", "32", "--save-latents", name)
                    #expect(finished.exit == .status(0), "\(finished.errors)")
                    return try SafeTensorsFile(path: "\(workspace.path)/\(name)").floats(of: "latents")
                }
                try workspace.write("list.txt", "red heart\na yellow star\n")
                let before = try await latents("before.safetensors")
                try workspace.write("list.txt", "\u{FEFF}red heart \r\na yellow star\r\n")
                for name in [
                    "tokenizer/merges.txt", "tokenizer_2/merges.txt", "tokenizer/vocab.json", "transformer/config.json",
                    "vae/config.json", "scheduler/scheduler_config.json", "model_index.json",
                    "text_encoder/config.json",
                ] {
                    let text = try workspace.text("model/\(name)")
                    try workspace.write("model/\(name)", "\u{FEFF}" + text.replacing("\n", with: "\r\n"))
                }
                #expect(try await latents("after.safetensors") == before)
            }
        }
    }
}
