import Protocol
import TensorCore

@testable import AdvGRPO

/// The site of the simulation: an epoch of `SimulatedPlayers` on a `SimulatedCluster`, or, without one, where nothing happens.
struct SimulatedSite: EpochSite {
    let cluster: SimulatedCluster?
    private(set) var players: SimulatedPlayers

    init(_ cluster: SimulatedCluster?, players: SimulatedPlayers) {
        self.cluster = cluster
        self.players = players
    }

    mutating func collect(_ epoch: Int) throws -> [ScoredGroup] {
        try cluster?.collect() ?? SimulatedCluster.possibleGroups(of: epoch).map(players.group)
    }

    func compare(_ groups: [ScoredGroup]) throws -> Schedule.Evidence {
        try cluster?.askRewardServer()
        return players.compared(groups)
    }

    mutating func trainDiscriminator(_ groups: [ScoredGroup]) throws -> () throws -> Double {
        let area = players.trainDiscriminator(groups)
        return { [cluster, players] in
            try cluster?.trainRewardServer(to: players)
            return area
        }
    }

    mutating func updatePolicy(_ groups: [ScoredGroup], _ advantages: Advantages) throws -> [PolicyUpdateReport] {
        let gradient = try players.updatePolicy(groups, advantages) { [cluster] number, part, players in
            try cluster?.gradients(number, of: part, at: players)
                ?? part.map { group, advantages in
                    SimulatedPlayers.gradient(
                        group.trajectory.latents(before: 1).values, advantages, at: players.policy)
                }
        }
        return [PolicyUpdateReport(statistics: PolicyStatistics(), gradientNorm: Double(abs(gradient)))]
    }

    /// No run of the simulation has a supervised start.
    mutating func learnReferences(_ steps: Range<Int>) -> [SupervisedReport] { [] }

    mutating func publish(_ report: StepReport) throws {
        if report.epoch + 1 < SimulatedCluster.epochs { try cluster?.open(report.epoch + 1, players) }
    }
}

/// The simulated run between two epochs: what a snapshot holds.
struct SimulatedMoment {
    var players = SimulatedPlayers()
    var schedule: Schedule
    /// What was done so far.
    var reports: [StepReport] = []

    var epoch: Int { reports.count }

    /// The start of a run: a warm-up, then whoever is behind learns.
    init() {
        var settings = ScheduleSettings(fidelity: .fixed)
        settings.kind = .trigger
        var discriminator = DiscriminatorSettings(fidelity: .fixed)
        discriminator.warmUp = WarmUpSettings(minimumAUC: 0.1, maximumEpochs: 2)
        schedule = Schedule(schedule: settings, discriminator: discriminator)
    }

    /// The next epoch.
    mutating func advance(on cluster: SimulatedCluster?) throws {
        var site = SimulatedSite(cluster, players: players)
        reports.append(try Epoch(epoch, deviation: .global).run(at: &site, schedule: &schedule))
        players = site.players
    }

    /// Every moment of a run that nothing disturbs, from its start to its end.
    static func undisturbed() throws -> [SimulatedMoment] {
        var moments = [SimulatedMoment()]
        while moments.count <= SimulatedCluster.epochs {
            var next = moments[moments.count - 1]
            try next.advance(on: nil)
            moments.append(next)
        }
        return moments
    }
}
