import CZeroMQ

/// Something that owns sockets on the loop's thread.
protocol LoopParticipant: AnyObject {
    /// Adds its sockets and the events it waits for.
    func addPollItems(to items: inout [zmq_pollitem_t])
    /// Receives and sends what is possible now, and does what is due.
    ///
    /// - Returns: when it wants to be called at the latest, even without an event.
    func service(now: ContinuousClock.Instant) -> ContinuousClock.Instant?
    /// Fails what is in progress; its sockets are closed when it is released, right after.
    func close()
}

/// The state of the loop's thread. Not Sendable: it never leaves the thread.
final class LoopThread {
    /// For making sockets.
    let context: ContextPointer
    private let queue: LoopQueue
    private var participants: [Int: any LoopParticipant] = [:]
    private var nextID = 0

    init(context: ContextPointer, queue: LoopQueue) {
        self.context = context
        self.queue = queue
    }

    /// A number that names a participant from other threads.
    func makeID() -> Int {
        nextID += 1
        return nextID
    }

    /// Takes a participant in, under a number from `makeID`.
    func add(_ participant: any LoopParticipant, _ id: Int) { participants[id] = participant }

    /// The participant of that number, or nil when it has been removed.
    func participant<Participant>(_ id: Int, as type: Participant.Type = Participant.self) -> Participant? {
        participants[id] as? Participant
    }

    /// Closes a participant and its sockets.
    func remove(_ id: Int) { participants.removeValue(forKey: id)?.close() }

    /// Waits, works, and ends when the queue says so; all sockets are closed on return.
    func run() {
        var isStopping = false
        while !isStopping {
            let now = ContinuousClock.now
            var wake: ContinuousClock.Instant?
            for id in participants.keys.sorted() {
                guard let due = participants[id]?.service(now: now) else { continue }
                wake = wake.map { min($0, due) } ?? due
            }
            wait(until: wake)
            let (work, stop) = queue.take()
            for item in work { item(self) }
            isStopping = stop
        }
        for id in participants.keys.sorted() { remove(id) }
    }

    private func wait(until wake: ContinuousClock.Instant?) {
        var items = [zmq_pollitem_t(socket: nil, fd: queue.waker.readDescriptor, events: Int16(ZMQ_POLLIN), revents: 0)]
        for participant in participants.values { participant.addPollItems(to: &items) }
        var milliseconds = -1
        if let wake {
            let (seconds, attoseconds) = max(.zero, wake - .now).components
            // Rounded up: waking early would spin until the time has come.
            milliseconds =
                Int(min(seconds, 3600)) * 1000 + Int((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
        }
        // Interruptions and other failures of the poll end the wait; the next round sees what is left.
        _ = zmq_poll(&items, Int32(items.count), milliseconds)
        queue.waker.drain()
    }
}
