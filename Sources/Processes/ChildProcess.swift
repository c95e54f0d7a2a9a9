internal import Foundation
internal import LibC
internal import Platform
internal import Synchronization

/// What a supervisor starts.
public struct ChildCommand: Sendable {
    /// Name in logs and messages, for example `worker-0`.
    public var name: String
    /// Path of the program.
    public var executable: String
    /// Its arguments, without the program's name.
    public var arguments: [String]
    /// Its arguments when it is started again; nil takes the same.
    public var restartArguments: [String]?
    /// Variables set on top of this process's environment.
    public var environment: [String: String]

    /// Makes a command.
    public init(
        name: String, executable: String, arguments: [String], restartArguments: [String]? = nil,
        environment: [String: String] = [:]
    ) {
        self.name = name
        self.executable = executable
        self.arguments = arguments
        self.restartArguments = restartArguments
        self.environment = environment
    }
}

/// How a process ended.
public enum ChildExit: Sendable, Equatable, CustomStringConvertible {
    /// It returned a status.
    case status(Int32)
    /// A signal ended it.
    case signal(Int32)

    public var description: String {
        switch self {
        case .status(let status): "ended with status \(status)"
        case .signal(let number): "was ended by signal \(number) (\(String(cString: strsignal(number))))"
        }
    }
}

/// A running child process: its own process group, its output in our hands, its life tied to ours by `Lifeline`.
final class ChildProcess: Sendable {
    let name: String
    let processID: Int32
    let started = ContinuousClock.now
    /// The writing end of the child's lifeline; nobody ever writes.
    private let lifeline: Int32
    private let output: SharedState<Output>

    private struct Output {
        var lastLines: [String] = []
        var hasEnded = false
    }

    /// Starts the process.
    ///
    /// - Parameters:
    ///   - command: what to start.
    ///   - isRestart: whether `restartArguments` apply.
    ///   - inherited: a descriptor that the process keeps open as long as it lives.
    ///   - onLine: gets every line of its output, on a thread of its own.
    ///   - onExit: told once how it ended, on a thread of its own.
    /// - Throws: `cannotStart`.
    init(
        _ command: ChildCommand, isRestart: Bool, inheriting inherited: Int32? = nil,
        onLine: @escaping @Sendable (String) -> Void, onExit: @escaping @Sendable (ChildExit) -> Void
    ) throws(RuntimeError) {
        let pipe = try Self.pipe(for: command.name)
        let life = try Self.pipe(for: command.name)
        let arguments = (isRestart ? command.restartArguments : nil) ?? command.arguments
        let (status, processID) = Self.spawn(
            command, arguments, output: pipe.writing, lifeline: life.reading, inherited: inherited)
        close(pipe.writing)
        close(life.reading)
        guard status == 0 else {
            close(pipe.reading)
            close(life.writing)
            throw RuntimeError(
                code: .cannotStart, subject: command.name,
                message: "\(command.executable) cannot be started (\(String(cString: strerror(status))))",
                remedy: "check that the program exists and may be run")
        }
        name = command.name
        self.processID = processID
        lifeline = life.writing
        let output = SharedState(Output())
        self.output = output
        OSThread.start("output") {
            Self.readLines(pipe.reading) { line in
                output.withLock { $0.lastLines = ($0.lastLines + [line]).suffix(40) }
                onLine(line)
            }
            output.withLock { $0.hasEnded = true }
        }
        OSThread.start("exit") {
            let exit = Self.waitForEnd(of: processID)
            // What it wrote last is read first; a grandchild that keeps the pipe open does not hold up the news.
            _ = output.wait(for: "the output of \(command.name)", limit: .seconds(1)) { $0.hasEnded ? true : nil }
            onExit(exit)
        }
    }

    deinit { close(lifeline) }

    private static let spawning = Mutex(())

    /// The last lines of its output, oldest first.
    var lastLines: [String] { output.withLock { $0.lastLines } }

    /// Sends a signal to the process, or to its whole group.
    func signal(_ number: Int32, wholeGroup: Bool = false) { kill(wholeGroup ? -processID : processID, number) }

    private static func pipe(for name: String) throws(RuntimeError) -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        // Between the two calls nothing may be started, or it would inherit the pipe and keep it open.
        let status = spawning.withLock { _ in
            let status = posixPipe(&ends)
            for end in ends where status == 0 { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            return status
        }
        guard status == 0 else {
            throw RuntimeError(
                code: .cannotStart, subject: name, message: "no pipe (\(String(cString: strerror(errno))))",
                remedy: "raise the limit of open files (ulimit -n)")
        }
        return (ends[0], ends[1])
    }

    /// posix_spawn with: no input, output and errors into one pipe, the lifeline as descriptor 3, what is inherited as 4, a
    /// process group of its own (so that Ctrl-C reaches the supervisor only), default signal handling.
    private static func spawn(
        _ command: ChildCommand, _ arguments: [String], output: Int32, lifeline: Int32, inherited: Int32?
    ) -> (status: Int32, processID: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, output, 2)
        posix_spawn_file_actions_adddup2(&actions, lifeline, 3)
        // Copied from a number out of the way of those made before, which the actions replace one by one.
        let copy = inherited.map { fcntl($0, F_DUPFD_CLOEXEC, 16) } ?? -1
        defer { if copy >= 0 { close(copy) } }
        if copy >= 0 { posix_spawn_file_actions_adddup2(&actions, copy, 4) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        for number in [SIGINT, SIGTERM, SIGPIPE, SIGHUP] { sigaddset(&signals, number) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        var environment = ProcessInfo.processInfo.environment
        environment.merge(command.environment) { _, new in new }
        environment[Lifeline.variable] = "3"
        let variables = environment.map { "\($0.key)=\($0.value)" }
        var processID: Int32 = 0
        let status = withCStrings([command.executable] + arguments) { arguments in
            withCStrings(variables) { variables in
                spawning.withLock { _ in
                    posix_spawnp(&processID, command.executable, &actions, &attributes, arguments, variables)
                }
            }
        }
        return (status, processID)
    }

    private static func withCStrings<Result>(
        _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var pointers = strings.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        return pointers.withUnsafeMutableBufferPointer { buffer in
            // The array holds at least the final nil.
            body(UnsafePointer(buffer.baseAddress!))
        }
    }

    /// Passes lines on until every writer is gone; bytes that are not UTF-8 are replaced.
    private static func readLines(_ descriptor: Int32, _ body: (String) -> Void) {
        defer { close(descriptor) }
        var pending: [UInt8] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 1)
        defer { buffer.deallocate() }
        while true {
            let count = retrying { read(descriptor, buffer.baseAddress, buffer.count) }
            if count <= 0 { break }
            pending.append(contentsOf: buffer[..<count])
            while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                body(String(decoding: pending[..<end], as: UTF8.self))
                pending.removeSubrange(...end)
            }
        }
        if !pending.isEmpty { body(String(decoding: pending, as: UTF8.self)) }
    }

    private static func waitForEnd(of processID: Int32) -> ChildExit {
        var status: Int32 = 0
        _ = retrying { waitpid(processID, &status, 0) }
        // The C macros WIFEXITED, WEXITSTATUS and WTERMSIG.
        return status & 0x7F == 0 ? .status(status >> 8 & 0xFF) : .signal(status & 0x7F)
    }
}

// The name that the method of the same name would hide.
private func posixPipe(_ ends: UnsafeMutablePointer<Int32>) -> Int32 { pipe(ends) }
