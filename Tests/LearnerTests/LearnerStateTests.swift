import AdvGRPO
import ComputeRoles
import Configuration
import Protocol
import SafeTensors
import Testing
import WeightsTransfer

@testable import Learner

extension RunContract {
    /// Of a run with these rewards.
    static func test(memberCount: Int, components: Set<String> = []) -> RunContract {
        var contract = RunContract(MethodSettings(fidelity: .fixed))
        contract.memberCount = memberCount
        contract.groupsPerEpoch = GroupID.indices.count
        contract.components = components
        return contract
    }
}

/// What the learner answers, without sockets.
@Suite("Learner state")
struct LearnerStateTests {
    private let digest = WeightsDigest(bytes: [UInt8](repeating: 7, count: 32))

    private func state() throws -> LearnerState {
        var state = LearnerState(
            runID: try #require(RunID(rawValue: "run-1")), contract: .test(memberCount: 2), settingsDigest: "settings",
            models: ["model/transformer": "a"],
            ledger: Ledger(leaseMilliseconds: 1000))
        state.weights = try PublishedWeights(
            version: PolicyVersion(rawValue: 3), digest: digest, tensors: [], bytes: SharedBytes())
        state.discriminatorVersion = DiscriminatorVersion(rawValue: 5)
        state.ledger.open(epoch: 3, prompts: ["a", "b"], now: 0)
        state.isLeasing = true
        return state
    }

    private func hello(
        _ name: String, processID: Int = 1, settings: String = "settings",
        models: [String: String] = ["model/transformer": "a"]
    ) -> Hello {
        Hello(
            role: .rolloutWorker, name: name,
            process: ProcessDescription(
                host: "here", processID: processID, processor: "", engine: "", program: "1.0.0"),
            settingsDigest: settings, models: models)
    }

    private func result(
        _ index: Int, prompt: String? = nil, policy: Int = 3, digest: WeightsDigest? = nil, discriminator: Int = 5,
        members: Int = 2, worker: String = "w"
    ) -> GroupResult {
        let lease = Lease(
            leaseID: LeaseID(rawValue: 1), group: GroupID(epoch: 3, index: index), prompt: prompt ?? ["a", "b"][index],
            memberCount: members,
            weights: WeightsReference(
                version: PolicyVersion(rawValue: policy), digest: digest ?? self.digest,
                manifest: ManifestDigest(bytes: [UInt8](repeating: 0, count: 32))), expiresInMilliseconds: 1000)
        return GroupResult(
            of: lease, by: worker,
            GroupResult.Trajectory(
                latents: TensorPayload(floats: [Float](repeating: 0, count: members * 2)),
                logProbabilities: TensorPayload(
                    floats: [Float](repeating: 0, count: members), shape: [members, 1]),
                stepIndices: TensorPayload(int32s: [0])),
            Scores(
                discriminatorVersion: DiscriminatorVersion(rawValue: discriminator),
                rewards: TensorPayload(floats: [Float](repeating: 1, count: members))), seconds: [:])
    }

    private func lease(_ state: inout LearnerState, _ worker: String, now: Int = 0) throws -> Lease? {
        guard
            case .lease(let lease) = try state.answer(
                LeaseRequest(worker: worker), now: now)
        else { return nil }
        return lease
    }

    @Test("a learner stays for workers that are alive and have not heard of the end")
    func farewell() throws {
        var state = try state()
        #expect(state.isDeserted(now: 0))
        for name in ["w", "dead"] { _ = try state.answer(hello(name), now: 0) }
        state.stopReason = "complete"
        _ = state.answer(Heartbeat(worker: "w", state: .waiting), now: 5000)
        #expect(!state.isDeserted(now: 5001))
        let answer = try state.answer(LeaseRequest(worker: "w"), now: 5002)
        #expect(answer == .stop(reason: "complete"))
        // Not before its answer is on its way, which `LearnerHandlers` knows.
        #expect(!state.isDeserted(now: 5003))
        state.workers["w"]?.isDismissed = true
        #expect(state.isDeserted(now: 5003))
        // Another process of that name has heard nothing.
        _ = try state.answer(hello("w", processID: 2), now: 5004)
        #expect(!state.isDeserted(now: 5005) && state.isDeserted(now: 10_005))
        // Who comes when the learner leaves is not taken in, and hears why.
        state.isClosed = true
        #expect(throws: Failure(code: .runComplete, message: "complete", remedy: "there is no work left")) {
            try state.answer(hello("late"), now: 10_006)
        }
        #expect(state.workers["late"] == nil)
    }

    @Test("many workers report less often, but twice a lease and before silence counts as death")
    func heartbeatPace() throws {
        func pace(workers: Int, lease: Int) throws -> Int? {
            var state = try state()
            state.ledger = Ledger(leaseMilliseconds: lease)
            for index in 0..<workers { _ = try state.answer(hello("w\(index)"), now: 0) }
            return state.answer(Heartbeat(worker: "w0", state: .waiting), now: 1).nextInMilliseconds
        }
        #expect(try pace(workers: 2, lease: 20_000) == 500)
        #expect(try pace(workers: 1000, lease: 20_000) == 2000)
        #expect(try pace(workers: 4000, lease: 20_000) == 2500)
        #expect(try pace(workers: 1000, lease: 1000) == 500)
    }

    @Test("a heartbeat is told when its group is not the worker's any more")
    func lostLease() throws {
        var state = try state()
        _ = try state.answer(hello("w"), now: 0)
        _ = try state.answer(hello("v"), now: 0)
        let group = try #require(try lease(&state, "w")).group
        func lost(_ worker: String, now: Int) -> TaskID? {
            state.answer(Heartbeat(worker: worker, state: .scoring, task: .rollout(group)), now: now).lost
        }
        #expect(lost("w", now: 900) == nil)
        #expect(lost("v", now: 900) == .rollout(group))
        // Without a heartbeat for a second it goes to another.
        #expect(try lease(&state, "v", now: 1901)?.group == group)
        #expect(lost("w", now: 1950) == .rollout(group))
        #expect(lost("v", now: 1950) == nil)
        state.ledger.restore(Ledger.Counters())
        #expect(lost("v", now: 1960) == .rollout(group))
        #expect(state.answer(Heartbeat(worker: "v", state: .waiting), now: 1970).lost == nil)
    }

    @Test("a worker with another model is refused by the part's name; one that has parts the learner lacks is not")
    func otherModel() throws {
        var state = try state()
        do throws(Failure) {
            _ = try state.answer(hello("w", models: ["model/transformer": "b"]), now: 0)
            Issue.record("another model was let in")
        } catch {
            #expect(error.code == .modelMismatch && error.message.contains("model/transformer"))
        }
        _ = try state.answer(hello("w", models: ["model/transformer": "a", "model/vae": "c"]), now: 0)
    }

    @Test("a worker with other settings is refused, one that has not said hello gets no work")
    func introduction() throws {
        var state = try state()
        #expect(throws: Failure.self) { try state.answer(hello("w", settings: "others"), now: 0) }
        #expect(throws: Failure.self) {
            try state.answer(LeaseRequest(worker: "w"), now: 0)
        }
        #expect(try state.answer(hello("w"), now: 0).runID == state.runID)
        #expect(try lease(&state, "w")?.group == GroupID(epoch: 3, index: 0))
    }

    @Test("the name's new process frees what the old one held, the same process does not")
    func takeover() throws {
        var state = try state()
        _ = try state.answer(hello("w"), now: 0)
        _ = try lease(&state, "w")
        _ = try state.answer(hello("w"), now: 1)
        _ = try state.answer(hello("other"), now: 1)
        #expect(try lease(&state, "other")?.group.index == 1)
        _ = try state.answer(hello("w", processID: 2), now: 2)
        #expect(state.ledger.entries(of: .rollout)[0].state == .open)
        _ = state.answer(result(1, worker: "other"), now: 3)
        #expect(try lease(&state, "other", now: 3)?.group.index == 0)
    }

    @Test(
        "results of another prompt, other weights, another discriminator or another size do not count, and their group is open again"
    )
    func refusals() throws {
        for wrong in [
            result(0, policy: 2), result(0, digest: WeightsDigest(bytes: [UInt8](repeating: 8, count: 32))),
            result(0, discriminator: 4), result(0, members: 1), result(0, prompt: "b"),
        ] {
            var state = try state()
            _ = try state.answer(hello("w"), now: 0)
            _ = try lease(&state, "w")
            #expect(state.answer(wrong, now: 1).verdict == .refused)
            #expect(state.results.isEmpty && state.ledger.counters.refused == 1)
            #expect(try lease(&state, "w", now: 1)?.group.index == 0)
            #expect(state.answer(result(0), now: 2).verdict == .accepted)
            #expect(state.answer(result(0), now: 3).verdict == .duplicate)
        }
    }

    @Test("a trajectory of other steps or another shape, or one that is not finite, does not count")
    func trajectories() throws {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.steps = 4
        settings.window = WindowSettings(size: 1, start: .fixed(0))
        let rollout = Rollout(
            settings: settings, sigmas: [1, 0.75, 0.5, 0.25, 0], latentShape: [1, 1, 1], seed: 1)
        func result(step: Int32 = 0, latents: TensorPayload) -> GroupResult {
            var result = self.result(0)
            result.tensors["latents"] = latents
            result.tensors["stepIndices"] = TensorPayload(int32s: [step])
            return result
        }
        let good = TensorPayload(floats: [0, 1, 2, 3], shape: [2, 2, 1, 1, 1])
        for (wrong, word) in [
            (result(step: 1, latents: good), "steps of group 3/0: [1], expected [0]"),
            (
                result(latents: TensorPayload(floats: [0, 1, 2, 3], shape: [2, 2, 1])),
                "latents of group 3/0: [2, 2, 1], expected [2, 2, 1, 1, 1]"
            ),
            (result(latents: TensorPayload(floats: [0, 1, .nan, 3], shape: [2, 2, 1, 1, 1])), "not finite"),
        ] {
            var state = try state()
            state.rollout = rollout
            _ = try state.answer(hello("w"), now: 0)
            _ = try lease(&state, "w")
            let answer = state.answer(wrong, now: 1)
            #expect(answer.verdict == .refused && answer.reason?.contains(word) == true, "\(answer)")
            #expect(state.answer(result(latents: good), now: 2).verdict == .accepted)
        }
    }

    @Test("strangers who invent names are forgotten, workers that live are not")
    func inventedNames() throws {
        var state = try state()
        _ = try state.answer(hello("w"), now: 0)
        for index in 0..<20_000 {
            _ = try state.answer(hello("stranger \(index)"), now: index + 1)
            _ = state.answer(
                Heartbeat(worker: "w", state: .rollingOut, task: nil), now: index + 1)
        }
        #expect(state.workers.count <= LearnerState.workersKept && state.workers["w"] != nil)
        for _ in 0..<100 { _ = state.answer(result(0, policy: 1), now: 30_000) }
        #expect(state.workers["w"]?.refusals.count == 5)
    }

    @Test("nothing is leased between epochs, and the end of the run is told to whoever asks for work")
    func waits() throws {
        var state = try state()
        _ = try state.answer(hello("w"), now: 0)
        state.isLeasing = false
        guard case .wait = try state.answer(LeaseRequest(worker: "w"), now: 0)
        else {
            Issue.record("a lease between epochs")
            return
        }
        state.stopReason = "complete"
        guard
            case .stop(reason: "complete") = try state.answer(
                LeaseRequest(worker: "w"), now: 0)
        else {
            Issue.record("no stop")
            return
        }
    }
}
