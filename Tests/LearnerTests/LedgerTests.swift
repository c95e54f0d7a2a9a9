import Protocol
import TestSupport
import Testing

@testable import Learner

@Suite("Ledger")
struct LedgerTests {
    private func ledger(_ groups: Int) -> Ledger {
        var ledger = Ledger(leaseMilliseconds: 100, failureLimit: 3)
        ledger.open(epoch: 4, prompts: (0..<groups).map { "prompt \($0)" }, now: 0)
        return ledger
    }

    private func given(
        _ ledger: inout Ledger, _ worker: String, now: Int
    ) throws -> (entry: Ledger.Entry, lease: LeaseID) {
        let given = ledger.lease(to: worker, now: now)
        return try #require(given)
    }

    @Test("groups are leased in order, and no group is leased twice at a time")
    func leasesInOrder() throws {
        var ledger = ledger(2)
        #expect(ledger.lease(to: "a", now: 0)?.entry.task.group == GroupID(epoch: 4, index: 0))
        #expect(ledger.lease(to: "b", now: 0)?.entry.task.group == GroupID(epoch: 4, index: 1))
        #expect(ledger.lease(to: "c", now: 0) == nil)
    }

    @Test("a lease that ends goes to somebody else, and the late result still counts once")
    func expiredLease() throws {
        var ledger = ledger(1)
        let group = GroupID(epoch: 4, index: 0)
        _ = ledger.lease(to: "slow", now: 0)
        #expect(ledger.lease(to: "fast", now: 99) == nil)
        #expect(ledger.lease(to: "fast", now: 100)?.entry.leaseCount == 2)
        #expect(ledger.deliver(.rollout(group), worker: "slow", now: 120) == .accepted)
        #expect(ledger.deliver(.rollout(group), worker: "fast", now: 130) == .duplicate)
        #expect(ledger.counters.expired == 1)
    }

    @Test("a heartbeat prolongs the lease of the worker that holds it, nobody else's")
    func renewal() throws {
        var ledger = ledger(1)
        let group = GroupID(epoch: 4, index: 0)
        _ = ledger.lease(to: "a", now: 0)
        ledger.renew(worker: "b", task: .rollout(group), now: 90)
        ledger.renew(worker: "a", task: .rollout(group), now: 50)
        #expect(ledger.lease(to: "b", now: 149) == nil)
        #expect(ledger.lease(to: "b", now: 150) != nil)
    }

    @Test("a worker that asks again gets the group it holds, and no second one")
    func oneGroupAWorker() throws {
        var ledger = ledger(2)
        let first = try given(&ledger, "a", now: 0)
        let again = try given(&ledger, "a", now: 50)
        #expect(again.lease == first.lease && again.entry.task.group == first.entry.task.group)
        #expect(ledger.counters.leased == 1)
        #expect(ledger.lease(to: "b", now: 60)?.entry.task.group.index == 1)
        // It lives, but asks for work all the same: it has given the group up.
        ledger.renew(worker: "a", task: .rollout(first.entry.task.group), now: 90)
        #expect(ledger.lease(to: "a", now: 120)?.lease != first.lease)
        #expect(ledger.counters.expired == 1)
    }

    @Test("heartbeats prolong a lease ten times its length at most")
    func longestLease() throws {
        var ledger = ledger(1)
        let group = GroupID(epoch: 4, index: 0)
        _ = ledger.lease(to: "stuck", now: 0)
        for now in stride(from: 50, to: 2000, by: 50) { ledger.renew(worker: "stuck", task: .rollout(group), now: now) }
        #expect(ledger.lease(to: "other", now: 999) == nil)
        #expect(ledger.lease(to: "other", now: 1000) != nil)
    }

    @Test("a failure reported twice, or late, counts once and leaves the next lease alone")
    func lateFailure() throws {
        var ledger = ledger(1)
        let group = GroupID(epoch: 4, index: 0)
        let first = try given(&ledger, "a", now: 0).lease
        ledger.fail(.rollout(group), worker: "a", lease: first, cause: "x", now: 1)
        let second = try given(&ledger, "a", now: 20).lease
        ledger.fail(.rollout(group), worker: "a", lease: first, cause: "x", now: 30)
        #expect(ledger.counters.failed == 1)
        #expect(ledger.entries(of: .rollout)[0].state == .leased(worker: "a", lease: second, until: 120))
    }

    @Test("a worker that fails everything gets no group quarantined while another could make it")
    func badWorker() throws {
        var ledger = ledger(1)
        let group = GroupID(epoch: 4, index: 0)
        let workers: Set<String> = ["bad", "good"]
        func others(_ tried: Set<String>) -> Bool { !workers.subtracting(tried).isEmpty }
        var failures = 0
        for now in 0..<100 {
            if let lease = ledger.lease(to: "bad", now: now, othersCanTry: others)?.lease {
                ledger.fail(.rollout(group), worker: "bad", lease: lease, cause: "x", now: now)
                failures += 1
            }
            // The good one's first try ends without a result; that opens the second round, for both.
            if now == 50 {
                #expect(failures == 1)
                _ = ledger.lease(to: "good", now: now, othersCanTry: others)
                ledger.release(worker: "good", now: now)
            }
        }
        #expect(failures == 2 && ledger.quarantined(.rollout).isEmpty)
        #expect(ledger.lease(to: "good", now: 100, othersCanTry: others) != nil)
        #expect(ledger.deliver(.rollout(group), worker: "good", now: 101) == .accepted)
    }

    @Test("a group that fails three times is quarantined with its cause and the epoch goes on without it")
    func quarantine() throws {
        var ledger = ledger(2)
        let bad = GroupID(epoch: 4, index: 0)
        for now in [0, 50, 100] {
            let lease = try given(&ledger, "a", now: now)
            #expect(lease.entry.task.group == bad)
            ledger.fail(.rollout(bad), worker: "a", lease: lease.lease, cause: "no memory", now: now)
            // The next round waits for others, longer each time.
            #expect(ledger.lease(to: "a", now: now + 5)?.entry.task.group != bad)
            ledger.release(worker: "a", now: now + 5)
        }
        #expect(ledger.quarantined(.rollout).map(\.task.group) == [bad])
        guard case .refused(let reason) = ledger.deliver(.rollout(bad), worker: "a", now: 110) else {
            Issue.record("a quarantined group was accepted")
            return
        }
        #expect(reason.contains("no memory"))
        _ = ledger.lease(to: "a", now: 120)
        #expect(ledger.deliver(.rollout(GroupID(epoch: 4, index: 1)), worker: "a", now: 121) == .accepted)
        #expect(ledger.isComplete(.rollout))
        #expect(ledger.scoredGroups == [GroupID(epoch: 4, index: 1)])
    }

    @Test("results of another epoch are refused")
    func foreignEpoch() throws {
        var ledger = ledger(1)
        guard case .refused = ledger.deliver(.rollout(GroupID(epoch: 3, index: 0)), worker: "a", now: 0) else {
            Issue.record("a result of epoch 3 was taken in epoch 4")
            return
        }
    }

    @Test("going back to a snapshot takes its totals, so that an epoch run twice counts once, and forgets the groups")
    func restored() throws {
        var ledger = ledger(1)
        let group = GroupID(epoch: 4, index: 0)
        let first = ledger.lease(to: "a", now: 0)?.lease
        _ = ledger.deliver(.rollout(group), worker: "a", now: 1)
        ledger.train(now: 2)
        ledger.restore(Ledger.Counters())
        #expect(ledger.counters == Ledger.Counters() && ledger.entries(of: .rollout).isEmpty)
        #expect(ledger.deliver(.rollout(group), worker: "a", now: 3) == .refused("group 4/0 is not open in this epoch"))
        ledger.open(epoch: 4, prompts: ["prompt 0"], now: 4)
        #expect(ledger.lease(to: "a", now: 5)?.lease != first)
        #expect(ledger.deliver(.rollout(group), worker: "a", now: 6) == .accepted)
        ledger.train(now: 7)
        #expect(ledger.counters.trained == 1)
    }

    @Test("whatever workers do, every group is trained exactly once", arguments: 0..<64)
    func anyInterleaving(seed: Int) throws {
        var generator = SplitMix(state: UInt64(seed))
        var ledger = Ledger(leaseMilliseconds: 20, failureLimit: 1_000)
        var now = 0
        for epoch in 0..<20 {
            ledger.open(epoch: epoch, prompts: ["a", "b", "c", "d", "e"], now: now)
            var held: [(group: GroupID, worker: String, lease: LeaseID)] = []
            var accepted: [GroupID] = []
            while !ledger.isComplete(.rollout) {
                now += Int(generator.next() % 10)
                let worker = "worker \(generator.next() % 3)"
                switch generator.next() % 8 {
                case 0...2:
                    if let lease = ledger.lease(to: worker, now: now) {
                        held.append((lease.entry.task.group, worker, lease.lease))
                    }
                case 3: ledger.release(worker: worker, now: now)
                case 4:
                    if let one = held.randomElement(using: &generator) {
                        ledger.fail(
                            .rollout(one.group), worker: one.worker, lease: one.lease, cause: "killed", now: now)
                    }
                case 5: ledger.expire(now: now)
                default:
                    if let one = held.randomElement(using: &generator),
                        ledger.deliver(.rollout(one.group), worker: one.worker, now: now) == .accepted
                    {
                        accepted.append(one.group)
                    }
                }
            }
            #expect(Set(accepted) == Set((0..<5).map { GroupID(epoch: epoch, index: $0) }))
            #expect(accepted.count == 5)
            #expect(ledger.scoredGroups.map(\.index) == [0, 1, 2, 3, 4])
            ledger.train(now: now)
        }
        #expect(ledger.counters.trained == 100)
        #expect(ledger.counters.accepted == 100)
    }
}
