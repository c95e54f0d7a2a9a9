/// Tells the learner that a worker lives, and where its time goes.
public struct Heartbeat: WireRequest {
    public typealias Reply = HeartbeatAcknowledgement
    public static let kind = MessageKind.heartbeat

    /// What a worker does at this moment.
    public enum State: String, Sendable, Hashable, Codable, CaseIterable {
        case starting, loadingWeights, waiting, rollingOut, scoring, training, reporting
    }

    /// Name of the worker.
    public var worker: String
    /// What it does.
    public var state: State
    /// The task it works on.
    public var task: TaskID?
    /// Seconds since start by what the worker did in them, named as its states; they add up to its uptime.
    public var seconds: [String: Double]

    /// Makes the message.
    public init(worker: String, state: State, task: TaskID? = nil, seconds: [String: Double] = [:]) {
        self.worker = worker
        self.state = state
        self.task = task
        self.seconds = seconds
    }

    /// Times are finite and not negative.
    public func validate() throws(WireError) {
        try Check.name(worker, "worker")
        try Check.activities(seconds, "seconds")
    }
}

/// The learner's answer to a heartbeat.
public struct HeartbeatAcknowledgement: WireMessage {
    public static let kind = MessageKind.heartbeatAcknowledgement

    /// The heartbeat's task, if it is not the worker's any more: its lease has ended, or the run went back to a snapshot.
    public var lost: TaskID?
    /// Time until the worker shall report again, 1 to 60,000 ms; nil: as often as it likes.
    public var nextInMilliseconds: Int?

    /// Makes the message.
    public init(lost: TaskID? = nil, nextInMilliseconds: Int? = nil) {
        self.lost = lost
        self.nextInMilliseconds = nextInMilliseconds
    }

    /// The wait is 1 ms to one minute: silence for longer would look like death.
    public func validate() throws(WireError) {
        guard let wait = nextInMilliseconds, !(1...60_000).contains(wait) else { return }
        throw WireError(.invalidValue, "nextInMilliseconds is \(wait), expected 1 to 60000")
    }
}
