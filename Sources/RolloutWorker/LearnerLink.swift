import ComputeRoles
import Protocol
import Transport

/// What came of a lease.
enum TaskResult: Sendable {
    case group(GroupResult)
    case gradient(GradientResult)
}

/// What a worker asks of its learner, each within the same time.
struct LearnerLink: Sendable {
    private let client: Client
    private let hello: Hello
    /// Longest wait for an answer.
    let patience: Duration
    private let versions: ProgramVersions

    /// - Parameters:
    ///   - hello: how the worker introduces itself.
    ///   - patience: longest wait for an answer.
    ///   - versions: told of the learner's.
    init(_ client: Client, hello: Hello, patience: Duration, versions: ProgramVersions) {
        self.client = client
        self.hello = hello
        self.patience = patience
        self.versions = versions
    }

    /// Introduces the worker and joins the learner's run.
    func join() throws -> RunID {
        let welcome = try client.requestBlocking(hello, deadline: patience)
        versions.note(welcome.program, of: "the learner at \(client.endpoint)")
        client.join(welcome.runID)
        return welcome.runID
    }

    /// Asks for work; the answer comes when there is some, or after a while.
    func lease() throws -> LeaseAnswer {
        try client.requestBlocking(LeaseRequest(worker: hello.name), deadline: patience)
    }

    /// Brings what came of a lease.
    func deliver(_ result: TaskResult) throws -> TaskAcknowledgement {
        switch result {
        case .group(let group): try client.requestBlocking(group, deadline: patience)
        case .gradient(let gradient): try client.requestBlocking(gradient, deadline: patience)
        }
    }

    /// Says that a task cannot be done.
    func giveBack(_ lease: Lease, cause: String) throws {
        _ = try client.requestBlocking(
            TaskFailure(
                worker: hello.name, leaseID: lease.leaseID, task: lease.task, cause: String(cause.prefix(500))),
            deadline: patience)
    }

    /// Whether a refusal means that the learner does not know this worker, or is the learner of another run by now.
    static func isOfNewLearner(_ failure: Failure) -> Bool { [.unknownWorker, .wrongRun].contains(failure.code) }

    /// Whether the next answer may be another: the learner is busy or says what cannot be meant. What it says of this worker's
    /// settings, models, key or program stays true.
    static func mayPass(_ error: any Error) -> Bool {
        guard let failure = error as? Failure else { return error is WireError }
        return ![.settingsMismatch, .modelMismatch, .notAllowed, .unsupportedVersion].contains(failure.code)
    }
}
