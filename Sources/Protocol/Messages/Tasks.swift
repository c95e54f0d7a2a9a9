/// Gives a task back that could not be finished.
public struct TaskFailure: WireRequest {
    public typealias Reply = TaskAcknowledgement
    public static let kind = MessageKind.taskFailure

    /// Name of the worker.
    public var worker: String
    /// The lease it worked under.
    public var leaseID: LeaseID
    /// The task.
    public var task: TaskID
    /// What went wrong, in one sentence.
    public var cause: String

    /// Makes the message.
    public init(worker: String, leaseID: LeaseID, task: TaskID, cause: String) {
        self.worker = worker
        self.leaseID = leaseID
        self.task = task
        self.cause = cause
    }

    /// Texts are not too long.
    public func validate() throws(WireError) {
        try Check.name(worker, "worker")
        try Check.text(cause, "cause", Check.sentence)
    }
}

/// What the learner did with a result or a failure.
public struct TaskAcknowledgement: WireMessage {
    public static let kind = MessageKind.taskAcknowledgement

    /// What became of the task.
    public enum Verdict: String, Sendable, Hashable, Codable {
        /// It is in the ledger.
        case accepted
        /// It was there already; this copy was dropped.
        case duplicate
        /// It does not match what the learner published; the reason says how.
        case refused
    }

    /// What became of the task.
    public var verdict: Verdict
    /// Why, when it was refused.
    public var reason: String?

    /// Makes the message.
    public init(_ verdict: Verdict, reason: String? = nil) {
        self.verdict = verdict
        self.reason = reason
    }

    /// The reason is not too long.
    public func validate() throws(WireError) {
        if let reason { try Check.text(reason, "reason", Check.sentence) }
    }
}
