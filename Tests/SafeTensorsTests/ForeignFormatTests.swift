import Foundation
import SafeTensors
import TestSupport
import Testing

/// What is not a model under a model's name, and names of models in a folder.
@Suite struct ForeignFormatTests {
    private static let zeros = [UInt8](repeating: 0, count: 64)
    private static let cases: [(bytes: [UInt8], words: String)] = [
        (Array("<!DOCTYPE html><html><body>Access is restricted</body></html>".utf8), "is a web page"),
        ([0xEF, 0xBB, 0xBF] + Array("\r\n <HTML>\n".utf8), "is a web page"),
        (Array("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".utf8), "is a web page"),
        (Array("{\"error\":\"Repository not found\"}".utf8), "is JSON text"),
        (Array("{\"a\":1}".utf8), "is JSON text"),
        (Array("Invalid username or password.".utf8), "is text, not a model"),
        (Array("404".utf8), "is text, not a model"),
        (Array("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".utf8), "is a Git LFS pointer"),
        ([0x50, 0x4B, 0x03, 0x04] + zeros, "is a PyTorch archive"),
        ([0x80, 0x02, 0x8A, 0x0A] + zeros, "is a pickle"),
        ([0x1F, 0x8B, 0x08, 0x00] + zeros, "is compressed with gzip"),
        ([0x28, 0xB5, 0x2F, 0xFD] + zeros, "is compressed with zstd"),
        (Array("GGUF".utf8) + [3, 0, 0, 0] + zeros, "is a GGUF file"),
        ([0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A] + zeros, "is an HDF5 file"),
        (zeros, "begins with zeros"), ([], "is empty"),
    ]

    @Test("files that are something else are called what they are, with a remedy and none of their contents")
    func formats() throws {
        try withTemporaryFolder { folder in
            for (bytes, words) in Self.cases {
                let path = folder + "/model.safetensors"
                try Data(bytes).write(to: URL(filePath: path))
                let error = #expect(throws: SafeTensorsError.self) { _ = try SafeTensorsFolder(path: folder) }
                #expect(error?.code == .wrongFormat && error?.remedy != nil && error?.source == path)
                #expect(error?.message.hasPrefix(words) == true, "\(words): \(error?.message ?? "")")
                for word in ["restricted", "AccessDenied", "Repository", "username"] {
                    #expect(error?.description.contains(word) == false)
                }
            }
        }
    }

    @Test("a header as long as a magic number is still a header")
    func lengths() throws {
        // 0x088B1F: what gzip files begin with.
        let json = Array("{}".utf8) + [UInt8](repeating: 0x20, count: 0x088B1F - 2)
        try withTemporaryFolder { folder in
            let path = folder + "/model.safetensors"
            try Data([0x1F, 0x8B, 0x08, 0, 0, 0, 0, 0] + json).write(to: URL(filePath: path))
            #expect(try SafeTensorsFile(path: path).entries.isEmpty)
        }
    }

    private func write(_ name: String, value: Float, _ folder: String) throws {
        try SafeTensorsWriter.write(
            [SafeTensor(name: "w", shape: [1], floats: [value])], to: folder + "/" + name)
    }

    private func index(_ name: String, shard: String, _ folder: String, mark: String = "") throws {
        try (mark + "{\"metadata\": {}, \"weight_map\": {\"w\": \"\(shard)\"}}").write(
            toFile: folder + "/" + name, atomically: true, encoding: .utf8)
    }

    @Test(
        "the only variant of a folder is read, in one file or in shards, with a byte-order mark in the index",
        arguments: ["model", "diffusion_pytorch_model"], ["fp16", "non_ema"])
    func variant(stem: String, variant: String) throws {
        try withTemporaryFolder { folder in
            try write("\(stem).\(variant).safetensors", value: 1, folder)
            #expect(try SafeTensorsFolder(path: folder).floats(of: "w") == [1])
        }
        // As diffusers named shards before and names them now.
        for shard in ["\(stem)-00001-of-00001.\(variant).safetensors", "\(stem).\(variant)-00001-of-00001.safetensors"]
        {
            try withTemporaryFolder { folder in
                try write(shard, value: 2, folder)
                try index("\(stem).safetensors.index.\(variant).json", shard: shard, folder, mark: "\u{FEFF}")
                #expect(try SafeTensorsFolder(path: folder).floats(of: "w") == [2])
                // The plain file wins over a variant, whatever the variant's form.
                try write("\(stem).safetensors", value: 3, folder)
                #expect(try SafeTensorsFolder(path: folder).floats(of: "w") == [3])
            }
        }
    }

    @Test("several variants, shards without an index and a page as index are refused with what to do")
    func refused() throws {
        func refusal(_ write: (String) throws -> Void) throws -> SafeTensorsError? {
            try withTemporaryFolder { folder in
                try write(folder)
                return #expect(throws: SafeTensorsError.self) { _ = try SafeTensorsFolder(path: folder) }
            }
        }
        let several = try refusal {
            try write("model.fp16.safetensors", value: 1, $0)
            try write("model.bf16.safetensors", value: 1, $0)
        }
        #expect(several?.message == "holds several models: \"model.bf16.safetensors\", \"model.fp16.safetensors\"")
        #expect(several?.remedy == "keep one of them in the folder and move the others out of it")
        let lost = try refusal { try write("model-00001-of-00002.safetensors", value: 1, $0) }
        #expect(lost?.message.contains("without their .safetensors.index.json") == true)
        let page = try refusal {
            try "<html></html>".write(
                toFile: $0 + "/model.safetensors.index.json", atomically: true, encoding: .utf8)
        }
        #expect(page?.code == .wrongFormat && page?.message == "is a web page, not a model")
    }
}
