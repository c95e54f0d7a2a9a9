import Foundation
import Testing

@testable import Processes

@Suite("Measurements")
struct MeasurementTests {
    @Test("the shares of a role's time sum to the time since its start")
    func roleClock() {
        let start = ContinuousClock.now
        let clock = RoleClock(.starved, now: start)
        clock.enter(.busy, now: start + .seconds(2))
        clock.enter(.blocked, now: start + .seconds(5))
        // A clock reading from before the last change, as another thread may bring it, is not counted twice.
        clock.enter(.busy, now: start + .seconds(4))
        let shares = clock.shares(now: start + .seconds(9))
        #expect(shares.starved == .seconds(2) && shares.busy == .seconds(7))
        #expect(shares.blocked == .zero && shares.idle == .zero)
        #expect(shares.total == .seconds(9))
    }

    @Test("an activity ends with its body, also by an error")
    func activity() {
        struct Failure: Error {}
        let clock = RoleClock(.idle)
        #expect(throws: Failure.self) { try clock.during(.busy) { throw Failure() } }
        #expect(clock.enter(.idle) == .idle)
    }

    @Test("quantiles of a histogram are those of the sorted times within 5 percent")
    func quantiles() throws {
        let histogram = LatencyHistogram()
        #expect(histogram.p50 == nil)
        var generator = SystemRandomNumberGenerator()
        let times = (0..<5000).map { _ in Double.random(in: 0.00001...0.5, using: &generator) }
        for time in times { histogram.record(.seconds(time)) }
        let sorted = times.sorted()
        for fraction in [0.01, 0.5, 0.99, 1] {
            let expected = sorted[Int((fraction * 5000).rounded(.up)) - 1]
            let found = try #require(histogram.quantile(fraction)).seconds
            #expect(abs(found / expected - 1) <= 0.051, "\(fraction): \(found), \(expected)")
        }
        histogram.record(.seconds(1_000_000))
        histogram.record(.zero)
        #expect(histogram.count == 5002)
    }

    @Test("resident memory grows with what is touched")
    func memory() {
        let before = ProcessMemory.residentByteCount
        let touched = [UInt8](repeating: 1, count: 64 << 20)
        #expect(before > 1 << 20)
        #expect(ProcessMemory.residentByteCount >= before + (48 << 20))
        #expect(touched.last == 1)
    }
}
