import FaultyNetwork
import Foundation
import LibC
import TestSupport
import Testing

extension ProcessTests {
    /// Kills, stops and interruptions at times, and faults of the network at bytes, drawn from a seed: the run ends with the
    /// bits of the undisturbed one.
    ///
    /// Even seeds disturb `advgrpo train`, odd ones roles that were started by hand. `ADVGRPO_CHAOS_SEEDS=200` tries more seeds,
    /// `ADVGRPO_CHAOS_FIRST=17` starts at another (`make chaos`). Several are under way at once: a disturbed run mostly waits.
    @Suite("Chaos", .optimized, .timeLimit(.minutes(180)))
    struct ChaosTests {
        @Test("whatever happens to the processes of advgrpo train, it ends with the same bits")
        func supervised() async throws {
            try await everySeed(.even) { seed, workspace in
                let run = try SupervisedRun(workspace)
                return try await outlived(run, seed: seed, workspace)
            }
        }

        @Test("whatever happens to roles started by hand and on the wires between them, they end with the same bits")
        func wired() async throws {
            try await everySeed(.odd) { seed, workspace in
                let run = try await WiredRun(workspace, seed: seed)
                let story = try await outlived(run, seed: seed, workspace)
                return story + "; wires: \(run.proxies.map(\.met.count))"
            }
        }

        /// Plays a seed's mishaps to a run and compares what it leaves.
        ///
        /// - Returns: what happened.
        private func outlived(_ run: any DisturbedRun, seed: UInt64, _ workspace: Workspace) async throws -> String {
            let schedule = Mishap.schedule(seed: seed)
            for mishap in schedule {
                try await Task.sleep(for: mishap.delay)
                switch mishap.kind {
                case .kill:
                    guard let victim = run.processID(of: mishap.role) else { continue }
                    kill(victim, SIGKILL)
                    try await eventually("the death of \(mishap.role)") {
                        run.processID(of: mishap.role) == victim ? nil : true
                    }
                    try run.revive(mishap.role)
                case .stop:
                    guard let victim = run.processID(of: mishap.role) else { continue }
                    kill(victim, SIGSTOP)
                    try await Task.sleep(for: mishap.pause)
                    kill(victim, SIGCONT)
                case .killAll: try await run.killAll()
                case .interrupt: try await run.interrupt()
                }
            }
            let finished = try await run.finish()
            let story: Comment = "seed \(seed): \(schedule)\n\(finished.errors)"
            #expect(finished.exit == .status(0), story)
            try await expectSameBits(workspace.files("run"), story)
            return "\(schedule)"
        }

        private enum Parity: UInt64 { case even, odd }

        /// Runs the body for every seed asked for of that parity, in workspaces of their own.
        private func everySeed(
            _ parity: Parity, _ body: @escaping @Sendable (UInt64, Workspace) async throws -> String
        ) async throws {
            func number(_ name: String, _ otherwise: UInt64) -> UInt64 {
                ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? otherwise
            }
            let first = number("ADVGRPO_CHAOS_FIRST", 0)
            let seeds = (first..<first + number("ADVGRPO_CHAOS_SEEDS", 6)).filter { $0 % 2 == parity.rawValue }
            guard !seeds.isEmpty else { return }
            // Made before processors are shared.
            _ = try await UndisturbedRun.shared.result
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (started, seed) in seeds.enumerated() {
                    if started >= Self.seedsAtOnce { try await group.next() }
                    group.addTask {
                        let begin = ContinuousClock.now
                        try await withWorkspace { workspace in
                            do {
                                let story = try await body(seed, workspace)
                                print("chaos, seed \(seed), \(ContinuousClock.now - begin): \(story)")
                            } catch {
                                throw TestFailure("seed \(seed): \(error)")
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }

        private static let seedsAtOnce = 8
    }
}
