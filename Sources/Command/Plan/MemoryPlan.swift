import AdvGRPO
import ComputeRoles
import Configuration
import Datasets
import Learner
import Processes
import RewardServer
import RolloutWorker
import TensorCore

/// What a run's processes will need, found by rehearsing them: the roles' own code on an engine that computes nothing.
struct MemoryPlan: Codable, Sendable, Equatable {
    /// One kind of process.
    struct Role: Codable, Sendable, Equatable {
        var role: String
        /// Processes, and threads of each.
        var count: Int
        var threads: Int
        /// Resident bytes of one process at its peak.
        var peakBytes: Int
        /// What they consist of.
        var weightsBytes: Int, trainingBytes: Int, cachesBytes: Int, activationsBytes: Int, programBytes: Int
        /// The weights that are a mapped file's, whose pages all processes share.
        var mappedBytes: Int
    }
    var roles: [Role]
    /// All processes at their peaks at once, shared pages counted once.
    var totalBytes: Int
    var memory: SystemMemory
    /// What lowers it most.
    var advice: String

    /// Rehearses every role of `advgrpo train`. Takes seconds. Blocks the calling thread.
    ///
    /// - Throws: `CommandFailure` for an engine whose memory nobody has modelled; what loading models and
    ///   references throws, naming the file.
    init(_ settings: Settings, memory: SystemMemory = .current) throws {
        guard settings.engine.isRehearsed else {
            let planned = EngineKind.allCases.filter(\.isRehearsed).map(\.rawValue).joined(separator: " or ")
            throw CommandFailure("engine \(settings.engine) is not planned for; set engine to \(planned).")
        }
        let prompts = try RunPrompts(settings).training
        // A run that minutes end may have any number of epochs.
        let epochs = min(settings.run.epochs, 1_000_000)
        let groups = settings.method.rollout.groupsPerEpoch * epochs
        let cluster = settings.cluster
        func rehearse(_ role: String, count: Int, threads: Int, _ body: (RehearsalEngine) throws -> Void) rethrows
            -> Role
        {
            let engine = RehearsalEngine(trace: MemoryTrace())
            try body(engine)
            return Role(role, count: count, threads: threads, engine)
        }
        var stateByteCount = 0
        let players = settings.method.usesRollouts ? 1 : 0
        let rewardServer = try rehearse("reward server", count: players, threads: cluster.rewardServerThreads) {
            guard players > 0 else { return }
            stateByteCount = try RewardServerRehearsal.run(settings, engine: $0, epochCount: epochs)
        }
        let evaluated = settings.run.previewPrompts + settings.run.evaluation.prompts
        let learner = try rehearse("learner", count: 1, threads: cluster.learnerThreads) {
            try LearnerRehearsal.run(
                settings, engine: $0, discriminatorStateByteCount: stateByteCount, prompts: prompts,
                promptCount: min(groups, prompts.count), shownCount: evaluated)
        }
        let workers = max(1, cluster.workers)
        let worker = try rehearse(
            "rollout worker", count: players * cluster.workers, threads: cluster.threadsPerWorker
        ) {
            guard players > 0 else { return }
            try WorkerRehearsal.run(
                settings, engine: $0, prompts: prompts,
                promptCount: min((groups + workers - 1) / workers, prompts.count))
        }
        roles = [learner, rewardServer, worker].filter { $0.count > 0 || settings.method.usesRollouts }
        // The supervisor is a program without a role. Learner and workers map the same model, the reward server its own.
        totalBytes =
            ProgramMemory.idleBytes + roles.reduce(0) { $0 + $1.count * ($1.peakBytes - $1.mappedBytes) }
            + max(learner.mappedBytes, worker.mappedBytes) + rewardServer.mappedBytes
        self.memory = memory
        advice = Self.advice(roles, settings)
    }

    /// What does not fit, as one sentence that says what to change; nil where all of it does.
    var shortage: String? {
        guard totalBytes > memory.totalBytes else { return nil }
        return
            "the run will need \(gibibytes(totalBytes)) of memory and this machine has \(gibibytes(memory.totalBytes)): \(advice)"
    }

    /// Whether a run does not fit even if the prediction is a tenth too high.
    var isClearlyShort: Bool { totalBytes / 10 * 9 > memory.totalBytes }

    /// What would be tight now; nil where it would not, and where it would not fit at all.
    var warning: String? {
        guard shortage == nil, totalBytes > memory.availableBytes else { return nil }
        return
            "the run will need \(gibibytes(totalBytes)) of memory and only \(gibibytes(memory.availableBytes)) of "
            + "\(gibibytes(memory.totalBytes)) are free now: end other programs, or \(advice)"
    }

    /// What helps most against what takes most.
    private static func advice(_ roles: [Role], _ settings: Settings) -> String {
        guard let largest = roles.max(by: { $0.count * $0.peakBytes < $1.count * $1.peakBytes }) else { return "" }
        let takes = "\(largest.count == 1 ? "the" : "each") \(largest.role) takes \(gibibytes(largest.peakBytes))"
        var changes: [String] = []
        if largest.role == "rollout worker", largest.count > 1 { changes.append("lower cluster.workers") }
        if largest.activationsBytes > largest.weightsBytes {
            if largest.role != "reward server", settings.method.policy.gradientCheckpointing != .always {
                changes.append("set policy.gradientCheckpointing to always")
            }
            if settings.method.rollout.chunkSize > 1 { changes.append("lower rollout.chunkSize") }
            if largest.threads > 1 { changes.append("give it fewer threads") }
        }
        if changes.isEmpty, settings.precision == .fp32 { changes.append("set precision to bf16") }
        if changes.isEmpty { changes.append("take a smaller model or a lower rollout.resolution") }
        return changes.joined(separator: ", or ") + " (\(takes))"
    }

    /// For people: one line a role.
    var table: String {
        let header = ["role", "count", "threads", "peak", "weights", "training", "caches", "activations", "program"]
        let rows = roles.map { role in
            [
                role.role, "\(role.count)", "\(role.threads)",
            ]
                + [
                    role.peakBytes, role.weightsBytes, role.trainingBytes, role.cachesBytes, role.activationsBytes,
                    role.programBytes,
                ].map(mebibytes)
        }
        let widths = header.indices.map { column in ([header] + rows).map { $0[column].count }.max() ?? 0 }
        let lines = ([header] + rows).map { row in
            row.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }.joined(separator: "  ")
        }
        return
            (lines + [
                "all processes \(mebibytes(totalBytes)) MiB; this machine has \(mebibytes(memory.totalBytes)) MiB, "
                    + "\(mebibytes(memory.availableBytes)) of them free"
            ]).joined(separator: "\n")
    }
}

extension MemoryPlan.Role {
    fileprivate init(_ role: String, count: Int, threads: Int, _ engine: RehearsalEngine) {
        let peak = engine.trace.peak
        let program = ProgramMemory.idleBytes
        func bytes(_ kind: MemoryKind) -> Int { peak.byteCounts[kind] ?? 0 }
        self.init(
            role: role, count: count, threads: threads, peakBytes: program + peak.byteCount,
            weightsBytes: bytes(.weights), trainingBytes: bytes(.training), cachesBytes: bytes(.caches),
            activationsBytes: bytes(.activations), programBytes: program,
            mappedBytes: peak.mappedByteCount)
    }
}

/// What a process takes beside tensors and messages: program and libraries, their compiled operations, sockets, threads.
enum ProgramMemory {
    /// Measured: 44 to 55 MiB of a role's peak are neither; held to measurements by `PlanTests`.
    static let idleBytes = 52 << 20
}

private func mebibytes(_ byteCount: Int) -> String { "\((byteCount + (1 << 19)) >> 20)" }

private func gibibytes(_ byteCount: Int) -> String {
    let tenths = (byteCount * 10 + (1 << 29)) >> 30
    return "\(tenths / 10).\(tenths % 10) GiB"
}
