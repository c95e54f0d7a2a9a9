import AdvGRPO
import Protocol
import SafeTensors
import WeightsTransfer

@testable import Learner

/// The learner's training thread, as `TrainingRun` and `LearnerSite` have it. While it waits, everybody else goes on.
extension SimulatedCluster {
    /// Goes back to the last snapshot, restores the reward server to it and runs to the end, as `TrainingRun.runFromSnapshot`.
    ///
    /// - Returns: the last moment.
    /// - Throws: `Setback`, `Violation`.
    func runFromSnapshot() throws -> SimulatedMoment {
        while learner == nil { try step() }
        beginnings += 1
        var moment = snapshot.moment
        note("training from epoch \(moment.epoch)")
        trained = snapshot.trained
        learner?.ledger.restore(snapshot.counters)
        learner?.step = nil
        rewardServer = moment.players
        try open(moment.epoch, moment.players)
        while true {
            try moment.advance(on: self)
            if moment.epoch == Self.epochs { return moment }
            if chance(60), let counters = learner?.ledger.counters {
                snapshot = Snapshot(moment: moment, counters: counters, trained: trained)
            }
        }
    }

    /// Opens an epoch's groups, as `TrainingRun.open`.
    func open(_ epoch: Int, _ players: SimulatedPlayers) throws {
        try askRewardServer()
        (self.epoch, self.players) = (epoch, players)
        policies[players.digest] = players.policy
        learner?.weights = try PublishedWeights(
            version: PolicyVersion(rawValue: players.policyVersion), digest: players.digest, tensors: [],
            bytes: SharedBytes())
        learner?.discriminatorVersion = DiscriminatorVersion(rawValue: players.discriminatorVersion)
        learner?.epoch = epoch
        learner?.results = [:]
        learner?.ledger.open(epoch: epoch, prompts: Array(repeating: "p", count: Self.groups), now: now)
        learner?.isLeasing = true
        accepted = []
        held = [:]
    }

    /// Waits until all groups of the epoch are there, as `TrainingRun.collect`.
    func collect() throws -> [ScoredGroup] {
        try wait { learner?.ledger.isComplete(.rollout) == true }
        guard let state = learner else { throw Setback() }
        note("training on epoch \(epoch)")
        learner?.isLeasing = false
        learner?.ledger.train(now: now)
        trained += state.ledger.scoredGroups
        let results = state.ledger.scoredGroups.compactMap { state.results[$0] }
        collected = Dictionary(uniqueKeysWithValues: results.map { ($0.group, $0) })
        return results.map { SimulatedPlayers.scored($0.group, $0.latents.floats, $0.rewards.floats) }
    }

    /// Has workers make the gradients of an optimiser step, as `TrainingRun.gradients`.
    func gradients(
        _ number: Int, of groups: [(group: ScoredGroup, advantages: [Float])], at players: SimulatedPlayers
    ) throws -> [Float] {
        guard learner != nil else { throw Setback() }
        policies[players.digest] = players.policy
        let weights = try PublishedWeights(
            version: PolicyVersion(rawValue: players.policyVersion), digest: players.digest, tensors: [],
            bytes: SharedBytes())
        let parts = groups.compactMap { one in collected[one.group.group].map { ($0, one.advantages) } }
        learner?.step = OptimizerStep(weights, parts)
        learner?.ledger.open(
            update: number,
            of: parts.map { .init(group: $0.0.group, prompt: $0.0.prompt, preferred: $0.0.worker) },
            window: Self.window, now: now)
        learner?.isLeasing = true
        acceptedGradients = []
        let gradients = try groups.map { one in
            let group = one.group.group
            try wait { learner?.step?.arrived[group] != nil }
            guard let result = learner?.step?.arrived.removeValue(forKey: group) else { throw Setback() }
            learner?.ledger.close(result.task, now: now)
            note("added \(result.task)")
            return result.tensors["policy"]?.floats.first ?? .nan
        }
        learner?.step = nil
        return gradients
    }

    /// Lets the reward server train; from then on it scores with the new version.
    func trainRewardServer(to players: SimulatedPlayers) throws {
        try compute()
        try askRewardServer()
        rewardServer = players
    }

    /// While it collects, the learner looks after the reward server and the leases.
    func tick() throws {
        guard learner?.isLeasing == true else { return }
        if learner?.step == nil { try askRewardServer() }
        learner?.ledger.expire(now: now)
    }

    /// The reward server is asked for something that only one in the learner's state can answer.
    func askRewardServer() throws {
        if rewardServer == nil { throw Setback() }
    }

    /// The learner computes for a while and looks at nothing.
    func compute() throws {
        let end = now + pick(20...300)
        try wait { now >= end }
    }

    /// Lets things happen until a condition holds.
    ///
    /// - Throws: `Setback` when the learner dies, or looks after a reward server that did.
    private func wait(until condition: () -> Bool) throws {
        while learner != nil {
            if condition() { return }
            try step()
        }
        throw Setback()
    }
}
