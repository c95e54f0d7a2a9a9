import Foundation
import TestSupport
import Testing

@testable import Learner

/// Whole runs under every disturbance at once, with time and the network simulated.
///
/// `ADVGRPO_SIMULATION_RUNS=1000000` explores more; `ADVGRPO_SIMULATION_SEED=N` replays one seed and prints what happened.
@Suite("Simulated cluster")
struct SimulationTests {
    @Test("whatever dies, stalls, lies or gets lost, the same groups are trained once, in the same order")
    func interleavings() throws {
        let environment = ProcessInfo.processInfo.environment
        if let seed = environment["ADVGRPO_SIMULATION_SEED"].flatMap(UInt64.init) { return try replay(seed) }
        let runs = environment["ADVGRPO_SIMULATION_RUNS"].flatMap(Int.init) ?? (isOptimized ? 150 : 10)
        var events = 0
        var deaths = 0
        let undisturbed = try SimulatedMoment.undisturbed()
        let begin = ContinuousClock.now
        for seed in 0..<UInt64(runs) {
            let cluster = SimulatedCluster(seed: seed, undisturbed: undisturbed)
            do {
                try cluster.run()
            } catch {
                Issue.record("seed \(seed): \(error); replay it with ADVGRPO_SIMULATION_SEED=\(seed)")
                return
            }
            events += cluster.events
            deaths += cluster.beginnings - 1
        }
        print(
            "simulation: \(runs) runs, \(events) events, \(deaths) returns to a snapshot, \(ContinuousClock.now - begin)"
        )
        // A simulation in which nothing happens would hold every promise.
        #expect(events > 300 * runs && deaths > runs / 2)
    }

    private func replay(_ seed: UInt64) throws {
        let cluster = SimulatedCluster(seed: seed, undisturbed: try SimulatedMoment.undisturbed(), tracing: true)
        defer { print((cluster.trace?.lines ?? []).joined(separator: "\n")) }
        try cluster.run()
    }
}
