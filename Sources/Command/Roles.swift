import ArgumentParser
import Configuration
import Foundation
import Learner
import Logging
import Platform
import Processes
import Protocol
import Relay
import RewardServer
import RolloutWorker
import RunFiles
import TensorCore
import Transport

/// What the roles have in common: where they are, whom they belong to.
struct RoleOptions: ParsableArguments {
    @Option(help: "Where this role listens; the settings' endpoint unless given.")
    var bind: String?

    @Option(help: "Run directory, for local sockets and the learner's files.", transform: expandingHome)
    var runDir: String = "runs/default"

    /// The endpoint of a server role: given here, in the settings, or a local socket of the run directory.
    func endpoint(_ given: String?, _ configured: String, role: String) throws -> Endpoint {
        try Endpoint(of: role, given ?? configured, in: runDir)
    }

    /// The journal of a role that keeps no other file: a request that ended it does not end the process that is started after it.
    /// Where none can be kept, on a machine whose disk takes no files for example, it works without and says so.
    func journal(of name: String, logger: Logger) -> RequestJournal? {
        do {
            return try RequestJournal(path: RequestJournal.path(of: name, logsFolder: runDir + "/logs"))
        } catch {
            logger.warning("\(error); a request that ends this process may end the next one, too")
            return nil
        }
    }
}

extension Endpoint {
    /// Where a role listens: as configured, or at a local socket of the run directory.
    init(of role: String, _ configured: String, in runDirectory: String) throws(TransportError) {
        try self.init(configured.isEmpty ? RunDirectory.localEndpoint(of: role, in: runDirectory) : configured)
    }
}

/// A role's shutdown signal: Ctrl-C, SIGTERM, or the end of the supervisor that started it.
private func makeShutdown() -> ShutdownSignal {
    let shutdown = ShutdownSignal()
    shutdown.listen()
    Lifeline.bind(to: shutdown)
    return shutdown
}

/// Does work in a run directory, which is made if it is missing. One that was made here and in which no run had its first
/// snapshot is removed again when the work fails for a reason it can state: nothing is left to clear away by hand.
func beginning(_ runDirectory: String, _ work: () async throws -> Void) async throws {
    let isNew = !FileManager.default.fileExists(atPath: runDirectory)
    do {
        try RunDirectory.createFolders(path: runDirectory)
        try await work()
    } catch {
        if isNew, (error as? RuntimeError)?.code != .processCrashed { RunDirectory.removeUnlessBegun(runDirectory) }
        throw error
    }
}

/// Runs a blocking role on a thread of its own and waits for it.
func onThread<Value: Sendable>(_ name: String, _ body: @escaping @Sendable () throws -> Value) async throws
    -> Value
{
    try await withCheckedThrowingContinuation { continuation in
        OSThread.start(name) { continuation.resume(with: Result { try body() }) }
    }
}

/// `advgrpo learner`.
struct LearnerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "learner",
        abstract: "Own the run: lease groups, train the policy, publish weights, keep snapshots.")

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var role: RoleOptions
    @Option(help: "Endpoint of the reward server; the settings' unless given.")
    var rewardServer: String?
    @Flag(help: "Continue the run in --run-dir from its last snapshot.")
    var resume = false
    @Flag(help: ArgumentHelp("Continue the run if it had begun.", visibility: .hidden))
    var again = false

    func run() async throws {
        let settings = try settings.load()
        try await beginning(role.runDir) { try await run(settings) }
    }

    private func run(_ settings: Settings) async throws {
        try Logs.bootstrap(file: role.runDir + "/logs/learner.log")
        let service = LearnerService.Options(
            settings: settings, runDirectory: role.runDir, start: resume ? .resume : again ? .again : .new,
            endpoint: try role.endpoint(role.bind, settings.cluster.endpoints.learner, role: "learner"),
            rewardServer: try role.endpoint(
                rewardServer, settings.cluster.endpoints.rewardServer, role: "reward-server"))
        let shutdown = makeShutdown()
        try await onThread("learner") { try LearnerService.run(service, shutdown: shutdown) }
    }
}

/// `advgrpo reward-server`.
struct RewardServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reward-server", abstract: "Host the discriminator: score images, train on the learner's order.")

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var role: RoleOptions

    func run() async throws {
        let settings = try settings.load()
        // A supervisor has looked already.
        if !Lifeline.isSupervised {
            try await onThread("references") { try Preflight.checkReferences(settings, evaluates: false) }
            try await onThread("reward processes") { try Preflight.checkRewardProcesses(settings) }
        }
        try RunDirectory.createFolders(path: role.runDir)
        try Logs.bootstrap(file: role.runDir + "/logs/reward-server.log")
        let endpoint = try role.endpoint(role.bind, settings.cluster.endpoints.rewardServer, role: "reward-server")
        let shutdown = makeShutdown()
        try await onThread("reward server") {
            let logger = Logger(label: "reward-server")
            let journal = try RequestJournal(
                path: RequestJournal.path(of: "reward-server", logsFolder: role.runDir + "/logs"))
            let loop = try SocketLoop()
            defer { loop.shutdownBlocking() }
            let server = try RewardServer(
                settings: settings, engine: try settings.engine.engine(), loop: loop, shutdown: shutdown,
                journal: journal, logger: logger)
            let options = try ServerOptions(
                keys: settings.cluster.keys, insecure: settings.cluster.insecure, logger: logger)
            let socket = try Server(endpoint, on: loop, options: options, handler: server.router.handle)
            logger.info("ready at \(socket.endpoint)")
            server.run { socket.join($0) }
        }
    }
}

/// `advgrpo relay`.
struct RelayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "relay",
        abstract: "Pass weights on to workers started with --relay: the learner sends each version once.")

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var role: RoleOptions
    @Option(help: "Endpoint of the learner, or of another relay; the settings' learner unless given.")
    var connect: String?
    @Option(help: "MiB of weights to keep at most; two versions should fit.")
    var memory = 4096

    func validate() throws {
        guard (16...(1 << 30)).contains(memory) else {
            throw ValidationError("--memory must be at least 16, not \(memory)")
        }
    }

    func run() async throws {
        let settings = try settings.load()
        try Logs.bootstrap(file: nil)
        let learner = try role.endpoint(connect, settings.cluster.endpoints.learner, role: "learner")
        let endpoint = try role.endpoint(role.bind, "", role: "relay")
        let shutdown = makeShutdown()
        let logger = Logger(label: "relay")
        let loop = try SocketLoop()
        let client = try Client(learner, on: loop, options: try ClientOptions(keys: settings.cluster.keys, as: .relay))
        let relay = Relay(
            learner: client, maximumByteCount: memory << 20, shutdown: shutdown,
            journal: role.journal(of: "relay", logger: logger))
        let socket = try Server(
            endpoint, on: loop,
            options: try ServerOptions(
                keys: settings.cluster.keys, insecure: settings.cluster.insecure, logger: logger),
            handler: relay.router.handle)
        logger.info("ready at \(socket.endpoint), weights from \(learner)")
        await shutdown.wait()
        while shutdown.isDraining, !shutdown.isRequested, socket.statistics.inProgressCount > 0 {
            try await Task.sleep(for: .milliseconds(20))
        }
        socket.close()
        await loop.shutdown()
    }
}

/// `advgrpo rollout-worker`.
struct RolloutWorkerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollout-worker", abstract: "Sample groups for a learner; start as many as you like, anywhere.")

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var role: RoleOptions
    @Option(help: "Endpoint of the learner; the settings' unless given.")
    var connect: String?
    @Option(help: "Endpoint of the reward server; the settings' unless given.")
    var rewardServer: String?
    @Option(help: "Endpoint of a relay, asked for weights before the learner is.")
    var relay: String?
    @Option(help: "Name of this worker, unique in the run; host and process id unless given.")
    var name: String?

    func validate() throws {
        guard let name else { return }
        guard (1...128).contains(name.utf8.count), !name.contains("/"), !name.hasPrefix(".") else {
            throw ValidationError("--name must be 1 to 128 bytes that name a file, without / and a leading dot")
        }
    }

    func run() async throws {
        let settings = try settings.load()
        // A name of its own process means nothing to the next one: workers without a name keep one journal.
        let journal = name ?? "rollout-worker"
        let name = name ?? "\(ProcessInfo.processInfo.hostName)-\(ProcessInfo.processInfo.processIdentifier)"
        try Logs.bootstrap(file: nil)
        let learner = try role.endpoint(connect, settings.cluster.endpoints.learner, role: "learner")
        let rewardServer = try role.endpoint(
            rewardServer, settings.cluster.endpoints.rewardServer, role: "reward-server")
        let relay = try relay.map { try Endpoint($0) }
        // A worker needs no socket of its own; it has one where it can be asked how it is.
        let own = role.bind == nil && !Lifeline.isSupervised ? nil : try role.endpoint(role.bind, "", role: name)
        let isLocal = role.bind == nil
        let shutdown = makeShutdown()
        try await onThread("worker") {
            let logger = Logger(label: name)
            let loop = try SocketLoop()
            defer { loop.shutdownBlocking() }
            let options = try ClientOptions(keys: settings.cluster.keys, as: .rolloutWorker)
            let worker = try RolloutWorker(
                settings: settings, name: name, engine: try settings.engine.engine(),
                peers: RolloutWorker.Peers(
                    learner: try Client(learner, on: loop, options: options),
                    rewardServer: try Client(rewardServer, on: loop, options: options),
                    relay: try relay.map { try Client($0, on: loop, options: options) }),
                journal: role.journal(of: journal, logger: logger), shutdown: shutdown, logger: logger)
            let serverOptions =
                isLocal
                ? ServerOptions()
                : try ServerOptions(keys: settings.cluster.keys, insecure: settings.cluster.insecure, logger: logger)
            let socket = try own.map { try Server($0, on: loop, options: serverOptions, handler: worker.router.handle) }
            if let socket { logger.info("ready at \(socket.endpoint)") }
            switch try worker.run() {
            case .stopped(let reason): logger.info("done: \(reason)")
            case .interrupted: logger.info("interrupted")
            }
        }
    }
}
