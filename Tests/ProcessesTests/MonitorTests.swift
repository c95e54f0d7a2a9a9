import Foundation
import Platform
import Processes
import Synchronization
import Testing

@Suite("Monitor", .timeLimit(.minutes(1)))
struct MonitorTests {
    @Test("of many changes only the one that is waited for wakes the waiting thread")
    func wakes() throws {
        let monitor = Monitor(0)
        let looks = Mutex<[pthread_t]>([])
        let changer = OSThread.start(nil) {
            while monitor.waits.isEmpty { usleep(1000) }
            for _ in 0..<100 { monitor.withLock { $0 += 1 } }
        }
        let found = monitor.wait(for: "a hundred", limit: .seconds(30)) { state in
            looks.withLock { $0.append(pthread_self()) }
            return state == 100 ? state : nil
        }
        changer.join()
        #expect(found == 100 && monitor.waits.isEmpty)
        // Once before waiting, then by whoever changed the state.
        #expect(looks.withLock { $0.count } == 101)
        #expect(looks.withLock { $0.filter { $0 == pthread_self() } }.count == 1)
    }

    @Test("each of several who wait gets what is there for one; who gets nothing waits to the end")
    func handover() throws {
        let monitor = Monitor<[Int]>([])
        let taken = Mutex<[Int?]>([])
        let takers = (0..<4).map { _ in
            OSThread.start(nil) {
                let item = monitor.wait(for: "an item", limit: .seconds(2)) { $0.isEmpty ? nil : $0.removeFirst() }
                taken.withLock { $0.append(item) }
            }
        }
        while monitor.waits.count < 4 { usleep(1000) }
        monitor.withLock { $0 = [1, 2] }
        monitor.withLock { $0.append(3) }
        for taker in takers { taker.join() }
        #expect(taken.withLock { Set($0) } == [1, 2, 3, nil] && monitor.withLock { $0.isEmpty })
    }

    @Test("an error of the look is thrown where it is waited")
    func failure() throws {
        struct Broken: Error {}
        let monitor = Monitor(0)
        let changer = OSThread.start(nil) {
            while monitor.waits.isEmpty { usleep(1000) }
            monitor.withLock { $0 = 1 }
        }
        #expect(throws: Broken.self) {
            try monitor.wait(for: "trouble", limit: .seconds(30)) { state throws(Broken) -> Int? in
                if state == 1 { throw Broken() }
                return nil
            }
        }
        changer.join()
    }
}
