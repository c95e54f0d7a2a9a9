import NeuralNetworks
import Testing

@testable import AdvGRPO

@Suite("algorithms")
struct AlgorithmTests {
    private func method(_ change: (inout MethodSettings) -> Void) -> MethodSettings {
        var method = MethodSettings(fidelity: .fixed)
        change(&method)
        return method
    }

    @Test("supervised steps are the run's first epochs, or all of them")
    func epochs() {
        let base = method { _ in }
        #expect(base.supervisedSteps(ofEpoch: 0) == nil && base.usesRollouts)
        let started = method {
            $0.policy.start = PolicyStart("sft(25)")
            $0.supervised.stepsPerEpoch = 10
        }
        #expect((0..<4).map { started.supervisedSteps(ofEpoch: $0) } == [0..<10, 10..<20, 20..<25, nil])
        #expect(started.usesRollouts)
        #expect(started.optimizer(ofEpoch: 2).learningRate == 4e-4)
        #expect(started.optimizer(ofEpoch: 3).learningRate == 3e-4)
        let supervised = method { $0.algorithm = .sft }
        #expect(supervised.supervisedSteps(ofEpoch: 7) == 70..<80 && !supervised.usesRollouts)
    }

    @Test(
        "what `policy.start` may be",
        arguments: [
            ("base", 0), ("sft(1)", 1), ("sft(1000000)", 1_000_000), ("sft(0)", nil), ("sft(1000001)", nil),
            ("sft", nil),
            ("sft()", nil), ("sft(-3)", nil), ("sft(3", nil), ("SFT(3)", nil), ("", nil),
        ] as [(String, Int?)])
    func start(text: String, steps: Int?) {
        #expect(PolicyStart(text).steps == steps)
        let violations = method { $0.policy.start = PolicyStart(text) }.validate()
        #expect(violations.map(\.path) == (steps == nil ? ["policy.start"] : []))
    }

    @Test("rewards have to suit the algorithm")
    func combinations() {
        func paths(_ change: (inout MethodSettings) -> Void) -> [String] { method(change).validate().map(\.path) }
        let similarity = RewardComponent(rawValue: "image_similarity")!
        #expect(paths { $0.algorithm = .flowGRPO } == ["reward.weights"])
        #expect(paths { $0.reward.weights = [.patch: 0, similarity: 1] } == ["reward.weights"])
        #expect(
            paths {
                $0.algorithm = .flowGRPO
                $0.reward.weights = [.patch: 0, similarity: 1]
            }.isEmpty)
        #expect(
            paths {
                $0.algorithm = .flowGRPO
                $0.reward.weights = [.patch: 0]
            } == ["reward.weights"])
        #expect(
            paths {
                $0.algorithm = .sft
                $0.reward.weights = [.patch: 0]
            }.isEmpty)
        #expect(
            paths {
                $0.algorithm = .sft
                $0.policy.start = PolicyStart("sft(3)")
            } == ["policy.start"])
    }

    @Test("without a discriminator every epoch is the policy's")
    func schedule() {
        let settings = method { $0.discriminator.warmUp = WarmUpSettings(minimumAUC: 0.9, maximumEpochs: 5) }
        let schedule = Schedule(
            schedule: settings.schedule, discriminator: settings.discriminator, algorithm: .flowGRPO)
        #expect(!schedule.isWarmingUp && !schedule.needsEvidence)
        #expect(schedule.plan() == EpochPlan(trainsDiscriminator: false, trainsPolicy: true))
    }
}
