import Platform
import Processes
import Protocol
import Transport

/// Workers that asked for work when there was none. They are answered when there is, or after a while in any case, so that
/// nothing waits for the next time that they ask.
struct ParkedWorkers: Sendable {
    /// Longest wait: a worker that is told to end, or has another learner by now, shall not have to wait for long.
    static let milliseconds = 1000

    /// One of them.
    struct Parked: Sendable {
        var lease: LeaseRequest
        var request: Request
        /// When it is answered in any case.
        var until: Int
        fileprivate var number: Int
    }

    private var parked: [String: Parked] = [:]
    private var number = 0
    /// Nobody has to be answered before this time.
    private(set) var earliestEnd = Int.max

    /// Whether a worker waits.
    func contains(_ worker: String) -> Bool { parked[worker] != nil }

    /// Takes a worker's request; one that it sent before is forgotten, and answered by nobody.
    mutating func park(_ lease: LeaseRequest, _ request: Request, now: Int) {
        number += 1
        let until = now + Self.milliseconds
        parked[lease.worker] = Parked(lease: lease, request: request, until: until, number: number)
        earliestEnd = min(earliestEnd, until)
    }

    /// Forgets a worker that has been answered, or replaced.
    mutating func forget(_ worker: String) {
        parked[worker] = nil
        if parked.isEmpty { earliestEnd = .max }
    }

    /// Those who wait, longest first.
    func waiting() -> [Parked] { parked.values.sorted { $0.number < $1.number } }

    /// Looks when somebody has to be answered.
    mutating func findEarliestEnd() { earliestEnd = parked.values.map(\.until).min() ?? .max }
}

extension LearnerState {
    /// An answer for every parked worker that has waited long enough, or for whom there is something by now.
    mutating func answerParked(now: Int) -> [(request: Request, lease: LeaseRequest, answer: LeaseAnswer)] {
        let hasWork = stopReason != nil || isLeasing && ledger.hasOpen
        guard hasWork || parked.earliestEnd <= now else { return [] }
        var answers: [(request: Request, lease: LeaseRequest, answer: LeaseAnswer)] = []
        for one in parked.waiting() where hasWork || one.until <= now {
            guard let answer = try? answer(one.lease, now: now) else {
                // Forgotten by the learner meanwhile: asked again, it is told to say hello.
                parked.forget(one.lease.worker)
                continue
            }
            if case .wait = answer, one.until > now { continue }
            answers.append((one.request, one.lease, answer))
            parked.forget(one.lease.worker)
        }
        parked.findEarliestEnd()
        return answers
    }
}

/// Answers parked workers, from a thread of its own: as soon as there is work, and when they have waited long enough.
final class LeaseDesk: Sendable {
    private let shared: SharedState<LearnerState>
    private let isOpen = SharedState(true)

    init(_ shared: SharedState<LearnerState>) {
        self.shared = shared
        OSThread.start("leases") { [shared, isOpen] in
            while isOpen.withLock({ $0 }) {
                let answers = shared.wait(for: "work for idle workers", limit: .milliseconds(50)) { state in
                    let answers = state.answerParked(now: monotonicMilliseconds())
                    return answers.isEmpty ? nil : answers
                }
                for (request, lease, answer) in answers ?? [] { Self.reply(answer, to: lease, request, shared) }
            }
        }
    }

    deinit { isOpen.withLock { $0 = false } }

    /// A worker asks for work, and is answered now or later.
    func take(_ lease: LeaseRequest, _ request: Request) throws {
        let answer = try shared.withLock { state -> LeaseAnswer? in
            let now = monotonicMilliseconds()
            let answer = try state.answer(lease, now: now)
            guard case .wait = answer else { return answer }
            state.parked.park(lease, request, now: now)
            return nil
        }
        if let answer { Self.reply(answer, to: lease, request, shared) }
    }

    private static func reply(
        _ answer: LeaseAnswer, to lease: LeaseRequest, _ request: Request, _ shared: SharedState<LearnerState>
    ) {
        request.reply(answer)
        // Not before the reply is on its way: the learner ends when all have been told.
        if case .stop = answer { shared.withLock { $0.workers[lease.worker]?.isDismissed = true } }
    }
}
