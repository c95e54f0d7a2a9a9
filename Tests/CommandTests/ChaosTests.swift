import FaultyNetwork
import Foundation
import TestSupport
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
        var generator = SplitMix(state: seed)
        return (0..<Int.random(in: 1...4, using: &generator)).map { _ in
            Mishap(
                kind: Kind.allCases.randomElement(using: &generator) ?? .kill,
                role: ["worker-0", "worker-1", "reward-server", "learner"].randomElement(using: &generator) ?? "",
                delay: .milliseconds(Int.random(in: 0...1500, using: &generator)),
                pause: .milliseconds(Int.random(in: 100...2500, using: &generator)))
        }
    }
}

extension ProcessTests {
    /// Kills, stops and interruptions at times, and faults of the network at bytes, drawn from a seed: the run ends with the
    /// bits of the undisturbed one.
    ///
    /// `ADVGRPO_CHAOS_SEEDS=200` tries more seeds, `ADVGRPO_CHAOS_FIRST=17` starts at another (`make chaos`).
    @Suite("Chaos", .timeLimit(.minutes(120)))
    struct ChaosTests {
        /// - Parameter count: seeds in every `make test`.
        private static func seeds(_ count: UInt64) -> Range<UInt64> {
            func number(_ name: String, _ otherwise: UInt64) -> UInt64 {
                ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? otherwise
            }
            let first = number("ADVGRPO_CHAOS_FIRST", 0)
            return first..<first + number("ADVGRPO_CHAOS_SEEDS", count)
        }

        @Test("whatever happens to its processes, a run ends with the same bits", arguments: seeds(4))
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

        @Test("whatever happens on the wires between its roles, a run ends with the same bits", arguments: seeds(2))
        func wires(seed: UInt64) async throws {
            try await withWorkspace { workspace in
                #expect(try await workspace.run("keygen", "--out", "keys").exit == .status(0))
                let (learnerPort, rewardPort) = (try Loopback.freePort(), try Loopback.freePort())
                var proxies: [FaultyProxy] = []
                /// A link of its own for every client of every server.
                func link(to port: UInt16) throws -> String {
                    let faults = WireFault.schedule(seed: seed, link: UInt64(proxies.count))
                    proxies.append(try FaultyProxy(to: port, faults: faults))
                    return "tcp://127.0.0.1:\(proxies[proxies.count - 1].port)"
                }
                func start(_ arguments: String...) throws -> RunningProcess {
                    let secured = ["--set", "cluster.keys=keys", "--set", "cluster.leaseSeconds=1"]
                    return try RunningProcess(
                        arguments + secured, folder: workspace.path, name: "\(arguments[0])-\(proxies.count)")
                }
                let rewardServer = try start(
                    "reward-server", "settings.yaml", "--run-dir", "run", "--bind", "tcp://127.0.0.1:\(rewardPort)")
                let learner = try start(
                    "learner", "settings.yaml", "--run-dir", "run", "--bind", "tcp://127.0.0.1:\(learnerPort)",
                    "--reward-server", try link(to: rewardPort))
                let workers = try (0..<2).map { index in
                    try start(
                        "rollout-worker", "settings.yaml", "--name", "worker-\(index)",
                        "--connect", try link(to: learnerPort), "--reward-server", try link(to: rewardPort))
                }
                // The wires are those of the run's end, too: a worker may not hear of it.
                defer { for role in workers + [rewardServer] { role.signal(SIGKILL) } }
                let finished = try await learner.finish()
                print("wires, seed \(seed): \(proxies.map(\.met.count)) faults on the links")
                let story: Comment = "seed \(seed): \(proxies.map(\.met))\n\(finished.errors)"
                #expect(finished.exit == .status(0), story)
                try await expectSameBits(workspace.files("run"), story)
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
