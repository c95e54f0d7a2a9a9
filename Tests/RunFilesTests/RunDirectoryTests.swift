import AdvGRPO
import Configuration
import Foundation
import Platform
import Processes
import Protocol
import TestSupport
import Testing
import Transport

@testable import RunFiles

/// The code of the error that `body` throws.
func code(_ body: () throws -> Void) -> RuntimeError.Code? { thrown(RuntimeError.self, body)?.code }

@Suite("RunDirectory")
struct RunDirectoryTests {
    @Test("a new run has its folders and its complete settings")
    func creation() throws {
        let folder = try TemporaryFolder()
        let settings = Settings(fidelity: .released)
        let run = try RunDirectory.create(path: folder.path + "/a/run", settings: settings)
        #expect(try folder.text("a/run/settings.yaml") == settings.resolved())
        #expect(
            try folder.names("a/run")
                == ["checkpoints", "images", "logs", "run.lock", "settings.yaml", "sockets", "tensorboard"])
        try run.write("images/x.png", [1, 2])
        #expect(try folder.names("a/run/images") == ["x.png"])
    }

    @Test("two processes cannot work in one folder, and the lock goes with its holder")
    func locking() throws {
        let folder = try TemporaryFolder()
        var run: RunDirectory? = try RunDirectory.create(path: folder.path, settings: Settings())
        #expect(run != nil)
        do {
            _ = try RunDirectory.resume(path: folder.path, settings: Settings())
            Issue.record("the folder was opened twice")
        } catch {
            #expect(error.code == .runInUse)
            #expect(error.description.contains("process \(ProcessInfo.processInfo.processIdentifier)"))
        }
        run = nil
        _ = try RunDirectory.resume(path: folder.path, settings: Settings())
    }

    @Test("a run is not overwritten, and not resumed where there is none or with another method")
    func refusals() throws {
        let folder = try TemporaryFolder()
        #expect(code { _ = try RunDirectory.resume(path: folder.path + "/x", settings: Settings()) } == .noRun)
        _ = try RunDirectory.create(path: folder.path, settings: Settings())
        #expect(code { _ = try RunDirectory.create(path: folder.path, settings: Settings()) } == .runExists)
        var other = Settings()
        other.run.minutes = 3
        _ = try RunDirectory.resume(path: folder.path, settings: other)
        #expect(try RunDirectory.storedSettings(in: folder.path) == other)
        other.method.rollout.steps = 9
        do {
            _ = try RunDirectory.resume(path: folder.path, settings: other)
            Issue.record("a run was resumed with another method")
        } catch {
            #expect(error.code == .settingsChanged && error.message.contains("rollout.steps"))
        }
    }

    @Test("local endpoints lie in the run directory, however long its path is")
    func endpoints() throws {
        #expect(RunDirectory.localEndpoint(of: "learner", in: "/run/a") == "ipc:///run/a/sockets/learner")
        let long = "/" + String(repeating: "x", count: 200)
        #expect(RunDirectory.localEndpoint(of: "learner", in: long) == "ipc://\(long)/sockets/learner")
        _ = try Endpoint("ipc://\(long)/sockets/learner")
    }

    @Test("a folder that cannot be created is named")
    func unwritable() throws {
        let folder = try TemporaryFolder()
        try "".write(toFile: folder.path + "/file", atomically: true, encoding: .utf8)
        #expect(code { try RunDirectory.createFolders(path: folder.path + "/file/run") } == .unwritable)
    }
}

@Suite("MetricsFile")
struct MetricsFileTests {
    @Test("one object a step, readable, with null for what JSON cannot name")
    func lines() throws {
        let folder = try TemporaryFolder()
        let metrics = try MetricsFile(path: folder.path + "/m.jsonl")
        try metrics.append(step: 1, ["reward": 0.25, "phase": "roll \"out\"", "loss": .number(.nan), "on": true])
        try metrics.append(step: 2, ["groups": [1, 2]])
        let expected = """
            {"step":1,"loss":null,"on":true,"phase":"roll \\"out\\"","reward":0.25}
            {"step":2,"groups":[1,2]}

            """
        #expect(try folder.text("m.jsonl") == expected)
        #expect(try MetricsFile.records(in: folder.path + "/m.jsonl").map { $0["step"] } == [1, 2])
    }

    @Test("resuming removes later steps and an incomplete last line")
    func resuming() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.jsonl"
        try "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st".write(toFile: path, atomically: true, encoding: .utf8)
        let metrics = try MetricsFile(path: path, resumingAfter: 2)
        #expect(metrics.lastStep == 2)
        try metrics.append(step: 3, ["again": true])
        #expect(try folder.text("m.jsonl") == "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"again\":true}\n")
    }

    @Test("a new run begins an empty file; a damaged line is named")
    func beginnings() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/m.jsonl"
        try "{\"step\":1}\nnonsense\n".write(toFile: path, atomically: true, encoding: .utf8)
        do {
            _ = try MetricsFile(path: path, resumingAfter: 5)
            Issue.record("a damaged file was accepted")
        } catch {
            #expect(error.message.contains("line 2"))
        }
        _ = try MetricsFile(path: path)
        #expect(try folder.text("m.jsonl").isEmpty)
    }

    @Test("a full disk is said to be full")
    func fullDisk() throws {
        let folder = try TemporaryFolder()
        let file = try OpenFile("/dev/full", .append)
        #expect(code { try file.write([1]) } == .diskFull)
        #expect(code { try FileStore.replace(folder.path + "/no/x", with: []) } == .unwritable)
        #expect(try folder.names().isEmpty)
    }
}
