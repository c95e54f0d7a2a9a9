import Foundation
import SafeTensors
import TestSupport
import Testing

@Suite("Files are read and written as the reference implementation does")
struct FileTests {
    /// The values in make.py; 6e-8 becomes the smallest half, 2^-24.
    let values: [Float] = [0, -1.5, 3.25, 65504, 6e-8, -0.333251953125]

    @Test("a file written by safetensors 0.8.0")
    func reference() throws {
        let file = try SafeTensorsFile(path: fixtures + "/reference.safetensors")
        #expect(file.metadata == ["format": "pt", "note": "é \\ \" \n"])
        #expect(file.entries.count == 10)
        #expect(try file.floats(of: "a.float32") == values)
        #expect(try file.floats(of: "d.float64") == values)
        #expect(try file.floats(of: "b.float16") == [0, -1.5, 3.25, 65504, 0x1p-24, -0.333251953125])
        // bfloat16 keeps 8 bits: 65504 -> 65536, 6e-8 -> 0x1.02p-24, -0.33325... -> -0x1.56p-2 (0.333984375).
        #expect(try file.floats(of: "c.bfloat16") == [0, -1.5, 3.25, 65536, 0x1.02p-24, -0.333984375])
        #expect(try file.bytes(of: "e.int64").array(of: Int64.self) == [-1, 1 << 40])
        #expect(try file.bytes(of: "f.uint8").array == [0, 1, 2, 3, 4])
        #expect(try file.withBytes(of: "g.bool") { Array($0) } == [1, 0])
        #expect(try file.floats(of: "scalar") == [2.5])
        #expect(file["empty"]?.shape == [0, 7])
        #expect(try file.floats(of: "empty").isEmpty)
        #expect(file["nämë \"quoted\"\n"]?.dtype == .int32)
    }

    @Test("bytes outlive the file object")
    func lifetime() throws {
        let bytes = try SafeTensorsFile(path: fixtures + "/reference.safetensors").bytes(of: "f.uint8")
        #expect(bytes.array == [0, 1, 2, 3, 4])
    }

    @Test("errors name the file, the tensor and what to do")
    func errors() throws {
        let path = fixtures + "/reference.safetensors"
        let file = try SafeTensorsFile(path: path)
        #expect(failure { _ = try file.floats(of: "e.int64") } == .wrongType)
        do throws(SafeTensorsError) {
            _ = try file.floats(of: "x.float32")
            Issue.record("found a tensor that is not there")
        } catch {
            #expect(error.code == .missing)
            #expect(error.description.hasPrefix("\(path): tensor \"x.float32\": is not among the 10 tensors"))
        }
        #expect(failure { _ = try SafeTensorsFile(path: "/nonexistent.safetensors") } == .missing)
        #expect(failure { _ = try SafeTensorsFile(path: "/dev/null") } == .inputOutput)
    }

    @Test("pickles are refused by name, disguised ones by content", arguments: ["bin", "pt", "pth", "ckpt", "PKL"])
    func pickles(ending: String) throws {
        #expect(failure { _ = try SafeTensorsFile(path: "/nonexistent/model.\(ending)") } == .wrongFormat)
        try withTemporaryFolder { folder in
            let path = folder + "/model.safetensors"
            try Data([0x50, 0x4B, 3, 4] + [UInt8](repeating: 0, count: 100)).write(to: URL(filePath: path))
            #expect(failure { _ = try SafeTensorsFile(path: path) } == .wrongFormat)
            try Data("version https://git-lfs.github.com/spec/v1\n".utf8).write(to: URL(filePath: path))
            #expect(failure { _ = try SafeTensorsFile(path: path) } == .wrongFormat)
            try Data().write(to: URL(filePath: path))
            #expect(failure { _ = try SafeTensorsFile(path: path) } == .wrongFormat)
        }
    }

    @Test("no truncation and no extension of a file is accepted")
    func truncations() throws {
        let whole = try Data(contentsOf: URL(filePath: fixtures + "/reference.safetensors"))
        try withTemporaryFolder { folder in
            let path = folder + "/cut.safetensors"
            for count in 1..<whole.count {
                try whole.prefix(count).write(to: URL(filePath: path))
                #expect(failure { _ = try SafeTensorsFile(path: path) } != nil, "accepted \(count) bytes")
            }
            try (whole + [0]).write(to: URL(filePath: path))
            #expect(failure { _ = try SafeTensorsFile(path: path) } == .inconsistentTensor)
        }
    }

    @Test("a written file is read back; an old one is replaced, and no temporary file stays")
    func write() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/out.safetensors"
            try SafeTensorsWriter.write([SafeTensor(name: "old", shape: [1], floats: [1])], to: path)
            let old = try SafeTensorsFile(path: path)
            try SafeTensorsWriter.write(
                [
                    SafeTensor(name: "w", shape: [2, 2], floats: [1, 2, 3, 4]),
                    SafeTensor(
                        name: "b", dtype: .uint8, shape: [3], bytes: SharedBytes(copying: [7, 8, 9] as [UInt8])),
                ], metadata: ["format": "pt"], to: path)
            let new = try SafeTensorsFile(path: path)
            #expect(try old.floats(of: "old") == [1])
            #expect(try new.floats(of: "w") == [1, 2, 3, 4])
            #expect(try new.bytes(of: "b").array == [7, 8, 9])
            #expect(new.metadata == ["format": "pt"])
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["out.safetensors"])
            #expect(failure { try SafeTensorsWriter.write([], to: folder + "/none/x.safetensors") } == .missing)
        }
    }

    @Test("shards are one set of names")
    func shards() throws {
        let folder = try SafeTensorsFolder(path: fixtures + "/sharded")
        #expect(folder.entries.map(\.name) == ["x", "y"])
        #expect(folder.files.count == 2)
        #expect(try folder.floats(of: "y") == [2, 2, 2])
        #expect(folder["x"]?.shape == [2])
        #expect(folder.metadata == ["format": "pt"])
        #expect(failure { _ = try folder.floats(of: "z") } == .missing)
        let one = try SafeTensorsFolder(path: fixtures + "/reference.safetensors")
        #expect(one.entries.count == 10)
    }

    @Test("a lost shard, a lying index and a folder of pickles say what is wrong")
    func brokenFolders() throws {
        try withTemporaryFolder { folder in
            let index = folder + "/model.safetensors.index.json"
            func message(_ path: String) -> String {
                do throws(SafeTensorsError) {
                    _ = try SafeTensorsFolder(path: path)
                    return ""
                } catch {
                    return error.description
                }
            }
            #expect(message(folder).contains("holds no .safetensors file"))
            try Data().write(to: URL(filePath: folder + "/pytorch_model.bin"))
            #expect(message(folder).contains("convert it"))
            try Data(#"{"weight_map":{"x":"shard.safetensors","y":"shard.safetensors"}}"#.utf8).write(
                to: URL(filePath: index))
            #expect(message(folder).contains("lists the shard \"shard.safetensors\", which is not there"))
            try SafeTensorsWriter.write(
                [SafeTensor(name: "x", shape: [1], floats: [1])], to: folder + "/shard.safetensors")
            #expect(message(folder).contains("tensor \"y\": is not in \"shard.safetensors\""))
            for bad in [
                #"{"weight_map":{"x":"../x.safetensors"}}"#, #"{"weight_map":{"x":"a","x":"b"}}"#, "{}", "[",
                #"{"weight_map":{}} x"#,
                "{\"a\":" + String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
                    + ",\"weight_map\":{}}",
            ] {
                try Data(bad.utf8).write(to: URL(filePath: index))
                #expect(failure { _ = try SafeTensorsFolder(path: folder) } == .malformedHeader, "accepted \(bad)")
            }
        }
    }
}
