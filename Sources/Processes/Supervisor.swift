internal import LibC
public import Logging
internal import Platform

/// Starts the roles of a run as child processes, keeps them running and ends them in order.
///
/// consumes: ends of processes, the shutdown signal. produces: log files, progress. waits for: either. freed by: the
/// primary process ending, a process failing for good, or the shutdown signal.
///
/// No child outlives `run()`, nor this process: children see the end of their `Lifeline`.
public final class Supervisor: Sendable {
    /// How a supervised run ended.
    public enum Outcome: Sendable, Equatable {
        /// The primary process did all its work.
        case completed
        /// Somebody asked for the end, and the primary process ended in good order.
        case interrupted(reason: String)
    }

    /// Times that are waited for.
    public struct Limits: Sendable {
        /// For the primary process to finish its group, take a snapshot and end.
        public var primaryStop: Duration = .seconds(60)
        /// For the others to end after that.
        public var stop: Duration = .seconds(10)
        /// Restarts in a row.
        public var restarts = 5

        public init() {}
    }

    private struct Ended {
        let child: ChildProcess
        let exit: ChildExit
        /// Whether its journal of requests grew when it ended.
        let isByRequest: Bool
    }

    private let commands: [ChildCommand]
    private let claim: RunClaim
    private let shutdown: ShutdownSignal
    private let limits: Limits
    private let logger: Logger
    private let onProgress: @Sendable (Progress) -> Void
    private let ends = SharedState<[Ended]>([])

    /// A supervisor that has started nothing yet.
    ///
    /// - Parameters:
    ///   - commands: the roles in order of start; the first is the primary one, whose end ends the run.
    ///   - claim: on the run; `NAME.log` is kept for each of them in its folder.
    ///   - shutdown: asked for the end.
    ///   - limits: how long it waits, how often it starts again.
    ///   - logger: told about starts, ends and restarts.
    ///   - onProgress: shows what the primary process reports.
    public init(
        _ commands: [ChildCommand], claim: RunClaim, shutdown: ShutdownSignal, limits: Limits = Limits(),
        logger: Logger, onProgress: @escaping @Sendable (Progress) -> Void
    ) {
        precondition(!commands.isEmpty, "supervisor: no commands")
        self.commands = commands
        self.claim = claim
        self.shutdown = shutdown
        self.limits = limits
        self.logger = logger
        self.onProgress = onProgress
    }

    /// Runs everything to its end. Blocks the calling thread.
    ///
    /// - Throws: `cannotStart`, or `processFailed` with the process, how it ended and its last line.
    public func run() throws(RuntimeError) -> Outcome {
        var running: [String: ChildProcess] = [:]
        defer { for child in running.values { child.signal(SIGKILL, wholeGroup: true) } }
        do {
            for command in commands { running[command.name] = try start(command, isRestart: false) }
            let outcome = try supervise(&running)
            stopAll(&running)
            return outcome
        } catch {
            stopAll(&running)
            throw error
        }
    }

    private func supervise(_ running: inout [String: ChildProcess]) throws(RuntimeError) -> Outcome {
        let primary = commands[0].name
        var policies = [String: RestartPolicy](
            uniqueKeysWithValues: commands.map { ($0.name, RestartPolicy(limit: limits.restarts)) })
        var due: [String: ContinuousClock.Instant] = [:]
        var stop: (reason: String, killsAt: ContinuousClock.Instant)?
        var isKilled = false
        while true {
            if stop == nil, let reason = shutdown.reason {
                // The others are kept running until it has ended: its snapshot needs them.
                logger.info("stopping", metadata: ["reason": "\(reason)"])
                stop = (reason, .now + limits.primaryStop)
                running[primary]?.signal(SIGTERM)
            }
            if let stop {
                guard let child = running[primary] else { return .interrupted(reason: stop.reason) }
                if !isKilled, .now >= stop.killsAt || shutdown.signalCount > 1 {
                    isKilled = true
                    kill(child)
                }
            }
            for command in commands {
                guard let time = due[command.name], time <= .now else { continue }
                due[command.name] = nil
                running[command.name] = try start(command, isRestart: true)
            }
            guard let ended = nextEnd(.milliseconds(100)) else { continue }
            let name = ended.child.name
            running[name] = nil
            if let stop, name == primary {
                guard ended.exit == .status(0) || ended.exit == .signal(SIGTERM) else { throw failure(ended) }
                return .interrupted(reason: stop.reason)
            }
            switch policies[name]?.decide(
                ended.exit, uptime: .now - ended.child.started, isByRequest: ended.isByRequest) ?? .giveUp
            {
            case .done:
                if name == primary { return .completed }
                logger.info("process ended", metadata: ["process": "\(name)"])
            case .restart(let wait):
                let cause = ended.isByRequest ? " by a request, which is refused from now on" : ""
                logger.warning(
                    "\(name) \(ended.exit)\(cause); starting it again", metadata: ["seconds": "\(wait.seconds)"])
                due[name] = .now + wait
            case .giveUp: if stop == nil { throw failure(ended) }
            }
        }
    }

    /// Ends a process that was asked to and did not.
    private func kill(_ child: ChildProcess) {
        logger.warning("\(child.name) did not stop in time; ending it")
        child.signal(SIGKILL, wholeGroup: true)
    }

    /// SIGTERM to all of them, then after a while SIGKILL to their groups.
    private func stopAll(_ running: inout [String: ChildProcess]) {
        for child in running.values { child.signal(SIGTERM) }
        let killsAt = ContinuousClock.now + limits.stop
        var isKilled = false
        while !running.isEmpty {
            if let ended = nextEnd(.milliseconds(100)) {
                running[ended.child.name] = nil
                ended.child.signal(SIGKILL, wholeGroup: true)
            }
            if !isKilled, .now >= killsAt || shutdown.signalCount > 1 {
                isKilled = true
                for child in running.values { kill(child) }
            }
        }
    }

    private func nextEnd(_ limit: Duration) -> Ended? {
        ends.wait(for: "the end of a process", limit: limit) { $0.isEmpty ? nil : $0.removeFirst() }
    }

    private func start(_ command: ChildCommand, isRestart: Bool) throws(RuntimeError) -> ChildProcess {
        let log = try LogFile(path: "\(claim.logsFolder)/\(command.name).log")
        let isPrimary = command.name == commands[0].name
        let (ends, onProgress) = (ends, onProgress)
        let holder = SharedState<ChildProcess?>(nil)
        let journal = RequestJournal.path(of: command.name, logsFolder: claim.logsFolder)
        let journalByteCount = RequestJournal.byteCount(of: journal)
        let child = try ChildProcess(command, isRestart: isRestart, inheriting: claim.roles.descriptor) { line in
            if let progress = ProgressLine.progress(in: line) {
                if isPrimary { onProgress(progress) }
            } else {
                log.append(line)
            }
        } onExit: { exit in
            let child = holder.wait(for: "the start of \(command.name)", limit: .seconds(60)) { $0 }
            let isByRequest = RequestJournal.byteCount(of: journal) > journalByteCount
            if let child { ends.withLock { $0.append(Ended(child: child, exit: exit, isByRequest: isByRequest)) } }
        }
        holder.withLock { $0 = child }
        logger.debug("process started", metadata: ["process": "\(command.name)", "id": "\(child.processID)"])
        return child
    }

    private func failure(_ ended: Ended) -> RuntimeError {
        let lines = ended.child.lastLines.filter { ProgressLine.progress(in: $0) == nil && !$0.isEmpty }
        let (name, log) = (ended.child.name, "its log is \(claim.logsFolder)/\(ended.child.name).log")
        guard case .status = ended.exit else {
            return RuntimeError(
                code: .processCrashed, subject: name, message: "\(ended.exit)" + (lines.last.map { ": \($0)" } ?? ""),
                remedy: log)
        }
        // What a role of this program says when it gives up is all there is to say.
        if let start = lines.lastIndex(where: { $0.hasPrefix(Self.lastWord) }) {
            let sentence = lines[start...].joined(separator: "\n").dropFirst(Self.lastWord.count)
            return RuntimeError(code: .processFailed, subject: name, message: String(sentence))
        }
        return RuntimeError(
            code: .processFailed, subject: name, message: "\(ended.exit)" + (lines.last.map { ": \($0)" } ?? ""),
            remedy: log)
    }

    /// How the line begins with which a process of this program says why it ends.
    public static let lastWord = "advgrpo: "
}
