import AdvGRPO
import Protocol
import SafeTensors
import TestSupport

@testable import Learner

/// A learner, a reward server and workers of many kinds in one object, with time and the network simulated.
///
/// What the learner answers is the product's own `LearnerState` and `Ledger`, its epochs are `Epoch.run` at a `SimulatedSite`;
/// what of `TrainingRun` lies around them is played here: open, collect, snapshot, and back to the snapshot after a death.
/// Messages are lost, repeated, delayed and overtake each other, without the order and the recognition of repetitions that
/// Transport adds. Every choice follows from the seed. Worker 0 is the honest one that lives: it is not disturbed beyond a poor
/// network.
final class SimulatedCluster {
    /// What a worker is like.
    enum Kind: CaseIterable {
        case honest
        /// Reports a failure for every group.
        case failing
        /// Delivers what other weights made.
        case foreign
        /// Names another discriminator version, and another digest than its gradient's.
        case misjudging
        /// Takes a group, says for ever that it lives, and delivers nothing.
        case stuck
        /// Takes groups and drops them without a word.
        case dropping
    }

    struct Worker {
        enum State {
            case down
            case asking
            case working(Lease)
        }

        let name: String
        let kind: Kind
        var state = State.down
        var processID = 0
        /// The request that waits for an answer; older answers are dropped.
        var request = 0
        var cutOffUntil = 0
        /// Trajectories that this process has sampled or fetched.
        var trajectories: [ContentDigest: TensorSet] = [:]
        /// The lease that waits for its trajectory.
        var fetching: Lease?
    }

    enum Body {
        case hello(Hello)
        case lease
        case result(GroupResult)
        case gradient(GradientResult)
        case failure(TaskFailure)
        case content(ContentDigest)
        case heartbeat(TaskID?)
    }

    enum Answer {
        case welcome
        case lease(LeaseAnswer)
        case acknowledged
        case content(TensorSet)
        case stale
        case unknown
    }

    enum Event {
        case arrival(worker: Int, processID: Int, request: Int, Body)
        case answer(worker: Int, processID: Int, request: Int, Answer)
        case resend(worker: Int, processID: Int, request: Int, Body)
        case heartbeat(worker: Int, processID: Int)
        case done(worker: Int, processID: Int, Lease)
        case tick
        case start(worker: Int)
        case startLearner
        case startRewardServer
        case chaos
    }

    /// The learner died, or the reward server lost its state: back to the last snapshot.
    struct Setback: Error {}

    struct Snapshot {
        var moment = SimulatedMoment()
        var counters = Ledger.Counters()
        var trained: [GroupID] = []
    }

    /// What happened, when it is asked for.
    final class Trace {
        var lines: [String] = []
    }

    /// A broken promise.
    struct Violation: Error, CustomStringConvertible {
        var description: String
    }

    static let epochs = 4
    static let groups = 5
    static let leaseMilliseconds = 2000
    /// Gradients that may be out or wait at a time.
    static let window = 2

    var random: SplitMix
    var now = 0
    var queue = EventQueue<Event>()
    var learner: LearnerState?
    var workers: [Worker] = []
    /// What the reward server scores with; nil while it is down, or without a state until the learner restores one.
    var rewardServer: SimulatedPlayers?
    /// The policies that were published, by their digests.
    var policies: [WeightsDigest: Float] = [:]
    var snapshot = Snapshot()
    /// Groups that have entered an update, in order.
    var trained: [GroupID] = []
    /// The players that the open epoch is sampled and scored by.
    var players = SimulatedPlayers()
    var epoch = 0
    /// How often the learner began from a snapshot.
    var beginnings = 0
    /// Disturbances to come; the run must end after the last.
    var disturbances = 0
    var events = 0
    /// When each lease now held was given, and all numbers that were given ever.
    var held: [Int: Int] = [:]
    var numbers: Set<Int> = []
    var accepted: Set<GroupID> = []
    var acceptedGradients: Set<TaskID> = []
    /// Results that the epoch is trained on.
    var collected: [GroupID: GroupResult] = [:]
    /// Every moment of a run that nothing disturbs.
    let undisturbed: [SimulatedMoment]
    /// What such a run trains on, in its order.
    let expected: [GroupID]
    let trace: Trace?

    init(seed: UInt64, undisturbed: [SimulatedMoment], tracing: Bool = false) {
        self.undisturbed = undisturbed
        expected = (0..<Self.epochs).flatMap(Self.possibleGroups)
        random = SplitMix(state: seed)
        trace = tracing ? Trace() : nil
        disturbances = Int(random.next() % 40)
        let honest = 1 + Int(random.next() % 3)
        // Fewer bad ones than failed workers make a quarantine.
        let bad = Int(random.next() % 4)
        for index in 0..<honest + bad {
            let kind = index < honest ? .honest : Kind.allCases[1 + Int(random.next() % 5)]
            workers.append(Worker(name: "worker-\(index)-\(kind)", kind: kind))
            let delay = pick(0...500)
            queue.push(.start(worker: index), at: delay)
        }
        queue.push(.startRewardServer, at: 0)
        let (beginning, disturbance) = (pick(0...200), pick(0...400))
        queue.push(.startLearner, at: beginning)
        queue.push(.tick, at: 25)
        queue.push(.chaos, at: disturbance)
    }

    /// A group that nobody can make: known by its number, so that every interleaving meets the same ones.
    static func isImpossible(_ group: GroupID) -> Bool { (group.epoch * 7 + group.index * 3) % 11 == 5 }

    /// The groups of an epoch that are made and trained on.
    static func possibleGroups(of epoch: Int) -> [GroupID] {
        (0..<groups).map { GroupID(epoch: epoch, index: $0) }.filter { !isImpossible($0) }
    }

    func pick(_ range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(random.next() % UInt64(range.count))
    }

    func chance(_ percent: Int) -> Bool { pick(0...99) < percent }

    func note(_ text: @autoclosure () -> String) { trace?.lines.append("\(now) \(text())") }

    /// Runs to the end of the training.
    ///
    /// - Throws: `Violation`.
    func run() throws {
        while true {
            do {
                let end = try runFromSnapshot()
                let expected = undisturbed[Self.epochs]
                guard end.reports == expected.reports, end.players == expected.players else {
                    throw Violation(description: "ended with \(end.players), undisturbed with \(expected.players)")
                }
                return
            } catch is Setback {
                note("a setback")
            }
        }
    }

    /// The next event.
    func step() throws {
        guard let (time, event) = queue.pop() else { throw Violation(description: "nothing is left to happen") }
        now = time
        // Far beyond the last disturbance and the longest lease.
        guard now < 1_000_000 else { throw Violation(description: "no end of epoch \(epoch)") }
        events += 1
        try handle(event)
        try check()
    }
}

/// What happens next: earliest first, in the order of arrival at one time.
struct EventQueue<Event> {
    private var heap: [(time: Int, number: Int, event: Event)] = []
    private var number = 0

    mutating func push(_ event: Event, at time: Int) {
        number += 1
        heap.append((time, number, event))
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func pop() -> (time: Int, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, least) {
                    least = child
                }
                if least == parent { break }
                heap.swapAt(least, parent)
                parent = least
            }
        }
        return (first.time, first.event)
    }

    private func precedes(_ left: Int, _ right: Int) -> Bool {
        (heap[left].time, heap[left].number) < (heap[right].time, heap[right].number)
    }
}
