import Foundation
import Protocol
import Synchronization
import Testing

@testable import Transport

@Suite("What the loop's thread does, and for whom", .serialized, .timeLimit(.minutes(2)))
struct LoopTests {
    /// Counts how often it is serviced.
    private final class Counting: LoopParticipant {
        let descriptors: [Int32] = []
        let count: Log<Bool>
        let delay: Duration?

        init(_ count: Log<Bool>, delay: Duration?) {
            self.count = count
            self.delay = delay
        }

        func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
            count.add(true)
            return delay.map { now + $0 }
        }

        func close() {}
    }

    @Test("a participant is serviced when work has reached it or its time has come, and not for the others' sake")
    func service() async throws {
        let loop = try SocketLoop()
        let (idle, busy, timed) = (Log<Bool>(), Log<Bool>(), Log<Bool>())
        let id = try loop.perform { (thread) throws(TransportError) in
            thread.add(Counting(idle, delay: nil), thread.makeID())
            thread.add(Counting(timed, delay: .milliseconds(20)), thread.makeID())
            let id = thread.makeID()
            thread.add(Counting(busy, delay: nil), id)
            return id
        }
        for round in 1...50 {
            loop.submit { _ = $0.participant(id, as: Counting.self) }
            #expect(await eventually { busy.count > round })
        }
        #expect(await eventually { timed.count > 2 })
        #expect(idle.count == 1 && busy.count == 51)
        await loop.shutdown()
    }

    @Test("requests that came while the loop was busy are all taken, although their news came once")
    func leftovers() async throws {
        let held = Log<Request>()
        let isFirst = Atomic(true)
        // Nothing is answered until all have come: only what the socket says can bring the loop to it again.
        let bench = try Bench(.tcp) { request in
            if request.kind == .healthRequest { return answer(request) }
            // Long enough for the clients to fill what their connections hold.
            if isFirst.exchange(false, ordering: .relaxed) { usleep(500_000) }
            held.add(request)
        }
        let clients = try (0..<8).map { _ in try bench.client { $0.resendInterval = .seconds(200) } }
        for client in clients { _ = try await client.request(HealthRequest(), deadline: .seconds(100)) }
        let pending = try clients.flatMap { client in
            try (0..<128).map { try client.begin(scoreRequest(seed: UInt8($0)), deadline: .seconds(100)) }
        }
        #expect(await eventually { held.count == pending.count }, "\(held.count) of \(pending.count)")
        held.take().forEach(answer)
        for reply in pending { _ = try reply.wait() }
        // A client that is let go fails its requests.
        withExtendedLifetime(clients) {}
        await bench.end()
    }
}
