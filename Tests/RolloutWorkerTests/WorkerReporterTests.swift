import Protocol
import Synchronization
import Testing
import Transport

@testable import RolloutWorker

@Suite(.timeLimit(.minutes(1))) struct WorkerReporterTests {
    /// When heartbeats came to a learner that answers each in the same way.
    private static func arrivals(count: Int, nextInMilliseconds: Int?) async throws -> [ContinuousClock.Instant] {
        let loop = try SocketLoop()
        let arrivals = Mutex<[ContinuousClock.Instant]>([])
        let server = try Server(Endpoint("tcp://127.0.0.1:0"), on: loop) { request in
            arrivals.withLock { $0.append(.now) }
            request.reply(
                HeartbeatAcknowledgement(nextInMilliseconds: nextInMilliseconds))
        }
        let reporter = WorkerReporter(name: "w0", learner: try Client(server.endpoint, on: loop))
        reporter.start()
        while arrivals.withLock({ $0.count }) < count { try await Task.sleep(for: .milliseconds(5)) }
        reporter.stop()
        await loop.shutdown()
        return arrivals.withLock { Array($0.prefix(count)) }
    }

    @Test(
        "a heartbeat comes when the learner asked for it, half a second later if it did not", arguments: [900, 5, nil])
    func pace(_ next: Int?) async throws {
        let arrivals = try await Self.arrivals(count: 3, nextInMilliseconds: next)
        let gaps = zip(arrivals.dropFirst(), arrivals).map { $0 - $1 }
        let expected = Duration.milliseconds(next ?? 500)
        // A busy machine makes a gap longer, all of them only if it is the pace. A timer may be early by its resolution.
        #expect(try #require(gaps.min()) > expected - .milliseconds(20), "\(gaps)")
        #expect(try #require(gaps.min()) < expected + .milliseconds(350), "\(gaps)")
    }
}
