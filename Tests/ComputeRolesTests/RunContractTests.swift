import AdvGRPO
import ComputeRoles
import Configuration
import Protocol
import Testing

@Suite("What belongs to a run")
struct RunContractTests {
    private static let contract: RunContract = {
        var method = MethodSettings(fidelity: .fixed)
        method.rollout.resolution = 8
        method.rollout.groupSize = 2
        method.rollout.groupsPerEpoch = 3
        method.rollout.steps = 3
        method.rollout.window = WindowSettings(size: 1, start: .fixed(1))
        method.discriminator.stepsPerTraining = 4
        var contract = RunContract(method)
        contract.components = ["a", "b"]
        return contract
    }()

    private static let rollout: Rollout = {
        var settings = RolloutSettings(fidelity: .fixed)
        settings.steps = 3
        settings.groupSize = 2
        settings.window = WindowSettings(size: 1, start: .fixed(1))
        return Rollout(settings: settings, sigmas: [1, 0.6, 0.3, 0], latentShape: [1, 2, 2], seed: 1)
    }()

    private static func score(_ shape: [Int], index: Int = 0) -> ScoreRequest {
        ScoreRequest(
            group: GroupID(epoch: 1, index: index), prompt: "p",
            images: TensorPayload(uint8s: [UInt8](repeating: 0, count: shape.reduce(1, *)), shape: shape))
    }

    private static func result(_ change: (inout GroupResult) -> Void = { _ in }) -> GroupResult {
        func floats(_ shape: [Int]) -> TensorPayload {
            TensorPayload(floats: [Float](repeating: 0, count: shape.reduce(1, *)), shape: shape)
        }
        var result = GroupResult(
            of: lease(2, GroupID(epoch: 1, index: 2)), by: "w",
            GroupResult.Trajectory(
                latents: floats([2, 2, 1, 2, 2]), logProbabilities: floats([2, 1]),
                stepIndices: TensorPayload(int32s: [1])),
            Scores(
                discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: floats([2]),
                components: ["a": floats([2]), "b": floats([2])]), seconds: [:])
        change(&result)
        return result
    }

    private static func lease(_ members: Int, _ group: GroupID) -> Lease {
        let zeros = [UInt8](repeating: 0, count: 32)
        return Lease(
            leaseID: LeaseID(rawValue: 0), group: group, prompt: "p", memberCount: members,
            weights: WeightsReference(
                version: PolicyVersion(rawValue: 0), digest: WeightsDigest(bytes: zeros),
                manifest: ManifestDigest(bytes: zeros)), expiresInMilliseconds: 1)
    }

    /// The message of the refusal, or nil.
    private func refusal(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch let failure as Failure {
            #expect(failure.code == .notOfThisRun && failure.remedy != nil)
            return failure.message
        } catch {
            return "another error: \(error)"
        }
    }

    @Test("images have the run's size and members, and the group is one of an epoch")
    func images() {
        let contract = Self.contract
        #expect(refusal { try contract.check(Self.score([2, 8, 8, 3])) } == nil)
        for shape in [[1, 1, 1, 3], [1, 8, 8, 3], [3, 8, 8, 3], [2, 8, 16, 3], [2, 16, 8, 3], [2, 4, 4, 3]] {
            let text = refusal { try contract.check(Self.score(shape)) }
            #expect(text == "images of group 1/0: \(shape), expected [2, 8, 8, 3]")
        }
        #expect(
            refusal { try contract.check(Self.score([2, 8, 8, 3], index: 3)) }
                == "group 1/3 is beyond the 3 groups of an epoch")
    }

    @Test("a result has the rollout's shapes, its steps, and the run's rewards")
    func results() {
        let (contract, rollout) = (Self.contract, Self.rollout)
        #expect(refusal { try contract.check(Self.result(), rollout) } == nil)
        let wrong: [(String, (inout GroupResult) -> Void)] = [
            ("beyond", { $0.group = GroupID(epoch: 1, index: GroupID.indices.upperBound - 1) }),
            ("rewards of", { $0.tensors["rewards"] = TensorPayload(floats: [0, 0, 0]) }),
            ("has rewards", { $0.tensors["reward.b"] = nil }),
            ("has rewards", { $0.tensors["reward.c"] = $0.tensors["rewards"] }),
            ("steps of", { $0.tensors["stepIndices"] = TensorPayload(int32s: [0]) }),
            ("took its time", { $0.seconds = ["sample": 1, "sleep": 2] }),
            (
                "which no noise of the step has",
                { $0.tensors["logProbabilities"] = TensorPayload(floats: [0, -1e30], shape: [2, 1]) }
            ),
            (
                "which no noise of the step has",
                { $0.tensors["logProbabilities"] = TensorPayload(floats: [9, 0], shape: [2, 1]) }
            ),
            (
                "beyond",
                {
                    $0.tensors["latents"] = TensorPayload(
                        floats: [Float](repeating: 1e30, count: 16), shape: [2, 2, 1, 2, 2])
                }
            ),
            ("latents of", { $0.tensors["latents"] = TensorPayload(floats: [0, 0, 0, 0], shape: [2, 2, 1, 1, 1]) }),
            (
                "not finite",
                {
                    $0.tensors["latents"] = TensorPayload(
                        floats: [Float](repeating: .nan, count: 16), shape: [2, 2, 1, 2, 2])
                }
            ),
        ]
        for (what, change) in wrong {
            let text = refusal { try contract.check(Self.result(change), rollout) }
            #expect(text?.contains(what) == true, "\(what): \(text ?? "accepted")")
        }
    }

    @Test("scores, leases and trainings are the run's")
    func others() {
        let (contract, rollout) = (Self.contract, Self.rollout)
        func scores(_ count: Int, _ names: [String]) -> Scores {
            let values = TensorPayload(floats: [Float](repeating: 0, count: count))
            return Scores(
                discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: values,
                components: Dictionary(uniqueKeysWithValues: names.map { ($0, values) }))
        }
        #expect(refusal { try contract.check(scores(2, ["a", "b"])) } == nil)
        #expect(refusal { try contract.check(scores(1, ["a", "b"])) } != nil)
        #expect(refusal { try contract.check(scores(2, ["a"])) } != nil)

        func lease(_ members: Int, index: Int = 0) -> Lease {
            Self.lease(members, GroupID(epoch: 0, index: index))
        }
        #expect(refusal { try contract.check(lease(2), rollout) } == nil)
        #expect(refusal { try contract.check(lease(4096), rollout) } != nil)
        #expect(refusal { try contract.check(lease(2, index: 3), rollout) } != nil)

        func training(steps: Int, index: Int = 0) -> DiscriminatorTraining {
            DiscriminatorTraining(
                epoch: 0, fromVersion: DiscriminatorVersion(rawValue: 0), groups: [GroupID(epoch: 0, index: index)],
                steps: steps)
        }
        #expect(refusal { try contract.check(training(steps: 4)) } == nil)
        #expect(refusal { try contract.check(training(steps: 0)) } == nil)
        for steps in [1, 5, 1 << 20] { #expect(refusal { try contract.check(training(steps: steps)) } != nil) }
        #expect(refusal { try contract.check(training(steps: 4, index: 3)) } != nil)
    }

    @Test("witnesses are known ones, and a refresh has its own number of steps where the gauge orders one")
    func gauge() {
        let values = TensorPayload(floats: [0, 0])
        func scores(_ witnesses: String...) -> Scores {
            Scores(
                discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: values,
                components: ["a": values, "b": values],
                witnesses: Dictionary(uniqueKeysWithValues: witnesses.map { ($0, values) }))
        }
        #expect(refusal { try Self.contract.check(scores("twin", "diversity")) } == nil)
        #expect(refusal { try Self.contract.check(scores("diversity", "other")) }?.contains("other") == true)
        #expect(
            refusal { try Self.contract.check(Self.result { $0.tensors["witness.other"] = values }, Self.rollout) }
                != nil)
        func training(_ steps: Int) -> DiscriminatorTraining {
            DiscriminatorTraining(
                epoch: 0, fromVersion: DiscriminatorVersion(rawValue: 0), groups: [GroupID(epoch: 0, index: 0)],
                steps: steps)
        }
        var method = MethodSettings(fidelity: .fixed)
        for action in GaugeAction.allCases {
            method.gauge.action = action
            let contract = RunContract(method)
            #expect(refusal { try contract.check(training(4)) } == nil)
            #expect((refusal { try contract.check(training(32)) } == nil) == (action == .refresh), "\(action)")
        }
    }

    @Test("a run whose discriminator does not learn has it trained by nobody")
    func frozen() {
        var method = MethodSettings(fidelity: .fixed)
        method.discriminator.train = false
        #expect(RunContract(method).trainingSteps == 0)
    }

    @Test("patches: maps and the tokens' own log-probabilities, or neither")
    func patches() throws {
        func floats(_ shape: [Int], _ value: Float = 0) -> TensorPayload {
            TensorPayload(floats: [Float](repeating: value, count: shape.reduce(1, *)), shape: shape)
        }
        var contract = Self.contract
        contract.creditsPatches = true
        let image = Self.rollout
        let rollout = Rollout(
            settings: image.settings, sigmas: image.sigmas, latentShape: image.latentShape, seed: 1, tokenSide: 1)
        let mapped = Self.result {
            $0.tensors["maps"] = floats([2, 3, 3])
            $0.tensors["logProbabilities"] = floats([2, 1, 2, 2])
        }
        try contract.check(mapped, rollout)
        #expect(refusal { try contract.check(Self.result(), rollout) } != nil)
        #expect(refusal { try Self.contract.check(mapped, Self.rollout) } != nil)
        var other = mapped
        other.tensors["logProbabilities"] = floats([2, 1, 2, 1])
        #expect(refusal { try contract.check(other, rollout) } != nil)
        other.tensors["logProbabilities"] = floats([2, 1, 2, 2], -1e6)
        #expect(refusal { try contract.check(other, rollout) } != nil)
        var scores = Scores(
            discriminatorVersion: DiscriminatorVersion(rawValue: 0), rewards: floats([2]),
            components: ["a": floats([2]), "b": floats([2])])
        try Self.contract.check(scores)
        #expect(refusal { try contract.check(scores) } != nil)
        scores.tensors["maps"] = floats([2, 1, 1])
        try contract.check(scores)
    }
}
