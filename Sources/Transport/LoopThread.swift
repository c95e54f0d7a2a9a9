internal import HeapModule

/// Something that owns sockets on the loop's thread.
protocol LoopParticipant: AnyObject {
    /// The descriptors of its sockets (`Socket.descriptor`).
    var descriptors: [Int32] { get }
    /// Receives and sends what is possible now, and does what is due.
    ///
    /// - Returns: when it wants to be called again, even without news; `now` while one of its sockets has something left.
    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant?
    /// Fails what is in progress; its sockets are closed when it is released, right after.
    func close()
}

/// The state of the loop's thread. Not Sendable: it never leaves the thread.
///
/// A participant is serviced when its time has come, when a descriptor of its sockets is readable, and after work that reached
/// it, as using a socket takes the news off its descriptor. The others cost nothing.
final class LoopThread {
    private final class Member {
        let id: Int
        let participant: any LoopParticipant
        var descriptors: [Int32] = []
        var isCalled = false
        /// The time of its earliest alarm.
        var alarm: ContinuousClock.Instant?

        init(_ id: Int, _ participant: any LoopParticipant) {
            self.id = id
            self.participant = participant
        }
    }

    /// When a member is to be called.
    private struct Alarm: Comparable {
        let time: ContinuousClock.Instant
        let id: Int
        static func < (a: Alarm, b: Alarm) -> Bool { a.time < b.time }
    }

    /// For making sockets.
    let context: ContextPointer
    private let queue: LoopQueue
    private let waitSet: WaitSet
    private var members: [Int: Member] = [:]
    /// Who is serviced next.
    private var called: [Member] = []
    /// Some members want to be called later by now: their alarm finds that out.
    private var alarms = Heap<Alarm>()
    /// The number given last; the waker has the first.
    private var lastID = 0

    init(context: ContextPointer, queue: LoopQueue, waitSet: WaitSet) {
        self.context = context
        self.queue = queue
        self.waitSet = waitSet
        waitSet.add(queue.waker.readDescriptor, owner: lastID)
    }

    /// A number that names a participant from other threads.
    func makeID() -> Int {
        lastID += 1
        return lastID
    }

    /// Takes a participant in, under a number from `makeID`.
    func add(_ participant: any LoopParticipant, _ id: Int) {
        let member = Member(id, participant)
        members[id] = member
        watch(member)
        call(member)
    }

    /// The participant of that number, to be serviced before the next wait; nil when it has been removed.
    func participant<Participant>(_ id: Int, as type: Participant.Type = Participant.self) -> Participant? {
        guard let member = members[id] else { return nil }
        call(member)
        return member.participant as? Participant
    }

    /// Closes a participant and its sockets.
    func remove(_ id: Int) {
        guard let member = members.removeValue(forKey: id) else { return }
        called.removeAll { $0 === member }
        for descriptor in member.descriptors { waitSet.remove(descriptor) }
        member.participant.close()
    }

    /// Waits, works, and ends when the queue says so; all sockets are closed on return.
    func run() {
        var isStopping = false
        while !isStopping {
            service()
            wait()
            let (work, stop) = queue.take()
            for item in work { item(self) }
            isStopping = stop
        }
        for id in members.keys.sorted() { remove(id) }
    }

    private func call(_ member: Member) {
        if !member.isCalled { called.append(member) }
        member.isCalled = true
    }

    private func service() {
        let now = ContinuousClock.now
        while let alarm = alarms.min, alarm.time <= now {
            alarms.removeMin()
            guard let member = members[alarm.id] else { continue }
            member.alarm = nil
            call(member)
        }
        let round = called
        called = []
        for member in round {
            member.isCalled = false
            let due = member.participant.service(now: now)
            if member.descriptors != member.participant.descriptors { watch(member) }
            guard let due else { continue }
            if due <= now {
                call(member)
            } else if member.alarm.map({ due < $0 }) ?? true {
                member.alarm = due
                alarms.insert(Alarm(time: due, id: member.id))
            }
        }
    }

    /// Waits for its present descriptors from now on, before a number of the old ones can come back as another's.
    private func watch(_ member: Member) {
        for descriptor in member.descriptors { waitSet.remove(descriptor) }
        member.descriptors = member.participant.descriptors
        for descriptor in member.descriptors { waitSet.add(descriptor, owner: member.id) }
    }

    private func wait() {
        var milliseconds = called.isEmpty ? -1 : 0
        if called.isEmpty, let alarm = alarms.min {
            let (seconds, attoseconds) = max(.zero, alarm.time - .now).components
            // Rounded up: waking early would spin until the time has come.
            milliseconds =
                Int(min(seconds, 3600)) * 1000 + Int((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
        }
        // An interruption ends the wait; the next round sees what is left.
        for owner in waitSet.wait(milliseconds: Int32(milliseconds)) {
            // Whoever is no member is the waker.
            if let member = members[owner] { call(member) } else { queue.waker.drain() }
        }
    }
}
