import FaultyNetwork
import LibC
import Testing

/// Roles started by hand over TCP with CURVE, each of their links through a proxy that delays, cuts, swallows and damages; what
/// dies is started again at once, as systemd would.
final class WiredRun: DisturbedRun {
    private let workspace: Workspace
    private var arguments: [String: [String]] = [:]
    private var processes: [String: RunningProcess] = [:]
    private(set) var proxies: [FaultyProxy] = []
    private var startCount = 0

    /// - Parameter seed: of the faults.
    init(_ workspace: Workspace, seed: UInt64) async throws {
        self.workspace = workspace
        #expect(try await workspace.run("keygen", "--out", "keys").exit == .status(0))
        let (learnerPort, rewardPort) = (try Loopback.freePort(), try Loopback.freePort())
        /// A link of its own for every client of every server.
        func link(to port: UInt16) throws -> String {
            let faults = WireFault.schedule(seed: seed, link: UInt64(proxies.count))
            proxies.append(try FaultyProxy(to: port, faults: faults))
            return "tcp://127.0.0.1:\(proxies[proxies.count - 1].port)"
        }
        arguments["reward-server"] = [
            "reward-server", "settings.yaml", "--run-dir", "run", "--bind", "tcp://127.0.0.1:\(rewardPort)",
        ]
        arguments["learner"] = [
            "learner", "settings.yaml", "--run-dir", "run", "--again", "--bind", "tcp://127.0.0.1:\(learnerPort)",
            "--reward-server", try link(to: rewardPort),
        ]
        for name in ["worker-0", "worker-1"] {
            arguments[name] = [
                "rollout-worker", "settings.yaml", "--name", name, "--connect", try link(to: learnerPort),
                "--reward-server", try link(to: rewardPort),
            ]
        }
        try startAll()
    }

    /// The wires are those of the run's end, too: a worker may not hear of it.
    deinit { for process in processes.values { process.signal(SIGKILL) } }

    private func start(_ role: String) throws {
        startCount += 1
        processes[role] = try RunningProcess(
            (arguments[role] ?? []) + ["--set", "cluster.keys=keys", "--set", "cluster.leaseSeconds=1"],
            folder: workspace.path, name: "\(role)-\(startCount)")
    }

    private func startAll() throws { for role in Mishap.roles.reversed() { try start(role) } }

    /// Whether the learner has done all its work.
    private var isDone: Bool { processes["learner"]?.exit == .status(0) }

    func processID(of role: String) -> Int32? { processes[role].flatMap { $0.exit == nil ? $0.processID : nil } }

    func revive(_ role: String) throws {
        guard !isDone else { return }
        try start(role)
    }

    func killAll() async throws {
        guard !isDone else { return }
        for process in processes.values { process.signal(SIGKILL) }
        for process in processes.values { _ = try await process.finish() }
        if !isDone { try startAll() }
    }

    func interrupt() async throws {
        guard let learner = processes["learner"], !isDone else { return }
        try await expectOrderlyEnd(of: learner)
        try start("learner")
    }

    func finish() async throws -> Finished {
        guard let learner = processes["learner"] else { throw TestFailure("no learner") }
        try await eventually("the end of the learner", within: .seconds(120)) {
            // A worker that an interrupted learner had sent home comes back.
            for role in ["worker-0", "worker-1"] where processes[role]?.exit == .status(0) && learner.exit == nil {
                try start(role)
            }
            return learner.exit
        }
        return try await learner.finish()
    }
}
