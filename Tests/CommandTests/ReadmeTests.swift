import Foundation
import TestSupport
import Testing

extension ProcessTests {
    /// Every command of the pages that readers type from, as it stands there, in a folder like its reader's.
    @Suite("README", .optimized, .timeLimit(.minutes(6)))
    struct ReadmeTests {
        @Test(
            "every command works as it is typed, and fails as it is said to",
            arguments: [
                // The page, the least number of commands that end, and of roles that go on.
                ("README.md", 7, 0), ("docs/tutorial.md", 9, 0), ("docs/bring-your-own.md", 9, 0),
                ("docs/cluster.md", 4, 4), ("docs/troubleshooting.md", 10, 0),
            ])
        func commands(page: String, ending: Int, serving: Int) async throws {
            try await withWorkspace { workspace in
                let reader = try PageReader(workspace)
                for command in try PageCommand.all(of: page) { try await reader.type(command) }
                #expect(reader.endedCount >= ending && reader.roles.count == serving, "\(page) lost commands")
                try await reader.close()
            }
        }
    }
}

/// A command on a page.
private struct PageCommand {
    /// As it is typed.
    let text: String
    /// What the page says that it prints; nil where it says nothing.
    var output: String?

    /// The commands of fenced blocks, then those within the text.
    ///
    /// A block without a language is commands, one called `console` commands after `$ ` with what they print.
    static func all(of page: String) throws -> [PageCommand] {
        let text = try Document.text(page).replacing("\\\n", with: "")
        var commands: [PageCommand] = []
        for block in text.components(separatedBy: "```").enumerated().filter({ $0.offset % 2 == 1 }).map(\.element) {
            let lines = block.components(separatedBy: "\n")
            switch lines[0] {
            case "":
                commands += lines.map { $0.components(separatedBy: "#")[0].trimmingCharacters(in: .whitespaces) }
                    .filter { !$0.isEmpty }.map { PageCommand(text: $0) }
            case "console":
                for line in lines.dropFirst() where !line.isEmpty {
                    if line.hasPrefix("$ ") {
                        commands.append(PageCommand(text: String(line.dropFirst(2)), output: ""))
                    } else {
                        commands[commands.count - 1].output! += line + " "
                    }
                }
            default: break
            }
        }
        // Names in capitals stand for one's own; a command with others is an example of its form.
        let typed = Document(page, text).spans.filter { $0.hasPrefix("advgrpo ") }
            .filter { $0.contains("--resume") || $0.hasPrefix("advgrpo inspect ") || $0.hasPrefix("advgrpo plan ") }
        return commands + typed.map { PageCommand(text: $0) }
    }
}

/// Who types the commands of a page.
private final class PageReader {
    private let workspace: Workspace
    private let base = Int.random(in: 20_000..<28_000)
    /// Roles that were started and go on.
    private(set) var roles: [(command: String, process: RunningProcess)] = []
    /// Commands that have ended as the page says.
    private(set) var endedCount = 0

    /// Gives the reader a model without a backbone in it, a backbone, PickScore, references, settings that name them, a run
    /// that has ended, and the repository's models and settings.
    init(_ workspace: Workspace) throws {
        self.workspace = workspace
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
        try workspace.write("my-settings.yaml", settings.replacing("epochs: 5", with: "epochs: 2"))
        try workspace.write("S.yaml", settings.replacing("epochs: 5", with: "epochs: 100000"))
        for (name, target) in [
            (".build/release/advgrpo", Product.path), ("Models", Repository.models),
            ("deploy", Repository.path + "/deploy"),
        ] {
            let link = URL(fileURLWithPath: "\(workspace.path)/\(name)")
            try files.createDirectory(at: link.deletingLastPathComponent(), withIntermediateDirectories: true)
            try files.createSymbolicLink(atPath: link.path, withDestinationPath: target)
        }
    }

    /// Types a command and looks at what it does.
    func type(_ command: PageCommand) async throws {
        if command.text.hasPrefix("make ") {
            let dry = try await RunningProcess(
                ["-n", "-C", Repository.path, String(command.text.dropFirst(5))], program: "/usr/bin/make",
                folder: workspace.path, name: "make"
            ).finish()
            #expect(dry.exit == .status(0), "\(command.text): \(dry.errors)")
            return
        }
        // What built the program under test.
        if command.text == "swift build -c release --product advgrpo" { return }
        if command.text.contains("runs/finished"), !workspace.exists("runs/finished") {
            let made = try await shell("advgrpo train my-settings.yaml --run-dir runs/finished").finish()
            #expect(made.exit == .status(0), "\(made.errors)")
        }
        // Addresses of two machines, on this one; names that stand for one's own.
        let typed = command.text.replacing(#/tcp://10\.0\.[01]\.1:560(\d)/#) { "tcp://127.0.0.1:\(base + Int($0.1)!)" }
            .replacing("DIR", with: "runs/mine").replacing("FOLDER", with: "my-model")
            .replacing("SETTINGS", with: "my-settings.yaml").replacing("PATH", with: "my-model")
        let process = try shell(typed)
        let servers = ["reward-server", "learner", "relay", "rollout-worker"]
        if command.output == nil, servers.contains(where: { typed.hasPrefix("advgrpo \($0) ") }) {
            roles.append((command.text, process))
        } else if typed.hasSuffix("--watch") {
            try await eventually("what \(command.text) shows") { process.output.isEmpty ? nil : true }
            process.signal(SIGTERM)
        } else {
            try await end(command, typed, process)
        }
    }

    private func end(_ command: PageCommand, _ typed: String, _ process: RunningProcess) async throws {
        func plain(_ text: String) -> String { text.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
        var finished = try await process.finish()
        // A role that was just started serves a little later.
        let deadline = ContinuousClock.now + .seconds(30)
        while !roles.isEmpty, finished.exit != .status(0), .now < deadline {
            finished = try await shell(typed).finish()
        }
        let fails = command.output?.hasPrefix("advgrpo: ") ?? false
        #expect((finished.exit != .status(0)) == fails, "\(command.text): \(finished.exit) \(finished.errors)")
        if let output = command.output {
            let printed = plain(finished.output + " " + finished.errors)
            #expect(printed.contains(plain(output)), "\(command.text) prints \(printed)")
        }
        endedCount += 1
    }

    /// Ends the roles, the last one started first, after a group has been through all of them.
    func close() async throws {
        if roles.isEmpty { return }
        try await eventually("a worker that joined") {
            roles.contains { $0.process.errors.contains("joined run") } ? true : nil
        }
        for (command, process) in roles.reversed() {
            #expect(process.exit == nil, "\(command): \(process.errors)")
            process.signal(SIGTERM)
            let finished = try await process.finish()
            #expect(finished.exit == .status(0), "\(command): \(finished.errors)")
        }
    }

    private func shell(_ command: String) throws -> RunningProcess {
        // One process: the shell becomes the program, which a signal then reaches.
        try RunningProcess(
            ["-c", "PATH=$PWD/.build/release:$PATH; exec \(command)"], program: "/bin/sh", folder: workspace.path,
            name: "readme-\(UUID().uuidString.prefix(8))")
    }
}
