import Foundation
import LibC
import TestSupport
import Testing

#if os(Linux)
    extension ProcessTests {
        /// A disk without room, which only root can make.
        @Suite("Full disk", .optimized, .timeLimit(.minutes(2)))
        struct FullDiskTests {
            @Test("a full disk ends the run with one sentence, and the snapshots that are there stay whole")
            func full() async throws {
                try await withWorkspace { workspace in
                    let disk = workspace.path + "/disk"
                    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: false)
                    // Room for the first snapshots, not for all: each has about 1.5 MB.
                    guard mount("tmpfs", disk, "tmpfs", 0, "size=5m") == 0 else {
                        withKnownIssue("no temporary file system can be mounted: not root") {
                            Issue.record("\(String(cString: strerror(errno)))")
                        }
                        return
                    }
                    defer { umount2(disk, Int32(MNT_DETACH)) }
                    let finished = try await workspace.run(
                        "train", "settings.yaml", "--run-dir", "disk/run", "--set", "run.snapshotEvery=1", "--set",
                        "run.snapshotsKept=100")
                    #expect(finished.exit == .status(1), "\(finished.errors)")
                    #expect(finished.errors.lowercased().contains("no space left"), "\(finished.errors)")
                    #expect(finished.errors.contains("free space"), "\(finished.errors)")
                    #expect(workspace.processes.isEmpty, "processes are left")
                    let run = workspace.files("disk/run")
                    let names = try FileManager.default.contentsOfDirectory(atPath: run.path + "/checkpoints")
                    #expect(names.contains("step-000000"))
                    for name in names where name != "latest" {
                        let step = try #require(Int(name.dropFirst(5)), "\(name) is half-written")
                        _ = try run.digests(step: step)
                    }
                }
            }
        }
    }
#endif
