import AdvGRPO
import ComputeRoles
import Configuration
import Processes
import Protocol
import SafeTensors
import Testing
import Transport
import WeightsTransfer

@testable import Learner

/// What the ledger and the learner make of gradients, without workers.
@Suite("Gradient tasks", .timeLimit(.minutes(1)))
struct GradientTaskTests {
    private static func group(_ index: Int) -> GroupID { GroupID(epoch: 3, index: index) }
    private static func task(_ index: Int) -> TaskID { .gradient(group(index), update: 0) }

    /// Four groups, of which `a` and `b` sampled two each.
    private func ledger(window: Int = 100, prefers: Bool = true) -> Ledger {
        var ledger = Ledger(leaseMilliseconds: 100, failureLimit: 3)
        let tasks = (0..<4).map {
            Ledger.GradientTask(
                group: Self.group($0), prompt: "p", preferred: prefers ? ["a", "b"][$0 % 2] : nil)
        }
        ledger.open(update: 0, of: tasks, window: window, now: 0)
        return ledger
    }

    private func given(
        _ ledger: inout Ledger, _ worker: String, now: Int = 0, idle: Set<String> = []
    ) -> TaskID? {
        ledger.lease(to: worker, now: now, isIdle: { idle.contains($0) })?.entry.task
    }

    @Test("a gradient goes to who sampled the group; to another where that one has enough to do, not where it waits")
    func preference() {
        var ledger = ledger()
        #expect(given(&ledger, "b") == Self.task(1))
        // A third takes what the first left over, but nothing from one that is about to be asked.
        #expect(given(&ledger, "c", idle: ["a"]) == Self.task(3))
        #expect(given(&ledger, "d", idle: ["a"]) == nil)
        #expect(given(&ledger, "a") == Self.task(0))
        #expect(given(&ledger, "d") == Self.task(2))
        #expect(given(&ledger, "e") == nil && !ledger.hasOpen)
    }

    @Test("a gradient that its own worker has failed goes to another, even where that one waits")
    func failedPreferred() throws {
        var ledger = ledger()
        let given = ledger.lease(to: "a", now: 0)
        let lease = try #require(given)
        ledger.fail(lease.entry.task, worker: "a", lease: lease.lease, cause: "x", now: 1)
        #expect(self.given(&ledger, "c", now: 1, idle: ["a", "b"]) == Self.task(0))
    }

    @Test("gradients go before rollouts, and rollouts fill what is left")
    func priority() {
        var ledger = ledger(prefers: false)
        ledger.open(epoch: 4, prompts: ["q", "q"], now: 0)
        for index in 0..<4 { #expect(given(&ledger, "w\(index)") == Self.task(index)) }
        #expect(given(&ledger, "w4") == .rollout(GroupID(epoch: 4, index: 0)))
        // One that is given back goes first again.
        ledger.release(worker: "w2", now: 1)
        #expect(given(&ledger, "w5", now: 1) == Self.task(2))
        #expect(!ledger.isComplete(.gradient) && !ledger.isComplete(.rollout))
    }

    @Test("no more are out or wait than the window holds, counted from the first that is not added")
    func window() {
        var ledger = ledger(window: 2, prefers: false)
        #expect(given(&ledger, "a") == Self.task(0) && given(&ledger, "b") == Self.task(1))
        #expect(ledger.deliver(Self.task(1), worker: "b", now: 1) == .accepted)
        // It waits for the first: nothing beyond the window is given out.
        #expect(given(&ledger, "b", now: 1) == nil && ledger.hasOpen)
        #expect(ledger.deliver(Self.task(0), worker: "a", now: 2) == .accepted)
        #expect(given(&ledger, "b", now: 2) == nil)
        ledger.close(Self.task(0), now: 3)
        #expect(given(&ledger, "b", now: 3) == Self.task(2) && given(&ledger, "a", now: 3) == nil)
        ledger.close(Self.task(1), now: 4)
        #expect(given(&ledger, "a", now: 4) == Self.task(3))
    }

    @Test("a gradient of another step, or one that was added, is refused or told to be there")
    func late() {
        var ledger = ledger()
        guard case .refused(let reason) = ledger.deliver(.gradient(Self.group(0), update: 1), worker: "a", now: 0)
        else {
            Issue.record("a gradient of a step that is not open was taken")
            return
        }
        #expect(reason == "gradient 1 of group 3/0 is not open in this epoch")
        #expect(ledger.deliver(Self.task(0), worker: "late", now: 1) == .accepted)
        ledger.close(Self.task(0), now: 2)
        #expect(ledger.deliver(Self.task(0), worker: "a", now: 3) == .duplicate)
    }

    // MARK: The learner's answers

    private static let digest = WeightsDigest(bytes: [UInt8](repeating: 7, count: 32))
    private static let shapes = ["A": [2, 3], "B": [2]]
    private static let rollout: Rollout = {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.steps = 2
        settings.window = WindowSettings(size: 1, start: .fixed(0))
        return Rollout(settings: settings, sigmas: [1, 0.5, 0], latentShape: [1, 1, 1], seed: 1)
    }()

    private static func result(_ index: Int) -> GroupResult {
        GroupResult(
            of: Lease(
                leaseID: LeaseID(rawValue: 1), group: group(index), prompt: "p", memberCount: 2,
                weights: WeightsReference(
                    version: PolicyVersion(rawValue: 3), digest: digest,
                    manifest: ManifestDigest(bytes: [UInt8](repeating: 0, count: 32))), expiresInMilliseconds: 1),
            by: "w",
            GroupResult.Trajectory(
                latents: TensorPayload(floats: [0, 1, 2, Float(index)], shape: [2, 2, 1, 1, 1]),
                logProbabilities: TensorPayload(floats: [-0.5, -0.5], shape: [2, 1]),
                stepIndices: TensorPayload(int32s: [0])),
            Scores(
                discriminatorVersion: DiscriminatorVersion(rawValue: 5), rewards: TensorPayload(floats: [0, 1])),
            seconds: [:])
    }

    /// A learner in the middle of a step over two groups, and a worker that it knows.
    private func state() throws -> LearnerState {
        var state = LearnerState(
            runID: try #require(RunID(rawValue: "run-1")), contract: .test(memberCount: 2), settingsDigest: "settings",
            models: [:], ledger: Ledger(leaseMilliseconds: 1000))
        state.weights = try PublishedWeights(
            version: PolicyVersion(rawValue: 3), digest: Self.digest, tensors: [], bytes: SharedBytes())
        let weights = try #require(state.weights)
        let results = (0..<2).map(Self.result)
        state.step = OptimizerStep(weights, results.map { ($0, [1, -1]) })
        state.ledger.open(
            update: 0, of: results.map { .init(group: $0.group, prompt: $0.prompt, preferred: "w") }, window: 2, now: 0)
        state.isLeasing = true
        _ = try state.answer(
            Hello(
                role: .rolloutWorker, name: "w",
                process: ProcessDescription(host: "", processID: 1, processor: "", engine: "", program: ""),
                settingsDigest: "settings", models: [:]), now: 0)
        return state
    }

    private func lease(_ state: inout LearnerState, now: Int = 0) throws -> Lease {
        guard case .lease(let lease) = try state.answer(LeaseRequest(worker: "w"), now: now) else {
            throw RunInterruption()
        }
        return lease
    }

    private struct RunInterruption: Error {}

    private func gradient(_ lease: Lease, _ change: (inout GradientResult) -> Void = { _ in }) throws -> GradientResult
    {
        let order = try #require(lease.gradient)
        let tensors: TensorSet = [
            "A": TensorPayload(floats: [1, 2, 3, 4, 5, 6], shape: [2, 3]), "B": TensorPayload(floats: [1, 2]),
        ]
        var result = GradientResult(
            of: lease, order, by: "w", gradient: tensors, digest: ContentDigest(of: tensors),
            statistics: GradientStatistics(
                sampleCount: 2, ratioCount: 2, loss: 0, distance: 0, squaredChange: 0, ratio: 2, above: 0, below: 0,
                smallestRatio: 1, largestRatio: 1, drifts: [.init(step: 0, sum: 0, count: 2)]), seconds: [:])
        change(&result)
        return result
    }

    private func answer(_ state: inout LearnerState, _ result: GradientResult, now: Int) -> TaskAcknowledgement {
        state.answer(result, refusing: result.defect(state.contract, Self.shapes, Self.rollout), now: now)
    }

    @Test("a lease for a gradient says what it is made of, and the trajectory is there for who asks")
    func order() throws {
        var state = try state()
        let lease = try lease(&state)
        #expect(lease.task == Self.task(0) && lease.weights.digest == Self.digest && lease.prompt == "p")
        #expect(lease.gradient?.sampleCount == 4 && lease.advantages?.floats == [1, -1])
        try LeaseAnswer.lease(lease).validate()
        try state.contract.check(lease, Self.rollout)
        let digest = try #require(lease.gradient?.trajectory)
        let content = try state.answer(ContentRequest(content: digest))
        #expect(ContentDigest(of: content.tensors) == digest && content.tensors["latents"]?.floats == [0, 1, 2, 0])
        #expect(state.contentsByteCount == content.tensors.byteCount)
        #expect(throws: Failure.self) {
            try state.answer(ContentRequest(content: ContentDigest(bytes: [UInt8](repeating: 1, count: 16))))
        }
    }

    @Test("a gradient that cannot be added is refused by name, its task is open again, and a right one counts once")
    func harms() throws {
        let harms: [(String, (inout GradientResult) -> Void)] = [
            ("lacks the gradient of B", { $0.tensors["B"] = nil }),
            ("has a gradient of C, which is not trained", { $0.tensors["C"] = TensorPayload(floats: [1]) }),
            (
                "the gradient of B in gradient 0 of group 3/0: [3]",
                { $0.tensors["B"] = TensorPayload(floats: [1, 2, 3]) }
            ),
            ("of digest", { $0.tensors["B"] = TensorPayload(floats: [1, 2.0000002]) }),
            ("of digest", { $0.digest = ContentDigest(bytes: [UInt8](repeating: 1, count: 16)) }),
            ("of policy 2", { $0.policyVersion = PolicyVersion(rawValue: 2) }),
            ("of policy 3", { $0.weightsDigest = WeightsDigest(bytes: [UInt8](repeating: 8, count: 32)) }),
            ("samples of gradient", { $0.statistics.sampleCount = 4 }),
            ("ratios of gradient", { $0.statistics.ratioCount = 1 }),
            ("drifts of gradient", { $0.statistics.drifts = [] }),
            ("clipped of 2 ratios", { $0.statistics.above = 3 }),
            ("took its time in", { $0.seconds = ["sample": 1] }),
            ("worker stranger has not said hello", { $0.worker = "stranger" }),
        ]
        for (word, harm) in harms {
            var state = try state()
            let lease = try lease(&state)
            var wrong = try gradient(lease, harm)
            let isStranger = wrong.worker != "w"
            let answer = answer(&state, wrong, now: 1)
            #expect(answer.verdict == .refused && answer.reason?.contains(word) == true, "\(word): \(answer)")
            #expect(state.step?.arrived.isEmpty == true && state.ledger.gradientCounters.refused == 1)
            if isStranger { continue }
            #expect(state.workers["w"]?.refusals.count == 1)
            #expect(state.ledger[Self.task(0)]?.state == .open, "\(word)")
            // Somebody else has the task by now: nothing that the wrong one sends touches that.
            let again = try self.lease(&state, now: 2)
            #expect(again.task == Self.task(0) && again.leaseID != lease.leaseID)
            wrong.leaseID = lease.leaseID
            #expect(self.answer(&state, wrong, now: 3).verdict == .refused)
            guard case .leased = state.ledger[Self.task(0)]?.state else {
                Issue.record("\(word): a lease that had ended took the next one away")
                continue
            }
            #expect(self.answer(&state, try gradient(again), now: 4).verdict == .accepted)
            #expect(self.answer(&state, try gradient(again), now: 5).verdict == .duplicate)
            #expect(state.step?.arrived.count == 1)
        }
    }

    @Test("a gradient that is not a number never reaches the learner's state")
    func notFinite() throws {
        var state = try state()
        let lease = try lease(&state)
        for harm: @Sendable (inout GradientResult) -> Void in [
            { $0.tensors["B"] = TensorPayload(floats: [1, .nan]) }, { $0.statistics.loss = .infinity },
            { $0.tensors["B"] = TensorPayload(int32s: [1, 2]) }, { $0.update = -1 },
        ] {
            let wrong = try gradient(lease, harm)
            #expect(throws: WireError.self) { try wrong.validate() }
        }
        try gradient(lease).validate()
    }

    @Test("a gradient after its step is refused by name")
    func afterwards() throws {
        var state = try state()
        let lease = try lease(&state)
        state.ledger.restore(Ledger.Counters())
        state.step = nil
        let answer = answer(&state, try gradient(lease), now: 1)
        #expect(answer.verdict == .refused && answer.reason == "gradient 0 of group 3/0 is not open")
    }

    // MARK: Waiting for work

    @Test("who asks when there is no work is answered as soon as there is some, or after a second")
    func parked() async throws {
        var state = try state()
        state.isLeasing = false
        let shared = SharedState(state)
        let loop = try SocketLoop()
        let handlers = LearnerHandlers(shared: shared, shutdown: ShutdownSignal())
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop, handler: handlers.handle)
        var options = ClientOptions()
        options.role = .rolloutWorker
        let client = try Client(server.endpoint, on: loop, options: options)
        let begin = ContinuousClock.now
        guard
            case .wait = try await client.request(LeaseRequest(worker: "w"), deadline: .seconds(20))
        else {
            Issue.record("work before there was some")
            return
        }
        #expect(.now - begin >= .milliseconds(ParkedWorkers.milliseconds))
        async let asked = client.request(LeaseRequest(worker: "w"), deadline: .seconds(20))
        while !shared.withLock({ $0.parked.contains("w") }) { try await Task.sleep(for: .milliseconds(1)) }
        let opened = ContinuousClock.now
        shared.withLock { $0.isLeasing = true }
        guard case .lease(let lease) = try await asked else {
            Issue.record("no lease when there was work")
            return
        }
        #expect(lease.task == Self.task(0) && .now - opened < .milliseconds(ParkedWorkers.milliseconds))
        #expect(shared.withLock { !$0.parked.contains("w") })
        await loop.shutdown()
    }
}
