import Foundation
import Testing

@testable import Processes

@Suite("Measurements")
struct MeasurementTests {
    @Test("the times of a role's activities sum to the time since its start")
    func roleClock() {
        let start = ContinuousClock.now
        let clock = RoleClock(RewardServerActivity.starting, now: start)
        clock.enter(.scoring, now: start + .seconds(2))
        #expect(clock.enter(.training, now: start + .seconds(5)) == .scoring)
        // A clock reading from before the last change, as another thread may bring it, is not counted twice.
        clock.enter(.scoring, now: start + .seconds(4))
        let times = clock.times(now: start + .seconds(9))
        #expect(times == [.starting: .seconds(2), .scoring: .seconds(7), .training: .zero])
        #expect(clock.seconds(now: start + .seconds(10)) == ["starting": 2, "scoring": 8, "training": 0])
        #expect(clock.seconds(now: start + .seconds(10)).values.reduce(0, +) == 10)
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
