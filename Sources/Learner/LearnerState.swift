import AdvGRPO
import ComputeRoles
import Configuration
import MethodModels
import Platform
import Processes
import Protocol
import WeightsTransfer

/// What the learner's sockets and its training thread share. Lives in a `SharedState`; nothing here blocks.
struct LearnerState {
    /// A worker as the learner knows it.
    struct Worker: Sendable {
        var hello: Hello
        var lastSeen: Int
        /// When it last asked for work or brought some; a heartbeat alone does not show that it gets anywhere.
        var lastActive: Int
        var heartbeat: Heartbeat?
        /// Why its results did not count, the last few times.
        var refusals: [String] = []
        var delivered = 0
        /// Whether it has been told that the run is over.
        var isDismissed = false
    }

    let runID: RunID
    /// What messages must agree with.
    let contract: RunContract
    let settingsDigest: String
    /// Digests of the learner's models, by their part of the run.
    let models: [String: String]
    /// What a group's trajectory must look like; known once the model is loaded.
    var rollout: Rollout?
    /// Shapes of the trained parameters, by name; known with it.
    var trainedShapes: [String: [Int]] = [:]
    /// The optimiser step whose gradients are made; nil between steps.
    var step: OptimizerStep?
    /// Workers that asked for work when there was none, and hear of it when there is.
    var parked = ParkedWorkers()
    var ledger: Ledger
    var weights: PublishedWeights?
    /// Bytes of pieces, and of what tasks are made of, given out since the start.
    var weightsByteCount = 0
    var contentsByteCount = 0
    /// The discriminator version that must score the current epoch.
    var discriminatorVersion = DiscriminatorVersion(rawValue: 0)
    var results: [GroupID: GroupResult] = [:]
    var workers: [String: Worker] = [:]
    var phase = RunStatus.Phase.starting
    /// Where the learner's time goes: the phases since the process began.
    let clock = RoleClock(RunStatus.Phase.starting)
    var phaseSince = 0
    var epoch = 0
    var isLeasing = false
    var stopReason: String?
    /// Whether the learner leaves: who comes now would find nobody to ask for work.
    var isClosed = false
    /// Figures for `status` and the progress line.
    var progress = RunStatus.Progress()

    init(
        runID: RunID, contract: RunContract, settingsDigest: String, models: [String: String], ledger: Ledger
    ) {
        self.runID = runID
        self.contract = contract
        self.settingsDigest = settingsDigest
        self.models = models
        self.ledger = ledger
    }

    mutating func enter(_ phase: RunStatus.Phase, now: Int) {
        self.phase = phase
        phaseSince = now
        clock.enter(phase)
    }
}

// MARK: Answers to workers

extension LearnerState {
    /// A worker introduces itself.
    mutating func answer(_ hello: Hello, now: Int) throws(Failure) -> Welcome {
        guard !isClosed else {
            throw Failure(
                code: .runComplete, message: stopReason ?? "the run is complete", remedy: "there is no work left")
        }
        guard hello.settingsDigest == settingsDigest else {
            throw Failure(
                code: .settingsMismatch, message: "worker \(hello.name) runs other settings than the learner",
                remedy: "start it with the run's own settings.yaml")
        }
        if let part = ModelDigest.difference(models, hello.models) {
            throw Failure(
                code: .modelMismatch,
                message:
                    "worker \(hello.name) has another \(part) than the learner: its files hold other weights or settings",
                remedy: "copy the learner's \(part) to \(hello.process.host)")
        }
        if workers[hello.name] == nil { forgetWorkers() }
        var worker = workers[hello.name] ?? Worker(hello: hello, lastSeen: now, lastActive: now)
        if worker.hello != hello {
            // The same name from another process: whatever the old one held is free again, and it hears of nothing more.
            ledger.release(worker: hello.name, now: now)
            parked.forget(hello.name)
            worker.hello = hello
            worker.isDismissed = false
        }
        worker.lastSeen = now
        worker.lastActive = now
        workers[hello.name] = worker
        return Welcome(runID: runID, program: Program.version)
    }

    /// A worker asks for work.
    mutating func answer(_ request: LeaseRequest, now: Int) throws(Failure) -> LeaseAnswer {
        guard workers[request.worker] != nil else {
            throw Failure(
                code: .unknownWorker, message: "worker \(request.worker) has not said hello", remedy: "say hello first"
            )
        }
        sawActivity(of: request.worker, now: now)
        if let stopReason { return .stop(reason: stopReason) }
        guard isLeasing, let weights else {
            return .wait(reason: "the learner is in phase \(phase.rawValue)", retryInMilliseconds: retryMilliseconds)
        }
        guard
            let (entry, lease) = ledger.lease(
                to: request.worker, now: now, isIdle: { [parked] in parked.contains($0) },
                othersCanTry: canTry(now: now))
        else {
            return .wait(
                reason: "every task of epoch \(epoch) is taken, or kept for workers that have not tried it",
                retryInMilliseconds: retryMilliseconds)
        }
        let (group, milliseconds) = (entry.task.group, ledger.leaseMilliseconds)
        guard case .gradient(_, let update) = entry.task else {
            return .lease(
                Lease(
                    leaseID: lease, group: group, prompt: entry.prompt, memberCount: contract.memberCount,
                    weights: weights.reference, discriminatorVersion: discriminatorVersion,
                    expiresInMilliseconds: milliseconds))
        }
        guard let step, let parts = step.groups[group] else {
            preconditionFailure("\(entry.task) is open without its step")
        }
        return .lease(
            Lease(
                leaseID: lease, group: group, prompt: entry.prompt, memberCount: contract.memberCount,
                weights: step.weights.reference, expiresInMilliseconds: milliseconds,
                gradient: GradientOrder(
                    update: update, sampleCount: step.sampleCount, trajectory: parts.trajectory),
                advantages: parts.advantages))
    }

    /// When a worker without work asks again: soon, but not so soon that all of them together ask more than 2,500 times a second.
    ///
    /// They find work within this time when an epoch opens, and bring their results at the same pace from then on; a pace that
    /// the learner cannot keep up with becomes a queue in every round of the epoch.
    private var retryMilliseconds: Int { max(20, workers.count * 2 / 5) }

    /// A worker or a relay fetches the manifest of weights that are sampled or trained with.
    func answer(_ request: ManifestRequest) throws(Failure) -> Manifest {
        try fromPublished { (weights) throws(Failure) in try weights.answer(request) }
    }

    /// A worker or a relay fetches pieces of weights that are sampled or trained with.
    mutating func answer(_ request: PiecesRequest) throws(Failure) -> Pieces {
        let pieces = try fromPublished { (weights) throws(Failure) in try weights.answer(request) }
        weightsByteCount += pieces.tensors.byteCount
        return pieces
    }

    /// What one of the versions that are published has.
    private func fromPublished<Answer>(
        _ answer: (PublishedWeights) throws(Failure) -> Answer
    ) throws(Failure) -> Answer {
        guard let weights else {
            throw Failure(
                code: .staleVersion, message: "no weights are published yet", remedy: "ask for a lease first")
        }
        do throws(Failure) {
            return try answer(weights)
        } catch {
            guard error.code == .staleVersion, let step, step.weights.reference != weights.reference else {
                throw error
            }
            return try answer(step.weights)
        }
    }

    /// A worker fetches what its task is made of.
    mutating func answer(_ request: ContentRequest) throws(Failure) -> Content {
        guard let content = step?.contents[request.content] else {
            throw Failure(
                code: .staleVersion, message: "no task needs content \(request.content) any more",
                remedy: "ask for a lease again")
        }
        contentsByteCount += content.byteCount
        return Content(content)
    }

    /// A worker delivers a group.
    mutating func answer(_ result: GroupResult, now: Int) -> TaskAcknowledgement {
        sawActivity(of: result.worker, now: now)
        if let reason = reasonToRefuse(result) {
            ledger.refuse(.rollout(result.group), worker: result.worker, lease: result.leaseID, now: now)
            workers[result.worker]?.note(refusal: reason)
            return TaskAcknowledgement(.refused, reason: reason)
        }
        switch ledger.deliver(.rollout(result.group), worker: result.worker, now: now) {
        case .accepted:
            results[result.group] = result
            workers[result.worker]?.delivered += 1
            return TaskAcknowledgement(.accepted)
        case .duplicate: return TaskAcknowledgement(.duplicate)
        case .refused(let reason): return TaskAcknowledgement(.refused, reason: reason)
        }
    }

    /// Why a result does not count, naming the worker; nil when it does.
    private func reasonToRefuse(_ result: GroupResult) -> String? {
        guard workers[result.worker] != nil else { return "worker \(result.worker) has not said hello" }
        guard let weights, result.policyVersion == weights.version, result.weightsDigest == weights.digest else {
            return "worker \(result.worker) sampled with policy \(result.policyVersion) (\(result.weightsDigest)), "
                + "current is \(weights?.version.rawValue ?? -1) (\(weights?.digest.description ?? "none"))"
        }
        guard result.discriminatorVersion == discriminatorVersion else {
            return
                "group \(result.group) was scored by discriminator \(result.discriminatorVersion), current is \(discriminatorVersion)"
        }
        // Of a group that is not open there is no prompt to compare with; the ledger says so.
        if let leased = ledger[.rollout(result.group)]?.prompt, leased != result.prompt {
            return
                "group \(result.group) has the prompt \"\(leased.prefix(200))\", not \"\(result.prompt.prefix(200))\""
        }
        do throws(Failure) {
            try contract.check(result, rollout)
            return nil
        } catch {
            return error.message
        }
    }

    /// A worker delivers a gradient. What the gradient itself must be like was looked at before (`GradientResult.check`).
    mutating func answer(_ result: GradientResult, refusing defect: String?, now: Int) -> TaskAcknowledgement {
        sawActivity(of: result.worker, now: now)
        if let reason = reasonToRefuse(result) ?? defect {
            ledger.refuse(result.task, worker: result.worker, lease: result.leaseID, now: now)
            workers[result.worker]?.note(refusal: reason)
            return TaskAcknowledgement(.refused, reason: reason)
        }
        switch ledger.deliver(result.task, worker: result.worker, now: now) {
        case .accepted:
            step?.arrived[result.group] = result
            workers[result.worker]?.delivered += 1
            return TaskAcknowledgement(.accepted)
        case .duplicate: return TaskAcknowledgement(.duplicate)
        case .refused(let reason): return TaskAcknowledgement(.refused, reason: reason)
        }
    }

    /// Why a gradient does not count, whatever it is like, naming the worker; nil when it does.
    private func reasonToRefuse(_ result: GradientResult) -> String? {
        guard workers[result.worker] != nil else { return "worker \(result.worker) has not said hello" }
        guard let step, ledger[result.task] != nil else { return "\(result.task) is not open" }
        guard result.policyVersion == step.weights.version, result.weightsDigest == step.weights.digest else {
            return "worker \(result.worker) made \(result.task) of policy \(result.policyVersion) "
                + "(\(result.weightsDigest)), the step's is \(step.weights.version) (\(step.weights.digest))"
        }
        return nil
    }

    /// A worker could not do a task.
    mutating func answer(_ failure: TaskFailure, now: Int) -> TaskAcknowledgement {
        sawActivity(of: failure.worker, now: now)
        ledger.fail(failure.task, worker: failure.worker, lease: failure.leaseID, cause: failure.cause, now: now)
        return TaskAcknowledgement(.accepted)
    }

    /// A worker is alive.
    mutating func answer(_ heartbeat: Heartbeat, now: Int) -> HeartbeatAcknowledgement {
        workers[heartbeat.worker]?.lastSeen = now
        workers[heartbeat.worker]?.heartbeat = heartbeat
        let isHeld = heartbeat.task.map { ledger.renew(worker: heartbeat.worker, task: $0, now: now) } ?? true
        return HeartbeatAcknowledgement(
            lost: isHeld ? nil : heartbeat.task, nextInMilliseconds: heartbeatMilliseconds)
    }

    /// When a worker reports again: twice a second, less often where all of them together would report more than 500 times a
    /// second, but twice a lease, and often enough that silence means something.
    private var heartbeatMilliseconds: Int {
        min(max(500, workers.count * 2), Self.silenceMilliseconds / 2, ledger.leaseMilliseconds / 2)
    }
}

// MARK: Who is there

extension LearnerState.Worker {
    fileprivate mutating func note(refusal reason: String) {
        refusals.append(reason)
        if refusals.count > 5 { refusals.removeFirst() }
    }
}

extension LearnerState {
    /// How many workers are remembered; names cost a stranger nothing.
    static let workersKept = 4096

    private mutating func sawActivity(of worker: String, now: Int) {
        workers[worker]?.lastSeen = now
        workers[worker]?.lastActive = now
    }

    /// Whether every worker has been told that the run is over, or has missed so many heartbeats that it will not ask any more.
    func isDeserted(now: Int) -> Bool {
        workers.values.allSatisfy { $0.isDismissed || now - $0.lastSeen > Self.silenceMilliseconds }
    }

    /// Two heartbeats at least, ten where workers are few.
    private static let silenceMilliseconds = 5000

    /// Whether a worker outside a set could take a group: it shows signs of life and gets somewhere.
    private func canTry(now: Int) -> (Set<String>) -> Bool {
        { [workers, lease = ledger.leaseMilliseconds, longest = ledger.longestLeaseMilliseconds] tried in
            workers.contains { name, worker in
                !tried.contains(name) && now - worker.lastSeen < lease && now - worker.lastActive < longest
            }
        }
    }

    /// Makes room for a new worker by forgetting the half that has been silent longest.
    private mutating func forgetWorkers() {
        guard workers.count >= Self.workersKept else { return }
        let silent = workers.sorted { ($0.value.lastSeen, $0.key) < ($1.value.lastSeen, $1.key) }
        for (name, _) in silent.prefix(workers.count / 2) { workers[name] = nil }
    }
}
