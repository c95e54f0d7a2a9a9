import Foundation
import LibC
import Logging
import Platform
import Synchronization
import TestSupport
import Testing

@testable import Processes

/// Real processes: small shell scripts in place of roles.
@Suite("Supervisor", .timeLimit(.minutes(1)))
struct SupervisorTests {
    private func shell(_ name: String, _ script: String, restart: String? = nil) -> ChildCommand {
        ChildCommand(
            name: name, executable: "/bin/sh", arguments: ["-c", script], restartArguments: restart.map { ["-c", $0] })
    }

    private func supervisor(
        _ commands: [ChildCommand], _ folder: TemporaryFolder, shutdown: ShutdownSignal = ShutdownSignal(),
        onProgress: @escaping @Sendable (Processes.Progress) -> Void = { _ in }
    ) throws -> Supervisor {
        var limits = Supervisor.Limits()
        limits.primaryStop = .seconds(5)
        limits.stop = .seconds(1)
        limits.restarts = 1
        return Supervisor(
            commands, claim: try RunClaim(logsFolder: folder.path), shutdown: shutdown, limits: limits,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, onProgress: onProgress)
    }

    /// Runs the blocking supervisor on a thread of its own.
    private func run(_ supervisor: Supervisor) async -> Result<Supervisor.Outcome, RuntimeError> {
        await withCheckedContinuation { continuation in
            OSThread.start(nil) {
                continuation.resume(returning: Result { () throws(RuntimeError) in try supervisor.run() })
            }
        }
    }

    private func isAlive(_ text: String) -> Bool {
        guard let processID = Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)) else { return true }
        return kill(processID, 0) == 0
    }

    @Test("the run ends with its primary process, and no child is left")
    func finished() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        let outcome = await run(
            try supervisor(
                [
                    shell(
                        "learner", "while [ ! -s \(path)/worker.pid ]; do sleep 0.05; done; echo done; echo error >&2"),
                    shell("worker-0", "echo $$ > \(path)/worker.pid; exec sleep 60"),
                ], folder))
        #expect(try outcome.get() == .completed)
        #expect(try folder.text("learner.log") == "done\nerror\n")
        #expect(!isAlive(try folder.text("worker.pid")))
    }

    @Test("a failure names the process, how it ended, its last line and its log")
    func failure() async throws {
        let folder = try TemporaryFolder()
        let outcome = await run(
            try supervisor(
                [shell("learner", "exec sleep 60"), shell("reward-server", "echo a.png: no such file >&2; exit 3")],
                folder))
        #expect(
            outcome
                == .failure(
                    RuntimeError(
                        code: .processFailed, subject: "reward-server",
                        message: "ended with status 3: a.png: no such file",
                        remedy: "its log is \(folder.path)/reward-server.log")))
    }

    @Test("what a role says when it gives up is the whole failure, all its lines")
    func lastWord() async throws {
        let folder = try TemporaryFolder()
        let script =
            "echo info: loading; echo 'advgrpo: list.json: 2 problems:' >&2; echo '  a.png; mend it' >&2; exit 1"
        let outcome = await run(
            try supervisor([shell("learner", "exec sleep 60"), shell("reward-server", script)], folder))
        #expect(
            outcome
                == .failure(
                    RuntimeError(
                        code: .processFailed, subject: "reward-server",
                        message: "list.json: 2 problems:\n  a.png; mend it")))
    }

    @Test("a killed process is started again with its restart arguments, but not for ever")
    func restart() async throws {
        let folder = try TemporaryFolder()
        let again = await run(
            try supervisor([shell("learner", "echo first; kill -9 $$", restart: "echo again")], folder))
        #expect(try again.get() == .completed)
        #expect(try folder.text("learner.log") == "first\nagain\n")
        let other = try TemporaryFolder()
        let failed = await run(try supervisor([shell("learner", "echo dying; kill -9 $$")], other))
        guard case .failure(let error) = failed else {
            Issue.record("a process that always dies finished")
            return
        }
        #expect(error.message.contains("signal 9") && error.message.hasSuffix("dying"))
        #expect(try other.text("learner.log") == "dying\ndying\n")
    }

    @Test("what dies while the primary process ends is started again: its last work may need it")
    func deathDuringShutdown() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        let shutdown = ShutdownSignal()
        let waiting = "while [ ! -e \(path)/again ]; do sleep 0.05; done"
        let supervisor = try supervisor(
            [
                shell("learner", "trap '\(waiting); echo saved; exit 0' TERM; while true; do sleep 0.05; done"),
                shell("reward-server", "sleep 0.5; kill -9 $(cat \(path)/victim.pid)"),
                shell(
                    "worker-0", "echo $$ > \(path)/victim.pid; exec sleep 60",
                    restart: "touch \(path)/again; exec sleep 60"),
            ], folder, shutdown: shutdown)
        Task {
            try await Task.sleep(for: .milliseconds(200))
            shutdown.request("SIGINT")
        }
        #expect(try await run(supervisor).get() == .interrupted(reason: "SIGINT"))
        #expect(try folder.text("learner.log") == "saved\n")
    }

    @Test("on shutdown the primary process ends first, in good order; the stubborn are killed")
    func shutdown() async throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        let shutdown = ShutdownSignal()
        let learner =
            "trap 'kill -0 $(cat \(path)/worker.pid) && echo snapshot; exit 0' TERM; while :; do sleep 0.05; done"
        let worker = "trap '' TERM; echo $$ > \(path)/worker.pid; while :; do sleep 0.05; done"
        let supervisor = try supervisor(
            [shell("learner", learner), shell("worker", worker)], folder, shutdown: shutdown)
        OSThread.start(nil) {
            while !FileManager.default.fileExists(atPath: path + "/worker.pid") { usleep(20_000) }
            usleep(300_000)
            shutdown.request("SIGINT")
        }
        #expect(try await run(supervisor).get() == .interrupted(reason: "SIGINT"))
        #expect(try folder.text("learner.log") == "snapshot\n")
        #expect(!isAlive(try folder.text("worker.pid")))
    }

    @Test("two supervisors cannot work in one folder")
    func lock() async throws {
        let folder = try TemporaryFolder()
        let first = try supervisor([shell("learner", "exit 0")], folder)
        let begin = ContinuousClock.now
        let error = #expect(throws: RuntimeError.self) { try RunClaim(logsFolder: folder.path) }
        #expect(error?.code == .runInUse && error?.message.contains("process \(getpid())") == true)
        #expect(ContinuousClock.now - begin < .seconds(5))
        #expect(try await run(first).get() == .completed)
    }

    @Test("who comes after a killed supervisor waits for its roles, but not for ever")
    func predecessors() async throws {
        let folder = try TemporaryFolder()
        // What a killed supervisor leaves: the lock, held by nobody but its roles.
        let descriptor = open(folder.path + "/roles.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        #expect(flock(descriptor, LOCK_EX) == 0)
        let role = try ChildProcess(
            shell("role", "exec sleep 1"), isRestart: false, inheriting: descriptor, onLine: { _ in }, onExit: { _ in })
        close(descriptor)
        let error = #expect(throws: RuntimeError.self) {
            try RunClaim(logsFolder: folder.path, patience: .milliseconds(100))
        }
        #expect(error?.code == .runInUse && error?.message.contains("supervisor that was killed") == true)
        do {
            let claim = try RunClaim(logsFolder: folder.path)
            #expect(!isAlive("\(role.processID)"))
            withExtendedLifetime(claim) {}
        }
        #expect(try folder.names().isEmpty, "a lock is left")
    }

    @Test("progress of the primary process is passed on and kept out of its log")
    func progress() async throws {
        let folder = try TemporaryFolder()
        let seen = Mutex<[Int]>([])
        let line = ProgressLine.marked(Progress(epoch: 3, epochCount: 9, phase: "x", fraction: 0.1))
        let outcome = await run(
            try supervisor([shell("learner", "echo '\(line)'; echo plain")], folder) { progress in
                seen.withLock { $0.append(progress.epoch) }
            })
        #expect(try outcome.get() == .completed)
        #expect(seen.withLock { $0 } == [3])
        #expect(try folder.text("learner.log") == "plain\n")
    }

    @Test("a program that is not there is named")
    func missingProgram() async throws {
        let folder = try TemporaryFolder()
        let outcome = await run(
            try supervisor([ChildCommand(name: "learner", executable: "/nowhere/advgrpo", arguments: [])], folder))
        guard case .failure(let error) = outcome else {
            Issue.record("a missing program was started")
            return
        }
        #expect(error.code == .cannotStart && error.message.contains("/nowhere/advgrpo"))
    }

    @Test("children see the end of their supervisor")
    func lifeline() throws {
        let folder = try TemporaryFolder()
        let ended = SharedState(false)
        // Reads its lifeline as `Lifeline.bind` does; the file tells that the end was seen.
        let command = shell("role", "read line <&$ADVGRPO_LIFELINE; echo gone > \(folder.path)/gone")
        var child: ChildProcess? = try ChildProcess(command, isRestart: false, onLine: { _ in }) { _ in
            ended.withLock { $0 = true }
        }
        usleep(100_000)
        #expect(child != nil && !folder.exists("gone"))
        child = nil
        #expect(ended.wait(for: "the end", limit: .seconds(10)) { $0 ? true : nil } == true)
        #expect(try folder.text("gone") == "gone\n")
    }

    @Test("restarts wait twice as long each time, up to ten seconds, and recover after a good minute")
    func policy() {
        var policy = RestartPolicy(limit: 7)
        let waits: [Double] = [0.5, 1, 2, 4, 8, 10, 10]
        for wait in waits {
            #expect(policy.decide(.signal(9), uptime: .zero) == .restart(after: .seconds(wait)))
        }
        #expect(policy.decide(.signal(9), uptime: .zero) == .giveUp)
        #expect(policy.decide(.signal(9), uptime: .seconds(61)) == .restart(after: .milliseconds(500)))
        #expect(policy.decide(.status(0), uptime: .zero) == .done)
        #expect(policy.decide(.status(1), uptime: .zero) == .giveUp)
    }

    @Test("a peer's requests do not spend the restarts: a role that each of many ends is started again every time")
    func requests() async throws {
        let folder = try TemporaryFolder()
        let journal = RequestJournal.path(of: "reward-server", logsFolder: folder.path)
        // Dies three times by a request, which the limit of one restart would not allow, and then works.
        let script = """
            [ $(cat \(journal) 2>/dev/null | wc -l) -ge 3 ] && touch \(folder.path)/well && exec sleep 60
            echo request >> \(journal); kill -ILL $$
            """
        let learner = "while [ ! -e \(folder.path)/well ]; do sleep 0.05; done"
        let outcome = await run(try supervisor([shell("learner", learner), shell("reward-server", script)], folder))
        #expect(try outcome.get() == .completed)
    }
}
