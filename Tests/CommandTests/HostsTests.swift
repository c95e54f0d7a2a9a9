import Foundation
import LibC
import TestSupport
import Testing

/// Hosts on a network of their own: Linux network namespaces on one bridge. They are gone when it is.
final class HostNetwork: Sendable {
    /// Whether this machine lets its user make network namespaces.
    static let isAvailable = geteuid() == 0 && Shell.run("ip netns add advgrpo-probe && ip netns del advgrpo-probe")

    private let tag: String
    private let count: Int

    /// Hosts 0..<count, each with one address.
    init(count: Int) throws {
        tag = String(UUID().uuidString.prefix(6)).lowercased()
        self.count = count
        // The bridge lives in the first host: nothing of the machine's own network is touched.
        var commands = (0..<count).map { "ip netns add \(name($0)) && ip -n \(name($0)) link set lo up" }
        commands.append("ip -n \(name(0)) link add hub type bridge && ip -n \(name(0)) link set hub up")
        commands.append("ip -n \(name(0)) addr add \(address(0))/24 dev hub")
        for host in 1..<count {
            commands.append(
                "ip -n \(name(0)) link add port\(host) type veth peer name net0 netns \(name(host))"
                    + " && ip -n \(name(0)) link set port\(host) master hub up"
                    + " && ip -n \(name(host)) addr add \(address(host))/24 dev net0"
                    + " && ip -n \(name(host)) link set net0 up")
        }
        for command in commands where !Shell.run(command) { throw TestFailure("failed: \(command)") }
    }

    deinit { for host in 0..<count { _ = Shell.run("ip netns del \(name(host))") } }

    /// The namespace.
    func name(_ host: Int) -> String { "advgrpo-\(tag)-\(host)" }

    func address(_ host: Int) -> String { "10.66.0.\(host + 1)" }

    /// Cuts a host off, or connects it again. Nobody is told: packets are lost.
    func link(of host: Int, isUp: Bool) throws {
        guard Shell.run("ip -n \(name(0)) link set port\(host) \(isUp ? "up" : "down")") else {
            throw TestFailure("the link of host \(host) cannot be changed")
        }
    }
}

extension ProcessTests {
    /// Roles on hosts of their own, over TCP with CURVE.
    @Suite(
        "Hosts", .optimized, .timeLimit(.minutes(4 * patience)),
        .enabled(if: HostNetwork.isAvailable, "needs root and network namespaces"))
    struct HostsTests {
        @Test("workers on other hosts that are cut off, killed and join late end in the bits of the run on one machine")
        func partition() async throws {
            try await withWorkspace { workspace in
                let network = try HostNetwork(count: 4)
                let keys = try await workspace.run("keygen", "--out", "keys")
                #expect(keys.exit == .status(0), "\(keys.errors)")
                let (learnerAt, rewardAt) = ("tcp://\(network.address(0)):5601", "tcp://\(network.address(0)):5602")
                let secured = ["--set", "cluster.keys=keys", "--set", "cluster.leaseSeconds=2"]
                func start(_ host: Int, _ arguments: String...) throws -> RunningProcess {
                    try RunningProcess.on(network, host, workspace, arguments + secured)
                }
                let rewardServer = try start(
                    0, "reward-server", "settings.yaml", "--bind", rewardAt, "--run-dir", "run")
                let learner = try start(
                    0, "learner", "settings.yaml", "--bind", learnerAt, "--reward-server", rewardAt, "--run-dir", "run")
                func worker(_ host: Int) throws -> RunningProcess {
                    try start(
                        host, "rollout-worker", "settings.yaml", "--connect", learnerAt, "--reward-server", rewardAt)
                }
                let (cutOff, killed) = (try worker(1), try worker(2))
                let run = workspace.files("run")
                try await epochs(1, of: run, learner)
                try network.link(of: 1, isUp: false)
                killed.signal(SIGKILL)
                let late = try worker(3)
                try await epochs(3, of: run, learner)
                try network.link(of: 1, isUp: true)
                let finished = try await learner.finish()
                #expect(finished.exit == .status(0), "\(finished.errors)")
                try await expectSameBits(run)
                for other in [cutOff, late] {
                    #expect(try await other.finish().exit == .status(0), "\(other.errors)")
                }
                rewardServer.signal(SIGTERM)
                #expect(try await rewardServer.finish().exit == .status(0), "\(rewardServer.errors)")
            }
        }

        @Test("a worker without a key, or with a key nobody allowed, is not heard, and the run goes on without it")
        func strangers() async throws {
            try await withWorkspace { workspace in
                let network = try HostNetwork(count: 2)
                for folder in ["keys", "other"] {
                    #expect(try await workspace.run("keygen", "--out", folder).exit == .status(0))
                }
                // The stranger knows whom it talks to, but is not on the list.
                _ = Shell.run("cp \(workspace.path)/keys/server.pub \(workspace.path)/other/server.pub")
                let rewardAt = "tcp://\(network.address(0)):5602"
                let server = try RunningProcess.on(
                    network, 0, workspace,
                    ["reward-server", "settings.yaml", "--bind", rewardAt, "--set", "cluster.keys=keys"])
                try await eventually("the reward server") { server.errors.contains("ready at") ? true : nil }
                func health(_ arguments: String...) async throws -> Finished {
                    try await RunningProcess.on(network, 1, workspace, ["health", rewardAt] + arguments).finish()
                }
                // 1: it answers that it has no discriminator yet; 2: it does not answer.
                #expect(try await health("--keys", "keys").exit == .status(1))
                for stranger in [["--keys", "other", "--timeout", "2"], ["--timeout", "2"]] {
                    let refused = try await RunningProcess.on(network, 1, workspace, ["health", rewardAt] + stranger)
                        .finish()
                    #expect(refused.exit == .status(2) && refused.output.isEmpty, "\(stranger): \(refused.output)")
                }
                #expect(try await health("--keys", "keys").exit == .status(1))
                server.signal(SIGTERM)
                #expect(try await server.finish().exit == .status(0), "\(server.errors)")
            }
        }
    }
}

extension RunningProcess {
    /// Starts the program on a host of a network.
    static func on(
        _ network: HostNetwork, _ host: Int, _ workspace: Workspace, _ arguments: [String]
    ) throws -> RunningProcess {
        try RunningProcess(
            ["netns", "exec", network.name(host), Product.path] + arguments, program: "ip", folder: workspace.path,
            name: "host\(host)-\(arguments[0])-\(UUID().uuidString.prefix(4))")
    }
}

/// A line for the shell; true if it ended with status 0.
enum Shell {
    static func run(_ line: String) -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", line]
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }
}
