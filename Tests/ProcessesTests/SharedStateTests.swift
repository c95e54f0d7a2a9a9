import Foundation
import Platform
import Processes
import Synchronization
import Testing

@Suite("SharedState", .timeLimit(.minutes(1)))
struct SharedStateTests {
    @Test("of many changes only the one that is waited for wakes the waiting thread")
    func wakes() throws {
        let shared = SharedState(0)
        let looks = Mutex<[pthread_t]>([])
        let changer = OSThread.start(nil) {
            while shared.waits.isEmpty { usleep(1000) }
            for _ in 0..<100 { shared.withLock { $0 += 1 } }
        }
        let found = shared.wait(for: "a hundred", limit: .seconds(30)) { state in
            looks.withLock { $0.append(pthread_self()) }
            return state == 100 ? state : nil
        }
        changer.join()
        #expect(found == 100 && shared.waits.isEmpty)
        // Once before waiting, then by whoever changed the state.
        #expect(looks.withLock { $0.count } == 101)
        #expect(looks.withLock { $0.filter { $0 == pthread_self() } }.count == 1)
    }

    @Test("each of several who wait gets what is there for one; who gets nothing waits to the end")
    func handover() throws {
        let shared = SharedState<[Int]>([])
        let taken = Mutex<[Int?]>([])
        let takers = (0..<4).map { _ in
            OSThread.start(nil) {
                let item = shared.wait(for: "an item", limit: .seconds(2)) { $0.isEmpty ? nil : $0.removeFirst() }
                taken.withLock { $0.append(item) }
            }
        }
        while shared.waits.count < 4 { usleep(1000) }
        shared.withLock { $0 = [1, 2] }
        shared.withLock { $0.append(3) }
        for taker in takers { taker.join() }
        #expect(taken.withLock { Set($0) } == [1, 2, 3, nil] && shared.withLock { $0.isEmpty })
    }

    @Test("an error of the look is thrown where it is waited")
    func failure() throws {
        struct Broken: Error {}
        let shared = SharedState(0)
        let changer = OSThread.start(nil) {
            while shared.waits.isEmpty { usleep(1000) }
            shared.withLock { $0 = 1 }
        }
        #expect(throws: Broken.self) {
            try shared.wait(for: "trouble", limit: .seconds(30)) { state throws(Broken) -> Int? in
                if state == 1 { throw Broken() }
                return nil
            }
        }
        changer.join()
    }
}
