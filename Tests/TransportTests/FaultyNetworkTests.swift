import FaultyNetwork
import Protocol
import Testing

@testable import Transport

@Suite("Faulty networks", .serialized, .timeLimit(.minutes(2)))
struct FaultyNetworkTests {
    /// A server with keys, and a client that reaches it through a proxy.
    private func bench(
        _ faults: [WireFault], resendInterval: Duration
    ) throws -> (bench: Bench, client: Client, proxy: FaultyProxy) {
        let bench = try Bench(.curve)
        guard case .tcp(_, let port) = bench.server.endpoint.address else { throw TransportError(.system, "no port") }
        let proxy = try FaultyProxy(to: UInt16(port), faults: faults)
        let client = try bench.client(through: Endpoint("tcp://127.0.0.1:\(proxy.port)")) {
            $0.resendInterval = resendInterval
        }
        return (bench, client, proxy)
    }

    @Test("requests too short to be repeated still notice a half-open connection and leave it")
    func halfOpen() async throws {
        let fault = WireFault(.swallow, isTowardsServer: true, offset: 2000, pause: .seconds(600))
        let (bench, client, proxy) = try bench([fault], resendInterval: .milliseconds(100))
        var (answered, lost) = (0, 0)
        // The connection is swallowed by one of these, and each waits for less than the time of a repetition.
        for _ in 0..<100 where lost == 0 || answered < 5 {
            do {
                _ = try await client.request(HealthRequest(), deadline: .milliseconds(90))
                if lost > 0 { answered += 1 }
            } catch let error as TransportError where error.code == .deadlineExceeded {
                lost += 1
            }
        }
        #expect(proxy.met.count == 1)
        #expect(lost > 0 && answered >= 5, "\(lost) lost, \(answered) answered afterwards")
        await bench.end()
    }

    @Test(
        "a connection that a fault of the bytes ended is replaced after one repetition's time, not after five",
        arguments: [true, false], [300, 2000])
    func flip(isTowardsServer: Bool, offset: Int) async throws {
        let fault = WireFault(.flip, isTowardsServer: isTowardsServer, offset: offset)
        let (bench, client, proxy) = try bench([fault], resendInterval: .seconds(2))
        var slowest = Duration.zero
        for seed in 0..<20 {
            let begin = ContinuousClock.now
            let request = scoreRequest(seed: UInt8(seed))
            #expect(try await client.request(request, deadline: .seconds(60)) == scores(for: request))
            slowest = max(slowest, .now - begin)
        }
        #expect(proxy.met.count == 1)
        // Five repetitions' times are 10 s.
        #expect(slowest < .seconds(8), "\(slowest)")
        await bench.end()
    }
}
