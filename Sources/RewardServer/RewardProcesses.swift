import AdvGRPO
import Logging
import Processes
import Protocol
import Synchronization
import TensorCore
import Transport

/// Asks the processes that give rewards of one's own, while the reward server computes its own.
///
///     consumes: groups to score, as they arrive
///     produces: every process's values, one set a group and the same whenever the group is asked for again
///     waits for: the processes, as long as their patience says
///     freed by: the next epoch, `close`
///
/// A process that is slow is asked again, one that is gone as well; one that answers with what cannot be the group's rewards
/// is refused by name. All of it ends in a `Failure` of that group and leaves the role and other groups alone.
final class RewardProcesses: Sendable {
    /// What a process said of a group.
    struct Answer: Sendable {
        let peer: RewardProcessPeer
        let values: [Float]
        let maps: RewardMaps?
    }

    /// All processes' answers, on their way.
    typealias Answers = Task<[Answer], any Error>

    private struct State {
        var answers: [GroupID: (request: RequestFingerprint, answers: Answers)] = [:]
        var waiting: [String: Int] = [:]
        var counters: [String: Double] = [:]
    }

    /// When one that has no time is asked again.
    private static let pause = Duration.milliseconds(200)
    private let peers: [RewardProcessPeer]
    private let creditsPatches: Bool
    private let logger: Logger
    private let state = Mutex(State())

    init(_ peers: [RewardProcessPeer], creditsPatches: Bool, logger: Logger) {
        self.peers = peers
        self.creditsPatches = creditsPatches
        self.logger = logger
    }

    /// Begins to ask for the rewards of a group's images, unless the same request came before and has not failed.
    ///
    /// - Returns: nil when there is nobody to ask.
    func ask(_ score: ScoreRequest, _ request: RequestFingerprint) -> Answers? {
        if peers.isEmpty { return nil }
        return state.withLock { state in
            if let known = state.answers[score.group], known.request == request { return known.answers }
            let answers = Answers { [self] in
                do {
                    return try await withThrowingTaskGroup(of: (Int, Answer).self) { group in
                        for (index, peer) in peers.enumerated() {
                            group.addTask { [self] in (index, try await answer(of: peer, to: score)) }
                        }
                        var answers: [(index: Int, answer: Answer)] = []
                        for try await answer in group { answers.append(answer) }
                        return answers.sorted { $0.index < $1.index }.map(\.answer)
                    }
                } catch {
                    forget(score.group, request)
                    throw error
                }
            }
            state.answers[score.group] = (request, answers)
            return answers
        }
    }

    /// Another epoch is open: what is known of groups is of no use any more.
    func forget() { state.withLock { $0.answers = [:] } }

    /// Stops waiting.
    func close() {
        let answers = state.withLock { $0.answers.values.map(\.answers) }
        for answers in answers { answers.cancel() }
    }

    /// The processes that somebody waits for, by their places.
    var waits: [String] { state.withLock { $0.waiting.keys.sorted() } }

    /// What became of requests since the start, by process.
    var counters: [String: Double] { state.withLock { $0.counters } }

    private func forget(_ group: GroupID, _ request: RequestFingerprint) {
        state.withLock { state in if state.answers[group]?.request == request { state.answers[group] = nil } }
    }

    private func count(_ what: String, _ peer: RewardProcessPeer) {
        state.withLock { $0.counters["rewardProcesses.\(peer.name).\(what)", default: 0] += 1 }
    }

    private func wait(for peer: RewardProcessPeer, _ change: Int) {
        state.withLock { state in
            let count = state.waiting[peer.place, default: 0] + change
            state.waiting[peer.place] = count == 0 ? nil : count
        }
    }

    /// Asks one process until it answers or its patience has ended.
    private func answer(of peer: RewardProcessPeer, to score: ScoreRequest) async throws -> Answer {
        wait(for: peer, 1)
        defer { wait(for: peer, -1) }
        let request = RewardRequest(
            reward: peer.name, group: score.group, prompt: score.prompt,
            wantsMaps: creditsPatches && peer.settings.maps, images: score.images)
        do {
            let rewards = try await patiently(peer, request)
            count("answers", peer)
            return Answer(
                peer: peer, values: rewards.values.floats,
                maps: request.wantsMaps
                    ? rewards.maps.map {
                        RewardMaps(grid: PatchGrid(rows: $0.shape[1], columns: $0.shape[2]), floats: $0.floats)
                    } : nil)
        } catch let error where !(error is CancellationError) {
            count("failures", peer)
            throw error
        }
    }

    private func patiently(_ peer: RewardProcessPeer, _ request: RewardRequest) async throws -> Rewards {
        let end = ContinuousClock.now + .seconds(peer.settings.patience)
        while true {
            let left = max(.milliseconds(1), end - .now)
            let reason: String
            do {
                let rewards = try await peer.client.request(
                    request, deadline: min(.seconds(peer.settings.timeout), left))
                try rewards.check(answers: request)
                return rewards
            } catch let error as TransportError where error.code == .deadlineExceeded {
                reason = "\(error)"
            } catch let failure as Failure where [.busy, .notReady].contains(failure.code) {
                reason = "\(failure)"
                try await Task.sleep(for: min(Self.pause, left))
            } catch let failure as Failure {
                throw refused(peer, "does not score group \(request.group): \(failure)")
            } catch let error as WireError {
                throw refused(peer, "answered with what cannot be the rewards of group \(request.group): \(error)")
            }
            guard ContinuousClock.now < end else {
                throw Failure(
                    code: .rewardProcess,
                    message:
                        "\(peer.place) has not scored group \(request.group) within \(peer.settings.patience) s: \(reason)",
                    remedy: "start it, or raise rewardProcesses.\(peer.name).patience")
            }
            count("retries", peer)
            logger.warning("\(peer.place) is asked for group \(request.group) again: \(reason)")
        }
    }

    private func refused(_ peer: RewardProcessPeer, _ what: String) -> Failure {
        Failure(
            code: .rewardProcess, message: "\(peer.place) \(what)",
            remedy: "mend the process; docs/protocol.md has the messages")
    }
}

extension Scores {
    /// These scores with rewards of one's own: their values as components, and weight times value in the sum. A map's own level
    /// does not count, so it is moved to the value; a reward without maps counts alike at every place.
    func adding(_ answers: [RewardProcesses.Answer]) -> Scores {
        var sums = rewards.floats.map(Double.init)
        var components = components
        for answer in answers {
            for member in sums.indices { sums[member] += answer.peer.settings.weight * Double(answer.values[member]) }
            components[answer.peer.name] = TensorPayload(floats: answer.values)
        }
        let maps = maps.map { maps in
            let everywhere = PatchGrid(rows: 1, columns: 1)
            return RewardMaps.sum(
                [(1, RewardMaps(grid: PatchGrid(rows: maps.shape[1], columns: maps.shape[2]), floats: maps.floats))]
                    + answers.map { answer in
                        (
                            answer.peer.settings.weight,
                            answer.maps?.moved(toMeans: answer.values)
                                ?? RewardMaps(grid: everywhere, flat: answer.values)
                        )
                    })
        }
        return Scores(
            discriminatorVersion: discriminatorVersion, rewards: TensorPayload(floats: sums.map { Float($0) }),
            components: components,
            maps: maps.map {
                TensorPayload(floats: $0.floats, shape: [$0.values.count, $0.grid.rows, $0.grid.columns])
            })
    }
}
