import Configuration
import Foundation
import ImageModels
import NeuralNetworks
import Protocol
import Raster
import SafeTensors
import TensorCore
import TestSupport
import Testing

/// Every reader of bytes from outside, five seconds together (`ADVGRPO_FUZZ_SECONDS` for more): it returns or throws its own
/// error, quickly and in bounded memory, whatever it is given.
@Suite("Readers under fire", .serialized)
struct ReaderFuzzTests {
    @Test("files and settings", arguments: ["safetensors", "png", "jpg", "webp", "settings"])
    func files(name: String) throws {
        switch name {
        case "safetensors": try withMemoryFolder { try check(Readers.safetensors(folder: $0), "SafeTensorsError") }
        case "png": try check(Readers.png(), "RasterError", slowest: .seconds(3))
        case "jpg", "webp": try check(Readers.images(name), "RasterError", share: 0.05, slowest: .seconds(3))
        default: try check(Readers.settings(), "SettingsError")
        }
    }

    @Test("EXIF within a sound picture")
    func orientations() {
        let report = Readers.exif().run(for: FuzzTarget.budget(share: 0.03))
        print(report)
        #expect(report.acceptedCount > 0 && Set(report.refusals.keys).isSubset(of: ["RasterError"]))
    }

    @Test("lists of prompts", arguments: ["jsonl", "json", "txt"])
    func prompts(ending: String) throws {
        try withMemoryFolder { try check(Readers.prompts(ending, folder: $0), "DatasetError", share: 0.03) }
    }

    @Test("messages and chunks")
    func messages() throws {
        try check(Readers.messages(), "WireError")
        try check(Readers.chunks(), "WireError")
        try check(Readers.manifests(), "WireError", share: 0.05)
    }

    @Test("model folders whose configuration lies", arguments: Readers.modelFolders)
    func models(folder: Readers.ModelFolder) throws {
        try withMemoryFolder { scratch in
            try check(Readers.model(folder, scratch: scratch), "ModelError", "SafeTensorsError", share: 0.025)
        }
    }

    @Test("tokenizer folders", arguments: ["clip-vocab", "clip-merges", "clip-settings", "t5"])
    func tokenizers(name: String) throws {
        try withMemoryFolder { scratch in
            try check(Readers.tokenizer(name, scratch: scratch), "ModelError", share: 0.05)
        }
    }

    /// Runs a target and holds it to its promises.
    private func check(
        _ target: FuzzTarget, _ errors: String..., share: Double = 0.1, slowest: Duration = .seconds(1)
    ) throws {
        let report = target.run(for: FuzzTarget.budget(share: share))
        print(report)
        #expect(Set(report.refusals.keys).isSubset(of: errors), "\(report.refusals)")
        if ProcessInfo.processInfo.environment["ADVGRPO_FUZZ_REPLAY"] != nil { return }
        #expect(report.acceptedCount > 0 && report.refusedCount > 0, "one of both never happened")
        #expect(report.slowest < slowest, "input \(target.name):\(report.slowestNumber) took \(report.slowest)")
        #expect(report.growth < 64 << 20, "memory grew by \(report.growth >> 20) MiB")
    }
}

/// A folder in memory where the system has one: a disk would be what is measured.
private func withMemoryFolder(_ body: (String) throws -> Void) throws {
    guard FileManager.default.fileExists(atPath: "/dev/shm") else { return try withTemporaryFolder(body) }
    let folder = "/dev/shm/advgrpo-fuzz-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
}
