import AdvGRPO
import Testing

@Suite("schedule")
struct ScheduleTests {
    private func schedule(
        _ fidelity: Fidelity, kind: ScheduleKind? = nil,
        change: (inout DiscriminatorSettings) -> Void = { $0.warmUp.minimumAUC = 0 }
    ) -> Schedule {
        var settings = ScheduleSettings(fidelity: fidelity)
        if let kind { settings.kind = kind }
        var discriminator = DiscriminatorSettings(fidelity: fidelity)
        change(&discriminator)
        return Schedule(schedule: settings, discriminator: discriminator)
    }

    @Test("released: 910 epochs are 819 of the discriminator and 91 of the policy, 1,001 steps")
    func released() {
        var schedule = schedule(.released)
        for epoch in 0..<910 {
            let plan = schedule.plan()
            #expect(plan.trainsPolicy == (epoch % 10 == 9) && plan.trainsDiscriminator != plan.trainsPolicy)
            schedule.record(plan, areaUnderCurve: nil)
        }
        #expect(schedule.state.discriminatorEpochCount == 819)
        #expect(schedule.state.policyEpochCount == 91)
        let steps = schedule.state.discriminatorEpochCount + schedule.state.policyEpochCount * 2
        #expect(steps >= 1000 && steps - 2 < 1000)
    }

    @Test("paper: ten epochs of the discriminator, then one of the policy")
    func paper() {
        #expect(Self.policyEpochs(schedule(.paper), 0..<22) == [10, 21])
        // After a supervised start of five epochs.
        #expect(Self.policyEpochs(schedule(.paper), 5..<27) == [15, 26])
    }

    @Test("once: the discriminator learns first, then the policy alone")
    func once() {
        #expect(Self.policyEpochs(schedule(.fixed, kind: .once), 3..<16) == [12, 13, 14, 15])
    }

    /// Which of a run's epochs of rollouts train the policy; none trains both.
    private static func policyEpochs(_ schedule: Schedule, _ epochs: Range<Int>) -> [Int] {
        var schedule = schedule
        return epochs.filter { epoch in
            let plan = schedule.plan()
            #expect(plan.trainsPolicy != plan.trainsDiscriminator)
            schedule.record(plan, areaUnderCurve: 0.5)
            return plan.trainsPolicy
        }
    }

    @Test("every rollout trains both")
    func everyRollout() {
        var schedule = schedule(.fixed)
        let both = EpochPlan(trainsDiscriminator: true, trainsPolicy: true)
        for _ in 0..<3 {
            #expect(schedule.plan() == both)
            schedule.record(both, areaUnderCurve: 0.5)
        }
    }

    @Test("trigger: the discriminator learns while references score lower")
    func trigger() {
        let schedule = schedule(.fixed, kind: .trigger)
        let low = schedule.plan(evidence: .init(realMean: 0.1, fakeMean: 0.2))
        let high = schedule.plan(evidence: .init(realMean: 0.2, fakeMean: 0.2))
        #expect(low == EpochPlan(trainsDiscriminator: true, trainsPolicy: false))
        #expect(high == EpochPlan(trainsDiscriminator: false, trainsPolicy: true))
    }

    @Test("a frozen discriminator leaves every epoch to the policy")
    func frozen() {
        var schedule = schedule(.released) { $0.train = false }
        let policy = EpochPlan(trainsDiscriminator: false, trainsPolicy: true)
        for _ in 0..<12 {
            #expect(schedule.plan() == policy)
            schedule.record(policy, areaUnderCurve: nil)
        }
    }

    @Test("the policy waits for the discriminator, and then no longer")
    func warmUp() {
        var schedule = schedule(.fixed) { $0.warmUp = WarmUpSettings(minimumAUC: 0.8, maximumEpochs: 0) }
        var moved: [Bool] = []
        for auc in [0.5, 0.79, 0.8, 0.6, 0.5] {
            let plan = schedule.plan()
            moved.append(plan.trainsPolicy)
            schedule.record(plan, areaUnderCurve: auc)
        }
        #expect(moved == [false, false, false, true, true])
    }

    @Test("the warm-up ends after its longest time")
    func warmUpLimit() {
        var schedule = schedule(.fixed) { $0.warmUp = WarmUpSettings(minimumAUC: 0.99, maximumEpochs: 3) }
        let moved = (0..<5).map { _ in
            let plan = schedule.plan()
            schedule.record(plan, areaUnderCurve: 0.5)
            return plan.trainsPolicy
        }
        #expect(moved == [false, false, false, true, true])
    }
}

@Suite("prompts")
struct PromptOrderTests {
    @Test("an epoch has no prompt twice, and a pass visits all when groups divide it")
    func once() {
        let order = PromptOrder(promptCount: 12, groupsPerEpoch: 4, seed: 3)
        let epochs = (0..<6).map { order.prompts(epoch: $0) }
        for epoch in epochs { #expect(Set(epoch).count == 4) }
        #expect(Set(epochs[0...2].joined()) == Set(0..<12))
        #expect(Set(epochs[3...5].joined()) == Set(0..<12))
        #expect(Array(epochs[0...2]) != Array(epochs[3...5]))
        #expect(order.prompts(epoch: 4) == epochs[4])
    }

    @Test("left-over prompts have their turn later")
    func leftOver() {
        let order = PromptOrder(promptCount: 10, groupsPerEpoch: 4, seed: 3)
        let epochs = (0..<40).map { order.prompts(epoch: $0) }
        for epoch in epochs { #expect(Set(epoch).count == 4) }
        #expect(Set(epochs.joined()) == Set(0..<10))
    }
}
