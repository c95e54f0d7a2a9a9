import AdvGRPO
import Processes
import Protocol
import Transport

/// The learner gave a group to somebody else, or does not want it any more.
struct LeaseLost: Error {}

/// Has a group's images scored.
struct GroupScorer {
    /// How long a group waits for its scores: two minutes beside what a reward of one's own may take.
    static func patience(_ method: MethodSettings) -> Duration {
        .seconds(120 + (method.activeRewardProcesses.map(\.process.patience).max() ?? 0))
    }
    /// When a reward server that has none yet is asked again.
    static let pause = Duration.milliseconds(100)

    /// Of the reward server.
    let client: Client
    /// How long a group waits for its scores.
    let patience: Duration
    let shutdown: ShutdownSignal

    /// The scores of a group. Blocks the calling thread.
    ///
    /// A reward server that has just been started has no discriminator until the learner notices and restores it, and one that still
    /// trains the lease's version has none to score with yet; that is no fault of the group, which waits as long as a score may take,
    /// or until its lease is lost.
    ///
    /// - Parameter hasLost: whether the lease has ended or been given to another.
    /// - Throws: `LeaseLost`, or what the request throws.
    func score(_ group: SampledGroup, of lease: Lease, hasLost: () -> Bool) throws -> Scores {
        let request = ScoreRequest(
            group: lease.group, prompt: lease.prompt, discriminatorVersion: lease.discriminatorVersion,
            images: group.images)
        let end = ContinuousClock.now + patience
        while true {
            do {
                return try client.requestBlocking(request, deadline: max(.seconds(1), end - .now))
            } catch let failure as Failure
                where [.notReady, .busy].contains(failure.code) && ContinuousClock.now < end && !shutdown.isRequested
            {
                if hasLost() { throw LeaseLost() }
                shutdown.sleep(for: Self.pause)
            } catch let failure as Failure where failure.code == .closedEpoch {
                throw LeaseLost()
            }
        }
    }
}
