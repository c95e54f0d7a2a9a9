import AdvGRPO
import ComputeRoles
public import Configuration
import Datasets
import Foundation
import ImageModels
import Logging
import MethodModels
import NeuralNetworks
public import Processes
import Protocol
import RunFiles
import TensorCore
public import Transport

/// The learner as a process: its socket, its training thread, its run directory.
public enum LearnerService {
    /// What a learner makes of its run directory.
    public enum Start: Sendable {
        /// Begins a run; there must be none.
        case new
        /// Continues the run that is there.
        case resume
        /// Continues a run if it had begun: a learner that a supervisor started again.
        case again
    }

    /// What a learner is started with.
    public struct Options: Sendable {
        public var settings: Settings
        public var runDirectory: String
        /// Whether a run that is already there is continued, or begun.
        public var start: Start
        /// Where it listens.
        public var endpoint: Endpoint
        /// Where the reward server listens.
        public var rewardServer: Endpoint

        public init(settings: Settings, runDirectory: String, start: Start, endpoint: Endpoint, rewardServer: Endpoint)
        {
            self.settings = settings
            self.runDirectory = runDirectory
            self.start = start
            self.endpoint = endpoint
            self.rewardServer = rewardServer
        }
    }

    /// Runs the learner. Blocks the calling thread until the run is complete, or, when the shutdown signal came, until its snapshot
    /// is written.
    ///
    /// - Throws: typed errors that name file, key or peer; nothing half-written is left.
    public static func run(_ options: Options, shutdown: ShutdownSignal) throws {
        let settings = options.settings
        let logger = Logger(label: "learner")
        let directory =
            options.start == .resume || options.start == .again && RunDirectory.holdsRun(options.runDirectory)
            ? try RunDirectory.resume(path: options.runDirectory, settings: settings)
            : try RunDirectory.create(path: options.runDirectory, settings: settings)
        let models = try ModelDigest.pipeline(settings.model)
        let shared = SharedState(
            LearnerState(
                runID: try runID(in: directory, models: models), contract: RunContract(settings.method),
                settingsDigest: settings.methodDigest, models: models,
                ledger: Ledger(
                    leaseMilliseconds: Int(settings.cluster.leaseSeconds * 1000), firstLease: firstLease)))
        let loop = try SocketLoop()
        defer { loop.shutdownBlocking() }
        let journal = try RequestJournal(path: RequestJournal.path(of: "learner", logsFolder: directory.logsFolder))
        let handlers = LearnerHandlers(shared: shared, shutdown: shutdown, journal: journal, logger: logger)
        var serverOptions = try ServerOptions(
            keys: settings.cluster.keys, insecure: settings.cluster.insecure, logger: logger)
        serverOptions.runID = shared.withLock { $0.runID }
        let server = try Server(options.endpoint, on: loop, options: serverOptions, handler: handlers.handle)
        logger.info("ready at \(server.endpoint)")

        let engine = try settings.engine.engine()
        logger.info("engine \(engine.name): \(engine.kernel), \(Processor.description)")
        let policy = try DiffusionPolicy(
            PolicySource(path: settings.model, engine: engine, dtype: settings.precision.dtype),
            settings: settings.method.policy, seed: UInt64(settings.seed), embeddings: settings.data.embeddings)
        let lanes = Lanes(count: settings.cluster.learnerThreads)
        let runPrompts = try RunPrompts(settings)
        if let warning = runPrompts.warning { logger.warning("\(warning)") }
        let prompts = runPrompts.training
        let promptOrder = try PromptOrder(settings, promptCount: prompts.count)
        if let cuts = PromptCuts(prompts, readers: try PolicyFiles(path: settings.model).promptReaders()) {
            logger.warning("\(cuts.warning)")
        }
        let rollout = try policy.rollout(settings.method.rollout, seed: UInt64(settings.seed))
        let shapes = Dictionary(
            uniqueKeysWithValues: policy.initialParameters.entries.map { ($0.name, $0.tensor.shape) })
        shared.withLock { ($0.rollout, $0.trainedShapes) = (rollout, shapes) }
        let rewardServer =
            settings.method.usesRollouts
            ? try Client(
                options.rewardServer, on: loop, options: try ClientOptions(keys: settings.cluster.keys, as: .learner))
            : nil
        // A run that is to end does not wait for the answers of a reward server that nobody may start again.
        shutdown.onRequest { _ in
            Task {
                try await Task.sleep(for: patience)
                rewardServer?.close()
            }
        }
        let job = TrainingRun.Job(
            settings: settings, directory: directory, policy: policy, rollout: rollout, lanes: lanes, prompts: prompts,
            promptOrder: promptOrder)
        let run = try TrainingRun(
            job, shared: shared, rewardServer: rewardServer,
            outputs: try RunOutputs(
                settings: settings, directory: directory, policy: policy, lanes: lanes, shutdown: shutdown,
                logger: logger),
            shutdown: shutdown, logger: logger)
        switch try run.run() {
        case .completed:
            // Workers hear of the end when they ask for work; one that never hears of it waits a minute and fails.
            let end = ContinuousClock.now + farewell
            var isDeserted = false
            while !isDeserted, !shutdown.isRequested, .now < end {
                // Silence is no event: it is looked for again and again.
                isDeserted =
                    shared.wait(for: "the workers to leave", limit: .milliseconds(200)) { state in
                        // At once: a worker that came between the two would be taken in and then left alone.
                        state.isClosed = state.isDeserted(now: monotonicMilliseconds())
                        return state.isClosed || shutdown.isRequested ? true : nil
                    } ?? false
            }
            // The socket's thread may still hold the last answers; who comes meanwhile is refused.
            let _: Bool? = shared.wait(for: "the last answers to leave", limit: .milliseconds(500)) { _ in nil }
            logger.info("the run is complete")
        case .interrupted: logger.info("stopped after a snapshot")
        }
    }

    /// How long a learner that is to end waits for its reward server.
    private static let patience = Duration.seconds(30)

    /// How long a learner whose run is complete stays for workers that do not ask for work.
    private static let farewell = Duration.seconds(10)

    /// Number of the first lease: beyond all that an earlier process of this run gave, as long as it gave fewer than a thousand
    /// per millisecond and the clock does not go back.
    private static var firstLease: Int { Int(Date().timeIntervalSince1970 * 1000) * 1000 }

    /// The run's name: that of its snapshots, or a new one.
    ///
    /// - Throws: `modelChanged` when the snapshots belong to another model.
    private static func runID(in directory: RunDirectory, models: [String: String]) throws -> RunID {
        let store = try SnapshotStore(folder: directory.checkpointsFolder)
        if !store.steps().isEmpty {
            let record = try Checkpoint.record(in: try store.newest(warn: { _ in }).path)
            try record.checkModels(models, of: directory.path)
            return record.runID
        }
        let name = "run-" + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        // At most 17 letters, digits and hyphens.
        return RunID(rawValue: name)!
    }
}
