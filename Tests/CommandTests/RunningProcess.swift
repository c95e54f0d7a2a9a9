import Foundation
import LibC
import Synchronization
import TestSupport

/// How a process ended.
enum Exit: Equatable {
    case status(Int32)
    case signal(Int32)
}

/// What a finished process left.
struct Finished {
    let exit: Exit
    let output: String
    let errors: String
}

/// The program under test, which lies beside the test bundle.
enum Product {
    static let path: String = {
        // The running test bundle is a program on Linux, and its folder is the one that everything is built into.
        let bundle =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        return URL(fileURLWithPath: bundle).deletingLastPathComponent().appendingPathComponent("advgrpo").path
    }()
}

/// A process whose output goes to two files. Whoever waits for it does so by looking again and again, so that a test that
/// runs out of time ends, and its workspace with every process in it.
final class RunningProcess: Sendable {
    let processID: Int32
    private let files: (output: String, errors: String)
    private let ended = Mutex<Exit?>(nil)

    /// - Parameters:
    ///   - arguments: without the program's name.
    ///   - folder: its working directory.
    ///   - name: of its output files in the folder.
    init(_ arguments: [String], program: String = Product.path, folder: String, name: String) throws {
        files = ("\(folder)/\(name).out", "\(folder)/\(name).err")
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, files.output, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, files.errors, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A group of its own, as a shell gives it: a Ctrl-C for the test is none for the program.
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        // The shell only changes the folder: the process is the program's by the time it runs.
        let shell = ["/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", folder, program]
        var strings = (shell + arguments).map { strdup($0) } + [nil]
        defer { for string in strings { free(string) } }
        var processID: Int32 = 0
        let status = posix_spawn(&processID, shell[0], &actions, &attributes, &strings, environ)
        guard status == 0 else {
            throw TestFailure("\(program) cannot be started: \(String(cString: strerror(status)))")
        }
        self.processID = processID
    }

    /// Ends it and takes note of its end, whatever became of the test. A child that nobody waits for would also keep Swift
    /// Testing from noticing the ends of exit tests: its monitor looks at the first ended child only.
    deinit {
        guard exit == nil else { return }
        kill(processID, SIGKILL)
        while waitpid(processID, nil, 0) == -1, errno == EINTR {}
    }

    /// What it wrote so far.
    var output: String { text(files.output) }
    var errors: String { text(files.errors) }

    private func text(_ path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }

    func signal(_ number: Int32) {
        if exit == nil { kill(processID, number) }
    }

    /// How it ended; nil while it runs.
    var exit: Exit? {
        ended.withLock { ended in
            if ended != nil { return ended }
            var status: Int32 = 0
            guard waitpid(processID, &status, WNOHANG) == processID else { return nil }
            // The C macros WIFEXITED, WEXITSTATUS and WTERMSIG.
            ended = status & 0x7F == 0 ? .status(status >> 8 & 0xFF) : .signal(status & 0x7F)
            return ended
        }
    }

    /// Waits for its end.
    func finish(within limit: Duration = .seconds(120)) async throws -> Finished {
        let exit = try await eventually("the end of process \(processID)", within: limit) { self.exit }
        return Finished(exit: exit, output: output, errors: errors)
    }
}

/// Something a test needs that did not happen.
struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Waits until `body` returns a value.
///
/// - Throws: `TestFailure` after `limit`, `CancellationError` when the test's time is up.
@discardableResult
func eventually<Value>(
    _ what: String, within limit: Duration = .seconds(60), _ body: () async throws -> Value?
) async throws -> Value {
    let limit = limit * patience
    let end = ContinuousClock.now + limit
    while ContinuousClock.now < end {
        if let value = try await body() { return value }
        try await Task.sleep(for: .milliseconds(5))
    }
    throw TestFailure("waited \(limit) for \(what)")
}

/// The processes of the machine, as /proc shows them.
enum ProcessTable {
    /// Living processes that work in a folder: everything that was started there, and what that started.
    static func processes(in folder: String) -> [(processID: Int32, arguments: [String])] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { name in
            guard let processID = Int32(name), processID != getpid(),
                (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(name)/cwd")) == folder,
                let line = FileManager.default.contents(atPath: "/proc/\(name)/cmdline"), !line.isEmpty
            else { return nil }
            return (processID, line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) })
        }
    }
}
