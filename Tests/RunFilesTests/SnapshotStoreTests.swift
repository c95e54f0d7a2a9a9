import Foundation
import Platform
import Processes
import TestSupport
import Testing

@testable import RunFiles

@Suite("SnapshotStore")
struct SnapshotStoreTests {
    private func write(_ text: String, _ path: String) throws {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
    }

    private func snapshot(_ store: SnapshotStore, _ step: Int, _ text: String = "weights") throws {
        try store.write(step: step) { folder in
            try FileStore.createFolder(folder + "/adapter")
            try write(text, folder + "/adapter/model.safetensors")
            try write("\(step)", folder + "/state.json")
        }
    }

    @Test("a snapshot has a manifest that sha256sum confirms, and latest leads to it")
    func manifest() throws {
        let folder = try TemporaryFolder()
        let store = try SnapshotStore(folder: folder.path)
        try snapshot(store, 7)
        #expect(try folder.names() == ["latest", "step-000007"])
        #expect(try folder.text("latest/state.json") == "7")
        let manifest = try folder.text("step-000007/manifest.json")
        let sum = try run("/bin/sh", "-c", "cd \(folder.path)/step-000007 && sha256sum adapter/model.safetensors")
        #expect(manifest.contains(sum.prefix(64)))
        #expect(try store.newest { Issue.record("\($0)") } == .init(step: 7, path: folder.path + "/step-000007"))
    }

    /// What a command prints.
    private func run(_ arguments: String...) throws -> String {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: arguments[0])
        process.arguments = Array(arguments.dropFirst())
        process.standardOutput = pipe
        try process.run()
        process.waitUntilExit()
        return String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    }

    @Test("old snapshots are removed, the newest stay")
    func pruning() throws {
        let folder = try TemporaryFolder()
        let store = try SnapshotStore(folder: folder.path, keptCount: 2)
        for step in [1, 2, 10, 1_234_567] { try snapshot(store, step) }
        #expect(store.steps() == [10, 1_234_567])
        #expect(try folder.text("latest/state.json") == "1234567")
    }

    @Test("a run that goes back forgets the later snapshots, and latest leads to what is left")
    func discarding() throws {
        let folder = try TemporaryFolder()
        let store = try SnapshotStore(folder: folder.path)
        for step in [2, 4, 6] { try snapshot(store, step) }
        try store.discard(after: 6)
        #expect(store.steps() == [2, 4, 6])
        try store.discard(after: 3)
        #expect(store.steps() == [2])
        #expect(try folder.text("latest/state.json") == "2")
        try snapshot(store, 4)
        #expect(try store.newest { Issue.record("\($0)") }.step == 4)
    }

    @Test(
        "a damaged snapshot is skipped with a warning that names the file",
        arguments: ["changed", "missing", "manifest"])
    func corruption(kind: String) throws {
        let folder = try TemporaryFolder()
        let store = try SnapshotStore(folder: folder.path)
        try snapshot(store, 1)
        try snapshot(store, 2)
        let file = folder.path + "/step-000002/" + (kind == "manifest" ? "manifest.json" : "adapter/model.safetensors")
        if kind == "missing" {
            try FileManager.default.removeItem(atPath: file)
        } else {
            try write("weightz", file)
        }
        var warnings: [String] = []
        #expect(try store.newest { warnings.append($0) }.step == 1)
        #expect(warnings.count == 1 && warnings[0].contains("step-000002"))
        #expect(kind == "manifest" || warnings[0].contains("adapter/model.safetensors"))
        try write("x", folder.path + "/step-000001/state.json")
        #expect(code { _ = try store.newest { _ in } } == .corruptSnapshot)
    }

    @Test("no snapshot is an error of its own")
    func none() throws {
        let folder = try TemporaryFolder()
        let store = try SnapshotStore(folder: folder.path + "/checkpoints")
        #expect(code { _ = try store.newest { _ in } } == .noSnapshot)
    }

    @Test("a write that fails leaves the store as it was")
    func failingWrite() throws {
        let folder = try TemporaryFolder()
        let store = try SnapshotStore(folder: folder.path)
        try snapshot(store, 1)
        let full = code {
            try store.write(step: 2) { path in
                try write("half", path + "/a")
                // A file on a full disk.
                try FileStore.link(path + "/b", to: "/dev/full")
                try OpenFile(path + "/b", .replace).write([1])
            }
        }
        #expect(full == .diskFull)
        #expect(try folder.names() == ["latest", "step-000001"])
        #expect(try store.newest { _ in }.step == 1)
    }

    @Test("what a crash left half-written is removed and never loaded")
    func interrupted() throws {
        let folder = try TemporaryFolder()
        try snapshot(SnapshotStore(folder: folder.path), 1)
        try FileStore.createFolder(folder.path + "/.partial-step-000002")
        try write("half", folder.path + "/.partial-step-000002/a")
        let store = try SnapshotStore(folder: folder.path)
        #expect(try folder.names() == ["latest", "step-000001"])
        // A crash between the rename and the update of the link.
        try snapshot(store, 2)
        try FileStore.link(folder.path + "/latest", to: "step-000001")
        #expect(try store.newest { _ in }.step == 2)
        // A snapshot of the same step is replaced.
        try snapshot(store, 2, "other")
        #expect(try folder.text("latest/adapter/model.safetensors") == "other")
    }
}
