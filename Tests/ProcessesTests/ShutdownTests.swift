import Foundation
import Testing

@testable import Processes

/// Each test runs in a process of its own and ends it.
@Suite("Shutdown of a process", .timeLimit(.minutes(1)))
struct ShutdownTests {
    @Test("SIGTERM asks for the end and does not end the process")
    func signalIsARequest() async {
        await #expect(processExitsWith: .exitCode(7)) {
            let shutdown = ShutdownSignal()
            shutdown.listen()
            kill(getpid(), SIGTERM)
            await shutdown.wait()
            exit(shutdown.reason == "SIGTERM" && shutdown.signalCount == 1 ? 7 : 1)
        }
    }

    @Test("a second signal ends the process at once")
    func secondSignal() async {
        await #expect(processExitsWith: .exitCode(130)) {
            let shutdown = ShutdownSignal()
            shutdown.listen()
            kill(getpid(), SIGINT)
            await shutdown.wait()
            try await Task.sleep(for: .milliseconds(1100))
            kill(getpid(), SIGINT)
            try await Task.sleep(for: .seconds(20))
        }
    }

    @Test("two signals at once are one wish: timeout(1) signals its child and then the child's group")
    func doubledSignal() async {
        await #expect(processExitsWith: .exitCode(7)) {
            let shutdown = ShutdownSignal()
            shutdown.listen()
            kill(getpid(), SIGTERM)
            await shutdown.wait()
            kill(getpid(), SIGTERM)
            try await Task.sleep(for: .milliseconds(300))
            exit(shutdown.signalCount == 1 ? 7 : 1)
        }
    }

    @Test("a role stops in order when its supervisor is gone")
    func lifeline() async {
        await #expect(processExitsWith: .exitCode(7)) {
            var ends: [Int32] = [0, 0]
            pipe(&ends)
            setenv(Lifeline.variable, String(ends[0]), 1)
            let shutdown = ShutdownSignal()
            Lifeline.bind(to: shutdown)
            try await Task.sleep(for: .milliseconds(50))
            if shutdown.isRequested { exit(1) }
            close(ends[1])
            await shutdown.wait()
            exit(shutdown.reason == "the supervisor is gone" ? 7 : 1)
        }
    }

    @Test("a role that does not stop is ended when its supervisor is gone")
    func lifelineLimit() async {
        await #expect(processExitsWith: .exitCode(1)) {
            var ends: [Int32] = [0, 0]
            pipe(&ends)
            setenv(Lifeline.variable, String(ends[0]), 1)
            close(ends[1])
            Lifeline.bind(to: ShutdownSignal(), limit: .milliseconds(100))
            try await Task.sleep(for: .seconds(20))
        }
    }
}
