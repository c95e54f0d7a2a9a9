import Foundation
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// What happens to a run, drawn from a seed.
struct Mishap: CustomStringConvertible {
    enum Kind: CaseIterable {
        /// SIGKILL of one role.
        case kill
        /// SIGSTOP of one role, SIGCONT later.
        case stop
        /// SIGKILL of the supervisor, --resume at once.
        case killSupervisor
        /// Ctrl-C, --resume afterwards.
        case interrupt
    }

    let kind: Kind
    /// Whom it meets; the supervisor's mishaps have no use for it.
    let role: String
    /// Time before it.
    let delay: Duration
    /// How long a stopped role stands still.
    let pause: Duration

    var description: String { "\(delay): \(kind) \(role) \(pause)" }

    /// One to four mishaps.
    static func schedule(seed: UInt64) -> [Mishap] {
        var generator = SplitMix64(state: seed)
        return (0..<Int.random(in: 1...4, using: &generator)).map { _ in
            Mishap(
                kind: Kind.allCases.randomElement(using: &generator) ?? .kill,
                role: ["worker-0", "worker-1", "reward-server", "learner"].randomElement(using: &generator) ?? "",
                delay: .milliseconds(Int.random(in: 0...1500, using: &generator)),
                pause: .milliseconds(Int.random(in: 100...2500, using: &generator)))
        }
    }
}

/// Steele, Lea and Flood 2014: a schedule has to be the same on every machine.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension ProcessTests {
    /// Kills, stops and interruptions at times drawn from a seed: the run ends with the bits of the undisturbed one.
    ///
    /// `ADVGRPO_CHAOS_SEEDS=200` tries more seeds, `ADVGRPO_CHAOS_FIRST=17` starts at another (`make chaos`).
    @Suite("Chaos", .timeLimit(.minutes(120)))
    struct ChaosTests {
        static let seeds: Range<UInt64> = {
            func number(_ name: String, _ otherwise: UInt64) -> UInt64 {
                ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? otherwise
            }
            let first = number("ADVGRPO_CHAOS_FIRST", 0)
            return first..<first + number("ADVGRPO_CHAOS_SEEDS", 4)
        }()

        @Test("whatever happens to its processes, a run ends with the same bits", arguments: seeds)
        func chaos(seed: UInt64) async throws {
            let schedule = Mishap.schedule(seed: seed)
            try await withWorkspace { workspace in
                let run = workspace.files("run")
                var train = try begun(workspace)
                for mishap in schedule {
                    try await Task.sleep(for: mishap.delay)
                    switch mishap.kind {
                    case .kill:
                        if let victim = workspace.processID(of: mishap.role) { kill(victim, SIGKILL) }
                    case .stop:
                        guard let victim = workspace.processID(of: mishap.role) else { continue }
                        kill(victim, SIGSTOP)
                        try await Task.sleep(for: mishap.pause)
                        kill(victim, SIGCONT)
                    case .killSupervisor, .interrupt:
                        train.signal(mishap.kind == .interrupt ? SIGINT : SIGKILL)
                        let ended = try await train.finish()
                        if mishap.kind == .interrupt {
                            #expect(ended.exit == .status(0), "\(schedule)\n\(ended.errors)")
                        }
                        train = try await resumed(workspace)
                    }
                }
                let finished = try await train.finish()
                try await expectSameBits(run, of: finished, workspace, "seed \(seed): \(schedule)")
            }
        }

        /// A run that was stopped before it had a folder to resume starts anew, as its user would start it, once the roles of
        /// the first try are gone: one of them may still be making the folder.
        private func resumed(_ workspace: Workspace) async throws -> RunningProcess {
            if !workspace.exists("run/settings.yaml") {
                try await eventually("the end of all roles") { workspace.processes.isEmpty ? true : nil }
            }
            return workspace.exists("run/settings.yaml")
                ? try workspace.start("train", "--resume", "--run-dir", "run") : try begun(workspace)
        }

        private func begun(_ workspace: Workspace) throws -> RunningProcess {
            try workspace.start("train", "settings.yaml", "--run-dir", "run", "--set", "cluster.leaseSeconds=1")
        }
    }
}
