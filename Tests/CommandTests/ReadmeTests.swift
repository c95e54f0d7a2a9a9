import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// Every command of README.md, as it stands there, in a folder like its reader's.
    @Suite("README", .timeLimit(.minutes(4)))
    struct ReadmeTests {
        /// The lines of fenced blocks, joined where they go on, then the commands within the text.
        private static func commands() throws -> [String] {
            let text = try String(contentsOfFile: Repository.path + "/README.md", encoding: .utf8)
            let parts = text.replacing("\\\n", with: "").components(separatedBy: "```")
            let fenced = parts.enumerated().filter { $0.offset % 2 == 1 }.flatMap { part in
                part.element.split(separator: "\n").map {
                    $0.split(separator: "#", omittingEmptySubsequences: false)[0].trimmingCharacters(in: .whitespaces)
                }
            }
            let prose = parts.enumerated().filter { $0.offset % 2 == 0 }.flatMap { part in
                part.element.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            }
            return fenced.filter { !$0.isEmpty } + prose.filter { $0.hasPrefix("advgrpo ") && $0.contains("--") }
                + prose.filter { $0.hasPrefix("advgrpo inspect ") }
        }

        /// What README's reader has: a model without a backbone in it, a backbone, PickScore, references, settings that name them.
        private func prepare(_ workspace: Workspace) throws {
            let files = FileManager.default
            func copy(_ source: String, _ name: String) throws {
                try files.copyItem(atPath: source, toPath: "\(workspace.path)/\(name)")
            }
            try copy(Repository.models + "/emoji-sd3-tiny", "my-model")
            for part in ["dino", "dino-evaluation"] {
                try files.removeItem(atPath: "\(workspace.path)/my-model/\(part)")
            }
            try copy(Repository.models + "/emoji-sd3-tiny/dino", "my-backbone")
            try copy(Repository.fixtures + "/clip-dual-a", "PickScore_v1")
            try copy(workspace.path + "/data/prompt2img.json", "prompt2img.json")
            try copy(workspace.path + "/data/images", "images")
            let settings = Workspace.settings.replacing("\(Repository.models)/emoji-sd3-tiny/dino", with: "my-backbone")
                .replacing("\(Repository.models)/emoji-sd3-tiny", with: "my-model")
            try workspace.write("my-settings.yaml", settings)
            try workspace.write("S.yaml", settings.replacing("epochs: 5", with: "epochs: 100000"))
            let release = workspace.path + "/.build/release"
            try files.createDirectory(atPath: release, withIntermediateDirectories: true)
            try files.createSymbolicLink(atPath: release + "/advgrpo", withDestinationPath: Product.path)
        }

        private func shell(_ command: String, _ workspace: Workspace) throws -> RunningProcess {
            // One process: the shell becomes the program, which a signal then reaches.
            try RunningProcess(
                ["-c", "PATH=$PWD/.build/release:$PATH; exec \(command)"], program: "/bin/sh", folder: workspace.path,
                name: "readme-\(UUID().uuidString.prefix(8))")
        }

        @Test("every command works as it is typed")
        func commands() async throws {
            try await withWorkspace { workspace in
                try prepare(workspace)
                let base = Int.random(in: 20_000..<28_000)
                var running: [(command: String, process: RunningProcess)] = []
                var finishedCount = 0
                for written in try Self.commands() {
                    if written.hasPrefix("make ") {
                        let dry = try await RunningProcess(
                            ["-n", "-C", Repository.path, String(written.dropFirst(5))], program: "/usr/bin/make",
                            folder: workspace.path, name: "make"
                        ).finish()
                        #expect(dry.exit == .status(0), "\(written): \(dry.errors)")
                        continue
                    }
                    // What built the program under test.
                    if written == "swift build -c release --product advgrpo" { continue }
                    // Addresses of two machines, on this one; names that stand for one's own.
                    let command = written.replacing(#/tcp://10\.0\.[01]\.1:560(\d)/#) {
                        "tcp://127.0.0.1:\(base + Int($0.1)!)"
                    }
                    .replacing("DIR", with: "runs/mine").replacing("FOLDER", with: "my-model")
                    let process = try shell(command, workspace)
                    let servers = ["reward-server", "learner", "relay", "rollout-worker"]
                    if servers.contains(where: { command.hasPrefix("advgrpo \($0) ") }) {
                        running.append((written, process))
                    } else if command.hasSuffix("--watch") {
                        try await eventually("what \(written) shows") { process.output.isEmpty ? nil : true }
                        process.signal(SIGTERM)
                    } else {
                        var finished = try await process.finish()
                        // A server that was just started serves a little later.
                        let end = ContinuousClock.now + .seconds(30)
                        while command.hasPrefix("advgrpo health "), finished.exit != .status(0), .now < end {
                            finished = try await shell(command, workspace).finish()
                        }
                        #expect(finished.exit == .status(0), "\(written): \(finished.errors)")
                        finishedCount += 1
                    }
                }
                #expect(running.count == 4 && finishedCount >= 7, "README lost commands")
                try await eventually("a group delivered through the cluster") {
                    running.contains { $0.process.errors.contains("joined run") } ? true : nil
                }
                for (command, process) in running.reversed() {
                    #expect(process.exit == nil, "\(command): \(process.errors)")
                    process.signal(SIGTERM)
                    #expect(try await process.finish().exit == .status(0), "\(command): \(process.errors)")
                }
            }
        }
    }
}
