import AdvGRPO
import Configuration
import Foundation
import Processes
import Protocol
import RunFiles
import SafeTensors
import Synchronization
import Testing
import Transport
import WeightsTransfer

@testable import Learner

/// A learner under a thousand workers: its own handlers, state, ledger and socket on one side, `StubWorkers` in another process on
/// the other. Only the computing is left out: a worker waits instead, and the training thread trains at once.
@Suite("A thousand workers", .serialized, .timeLimit(.minutes(15)))
struct ScaleTests {
    static let workerCount = 1000
    /// Four groups a worker.
    static let groupsPerEpoch = 4000

    /// What the workers saw.
    struct Report: Codable {
        var accepted = 0
        var other = 0
        var errors: [String] = []
        var leaseRequests = 0
        var leaseP50 = 0.0
        var leaseP99 = 0.0
        var resultP99 = 0.0
    }

    @Test("every group of a thousand workers is trained once, and the learner's memory stays flat")
    func thousand() async throws {
        // Seconds under full load: ADVGRPO_SCALE_SECONDS, or a few.
        let seconds = ProcessInfo.processInfo.environment["ADVGRPO_SCALE_SECONDS"].flatMap(Double.init) ?? 6
        let loop = try SocketLoop()
        let learner = SharedState(try Self.state())
        let handlers = LearnerHandlers(shared: learner, shutdown: ShutdownSignal())
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: handlers.handle)
        let trainer = StubTrainer(learner)
        trainer.start()

        let path = FileManager.default.temporaryDirectory.appending(path: "scale-\(UInt32.random(in: 0 ... .max))").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let memory = MemoryWatch()
        let endpoint = server.endpoint.description
        await #expect(processExitsWith: .success) {
            [endpoint = endpoint as String, path = path as String, seconds = seconds as Double] in
            let report = try await StubWorkers(endpoint: Endpoint(endpoint)).work(seconds: seconds)
            try JSONEncoder().encode(report).write(to: URL(filePath: path))
        }
        let (settled, peak) = memory.end()
        trainer.stop()
        let report = try JSONDecoder().decode(Report.self, from: Data(contentsOf: URL(filePath: path)))
        let (counters, scored, workers) = learner.withLock { state in
            (state.ledger.counters, state.ledger.scoredGroups.count, state.workers.count)
        }
        let statistics = server.statistics
        print(
            "scale: \(report.accepted) groups in \(seconds) s (\(Int(Double(report.accepted) / seconds))/s), "
                + "lease p50 \(report.leaseP50) ms, p99 \(report.leaseP99) ms, result p99 \(report.resultP99) ms, "
                + "\(report.leaseRequests) lease requests, \(statistics.requestCount) requests, "
                + "\(statistics.repetitionCount) repetitions, memory \(settled >> 20) to \(peak >> 20) MiB")
        #expect(report.errors.isEmpty, "\(report.errors)")
        #expect(workers == Self.workerCount && report.accepted > Self.workerCount)
        // Accepted once, trained once; what is not trained yet is scored.
        #expect(counters.accepted == trainer.trainedCount + scored && counters.trained == trainer.trainedCount)
        #expect(report.accepted <= counters.accepted && counters.accepted - report.accepted <= Self.workerCount)
        #expect(counters.refused == 0 && counters.failed == 0 && statistics.rejectedCount == 0)
        #expect(statistics.busyCount == 0 && statistics.refusedConnectionCount == 0)
        // Two epochs' results are the most that is held, 260 MB; what grows with time would be beyond it soon.
        #expect(peak - settled < 192 << 20, "\(settled) to \(peak)")
        await loop.shutdown()
    }

    private static func state() throws -> LearnerState {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.steps = 4
        settings.window = WindowSettings(size: 1, start: .fixed(0))
        var state = LearnerState(
            runID: try #require(RunID(rawValue: "run-1")), contract: .test(memberCount: 4, components: ["dino_patch"]),
            settingsDigest: "settings",
            models: ["model/transformer": "a"],
            ledger: Ledger(leaseMilliseconds: 60_000))
        state.rollout = Rollout(settings: settings, sigmas: [1, 0.75, 0.5, 0.25, 0], latentShape: [16, 8, 8], seed: 1)
        return state
    }
}

/// The training thread in the steps of `TrainingRun`: open, collect, train.
private final class StubTrainer: Sendable {
    private let learner: SharedState<LearnerState>
    private let shared = Mutex((isStopping: false, trained: 0))
    private let hasEnded = DispatchSemaphore(value: 0)

    init(_ learner: SharedState<LearnerState>) { self.learner = learner }

    var trainedCount: Int { shared.withLock { $0.trained } }

    func start() {
        Thread.detachNewThread { [self] in
            var epoch = 0
            while !shared.withLock({ $0.isStopping }) {
                run(epoch)
                epoch += 1
            }
            hasEnded.signal()
        }
    }

    func stop() {
        shared.withLock { $0.isStopping = true }
        hasEnded.wait()
    }

    private func run(_ epoch: Int) {
        let prompts = (0..<ScaleTests.groupsPerEpoch).map { "prompt \($0)" }
        _ = learner.withLock { state in
            defer { state.results = [:] }
            let digest = WeightsDigest(bytes: (0..<32).map { UInt8(truncatingIfNeeded: epoch &+ $0) })
            state.weights = try? PublishedWeights(
                version: PolicyVersion(rawValue: epoch), digest: digest, tensors: [], bytes: SharedBytes())
            state.epoch = epoch
            state.ledger.open(epoch: epoch, prompts: prompts, now: monotonicMilliseconds())
            state.isLeasing = true
            return state.results
        }
        var results: [GroupResult]?
        while results == nil {
            if shared.withLock({ $0.isStopping }) { return }
            results = learner.wait(for: "the groups of epoch \(epoch)", limit: .seconds(1)) { state in
                guard state.ledger.isComplete(.rollout) else { return nil }
                return state.ledger.scoredGroups.compactMap { state.results[$0] }
            }
            if results == nil { learner.withLock { _ = $0.ledger.expire(now: monotonicMilliseconds()) } }
        }
        learner.withLock { state in
            state.isLeasing = false
            state.ledger.train(now: monotonicMilliseconds())
        }
        shared.withLock { $0.trained += results?.count ?? 0 }
    }
}

/// Resident memory of this process, once half of the time has passed and at most after that.
private final class MemoryWatch: Sendable {
    private let samples = Mutex<[Int]>([])
    private let isEnding = Mutex(false)

    init() {
        Thread.detachNewThread { [self] in
            while !isEnding.withLock({ $0 }) {
                samples.withLock { $0.append(ProcessMemory.residentByteCount) }
                usleep(100_000)
            }
        }
    }

    func end() -> (settled: Int, peak: Int) {
        isEnding.withLock { $0 = true }
        return samples.withLock { samples in
            let half = samples.count / 2
            return (samples[..<half].max() ?? 0, samples[half...].max() ?? 0)
        }
    }
}
