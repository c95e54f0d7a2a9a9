import CZeroMQ
import Foundation
import Processes
import Protocol
import RunFiles
import SafeTensors
import Synchronization

@testable import Transport

/// A thousand workers that ask, wait and deliver, with heartbeats, as `RolloutWorker` does: real sockets and messages, fake
/// computing, all on one thread, so that on the two processors of a test the learner is measured and not they.
final class StubWorkers: Sendable {
    /// What a group takes. All together could make 1000 / 0.36 s = 2,800 groups a second, were it not for the ends of epochs,
    /// where they wait for the slowest and then for up to 0.4 s until they ask again.
    static let think = Duration.milliseconds(360)
    /// Time between heartbeats as long as the learner has not said another.
    static let beat = Duration.milliseconds(500)

    /// What they saw, and until when they work.
    final class Tally: Sendable {
        struct State {
            var introduced = 0
            var busy = 0
            var end: ContinuousClock.Instant?
            var report = ScaleTests.Report()
        }
        let state = Mutex(State())
        let leases = Mutex(LatencyHistogram())
        let results = Mutex(LatencyHistogram())

        func fail(_ error: String) {
            state.withLock { if $0.report.errors.count < 5 { $0.report.errors.append(error) } }
        }
    }

    private let endpoint: Endpoint
    private let loop: SocketLoop
    private let tally = Tally()

    init(endpoint: Endpoint) throws {
        self.endpoint = endpoint
        loop = try SocketLoop()
    }

    /// Works for some time from when all workers have been welcomed.
    func work(seconds: Double) async throws -> ScaleTests.Report {
        let (endpoint, tally) = (endpoint, tally)
        let ids: [Int] = try loop.perform { (thread) throws(TransportError) in
            var ids: [Int] = []
            for index in 0..<ScaleTests.workerCount {
                ids.append(thread.makeID())
                thread.add(try StubWorker(index, endpoint, context: thread.context, tally), ids[index])
            }
            return ids
        }
        try await wait(for: "welcomes", limit: .seconds(60)) { $0.introduced == ids.count }
        tally.state.withLock { $0.end = .now + .seconds(seconds) }
        // Looked up, each is serviced, and sees that it may begin.
        try loop.perform { (thread) throws(TransportError) in
            for id in ids { _ = thread.participant(id, as: StubWorker.self) }
        }
        try await Task.sleep(for: .seconds(seconds))
        try await wait(for: "the last replies", limit: .seconds(30)) { $0.busy == 0 }
        await loop.shutdown()
        return tally.state.withLock { state in
            let (leases, results) = (tally.leases.withLock { $0 }, tally.results.withLock { $0 })
            state.report.leaseRequests = leases.count
            state.report.leaseP50 = (leases.p50 ?? .zero) / .milliseconds(1)
            state.report.leaseP99 = (leases.p99 ?? .zero) / .milliseconds(1)
            state.report.resultP99 = (results.p99 ?? .zero) / .milliseconds(1)
            return state.report
        }
    }

    private func wait(for what: String, limit: Duration, until isTrue: (Tally.State) -> Bool) async throws {
        let deadline = ContinuousClock.now + limit
        while !tally.state.withLock({ isTrue($0) }) {
            if .now > deadline { return tally.fail("no \(what) within \(limit)") }
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}

/// One of them, on the loop's thread.
private final class StubWorker: LoopParticipant {
    private enum Doing {
        case introducing
        /// Until all are introduced, or after the end.
        case nothing
        case waiting(until: ContinuousClock.Instant)
        case asking(since: ContinuousClock.Instant)
        case sampling(Lease, until: ContinuousClock.Instant)
        case delivering(since: ContinuousClock.Instant)
    }

    let descriptors: [Int32]
    private let name: String
    private let clientID: ClientID
    private let socket: Socket
    private let tally: StubWorkers.Tally
    private var doing = Doing.introducing
    private var nextBeat: ContinuousClock.Instant?
    private var requestID: UInt64 = 0

    init(_ index: Int, _ endpoint: Endpoint, context: ContextPointer, _ tally: StubWorkers.Tally) throws(TransportError)
    {
        let socket = try Socket(context, type: ZMQ_DEALER, lingerMilliseconds: 0)
        try socket.setCommonOptions(endpoint: endpoint, limits: .standard)
        try socket.connect(endpoint.description)
        name = "worker \(index)"
        clientID = ClientID(rawValue: "stub-\(index)")!  // at most 8 letters and digits
        descriptors = [socket.descriptor]
        self.socket = socket
        self.tally = tally
        send(
            Hello(
                role: .rolloutWorker, name: name,
                process: ProcessDescription(
                    host: "here", processID: index, processor: "", engine: "", program: "1.0.0"),
                settingsDigest: "settings", models: ["model/transformer": "a"]))
    }

    func close() {}

    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        while let frames = socket.receive(maximumFrameCount: 16)?.frames {
            do {
                try heard(try ReceivedMessage(frames: frames.suffix(3)), now)
            } catch {
                tally.fail("\(name): \(error)")
            }
        }
        let due = proceed(now)
        // Sending may have taken the news of a reply off the descriptor.
        return socket.has(ZMQ_POLLIN) ? now : due
    }

    private func heard(_ reply: ReceivedMessage, _ now: ContinuousClock.Instant) throws {
        switch reply.envelope.kind {
        case .welcome:
            doing = .nothing
            tally.state.withLock { $0.introduced += 1 }
        case .heartbeatAcknowledgement:
            let wait = try reply.decoded(as: HeartbeatAcknowledgement.self).nextInMilliseconds
            if let wait, nextBeat != nil { nextBeat = now + .milliseconds(wait) }
        case .leaseAnswer:
            guard case .asking(let since) = doing else { return tally.fail("\(name): an answer to no question") }
            tally.leases.withLock { $0.record(.now - since) }
            switch try reply.decoded(as: LeaseAnswer.self) {
            case .lease(let lease): doing = .sampling(lease, until: now + StubWorkers.think)
            case .wait(_, let milliseconds): rest(until: now + .milliseconds(min(milliseconds, 1000)), now)
            case .stop(let reason): throw TransportError(.closed, reason)
            }
        case .taskAcknowledgement:
            guard case .delivering(let since) = doing else { return tally.fail("\(name): thanks for nothing") }
            tally.results.withLock { $0.record(.now - since) }
            let verdict = try reply.decoded(as: TaskAcknowledgement.self).verdict
            tally.state.withLock { if verdict == .accepted { $0.report.accepted += 1 } else { $0.report.other += 1 } }
            rest(until: now, now)
        default: throw try reply.decoded(as: Failure.self)
        }
    }

    /// Does what is due.
    ///
    /// - Returns: when something is due again.
    private func proceed(_ now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        if case .nothing = doing, tally.state.withLock({ $0.end.map { $0 > now } ?? false }) {
            tally.state.withLock { $0.busy += 1 }
            nextBeat = now + StubWorkers.beat * Double.random(in: 0..<1)
            doing = .waiting(until: now + StubWorkers.think * Double.random(in: 0..<1))
        }
        if let beat = nextBeat, beat <= now {
            nextBeat = now + StubWorkers.beat
            send(Heartbeat(worker: name, state: .rollingOut, seconds: ["rollingOut": 1]))
        }
        switch doing {
        case .waiting(let until) where until <= now:
            doing = .asking(since: .now)
            send(LeaseRequest(worker: name))
        case .sampling(let lease, let until) where until <= now:
            doing = .delivering(since: .now)
            send(result(lease))
        case .waiting(let until), .sampling(_, let until): return [nextBeat, until].compactMap(\.self).min()
        default: break
        }
        return nextBeat
    }

    /// Asks again at a time, or ends.
    private func rest(until: ContinuousClock.Instant, _ now: ContinuousClock.Instant) {
        let isOver = tally.state.withLock { state in
            let isOver = state.end.map { $0 <= now } ?? true
            if isOver { state.busy -= 1 }
            return isOver
        }
        if isOver { nextBeat = nil }
        doing = isOver ? .nothing : .waiting(until: until)
    }

    private func send(_ message: some WireRequest) {
        requestID += 1
        do {
            var encoded = try EncodedMessage(
                message, runID: RunID(rawValue: "run-1"), clientID: clientID, sender: .rolloutWorker,
                requestID: requestID)
            encoded.envelope.deadlineMilliseconds = 60_000
            if socket.send(encoded.frames) != .sent { tally.fail("\(name): its socket is full") }
        } catch {
            tally.fail("\(name): \(error)")
        }
    }

    /// As large as a group of deploy/settings/tiny.yaml: 32 KiB of latents.
    private func result(_ lease: Lease) -> GroupResult {
        GroupResult(
            of: lease, by: name,
            GroupResult.Trajectory(
                latents: Self.latents,
                logProbabilities: TensorPayload(floats: [Float](repeating: -0.5, count: 4), shape: [4, 1]),
                stepIndices: TensorPayload(int32s: [0])),
            Scores(
                discriminatorVersion: lease.discriminatorVersion ?? DiscriminatorVersion(rawValue: 0),
                rewards: TensorPayload(floats: [1, 2, 3, 4]),
                components: ["dino_patch": TensorPayload(floats: [1, 2, 3, 4])]),
            seconds: ["sample": 0.3, "score": 0.1])
    }

    private static let latents = TensorPayload(
        floats: [Float](repeating: 0.5, count: 4 * 2 * 1024), shape: [4, 2, 16, 8, 8])
}
