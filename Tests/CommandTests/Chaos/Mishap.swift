import LibC
import TestSupport
import Testing

/// What happens to the processes of a run, drawn from a seed.
struct Mishap: CustomStringConvertible {
    enum Kind: CaseIterable {
        /// SIGKILL of one role.
        case kill
        /// SIGSTOP of one role, SIGCONT later.
        case stop
        /// SIGKILL of everything, and the run resumed at once.
        case killAll
        /// Ctrl-C, and the run resumed afterwards.
        case interrupt
    }

    let kind: Kind
    /// Whom a kill or a stop meets.
    let role: String
    /// Time before it.
    let delay: Duration
    /// How long a stopped role stands still.
    let pause: Duration

    var description: String { "\(delay): \(kind) \(role) \(pause)" }

    static let roles = ["worker-0", "worker-1", "reward-server", "learner"]

    /// One to four mishaps.
    static func schedule(seed: UInt64) -> [Mishap] {
        var generator = SplitMix(state: seed)
        return (0..<Int.random(in: 1...4, using: &generator)).map { _ in
            Mishap(
                kind: Kind.allCases.randomElement(using: &generator) ?? .kill,
                role: roles.randomElement(using: &generator) ?? "",
                delay: .milliseconds(Int.random(in: 0...1500, using: &generator)),
                pause: .milliseconds(Int.random(in: 100...2500, using: &generator)))
        }
    }
}

/// A run that mishaps meet. Whoever owns it brings back what they end, as its operator would.
protocol DisturbedRun: AnyObject {
    /// The process of a role, if there is one now.
    func processID(of role: String) -> Int32?
    /// Brings back a role that is dead, unless somebody else does.
    func revive(_ role: String) throws
    /// SIGKILL of everything, and everything again.
    func killAll() async throws
    /// Ctrl-C, and everything again.
    func interrupt() async throws
    /// Waits for the run's end.
    func finish() async throws -> Finished
}

extension DisturbedRun {
    /// Ctrl-C for a process, which ends in good order; one that has said nothing yet has nothing to end so.
    func expectOrderlyEnd(of process: RunningProcess) async throws {
        process.signal(SIGINT)
        let ended = try await process.finish()
        let hasBegun = !ended.errors.isEmpty
        #expect(
            ended.exit == .status(0) || ended.exit == .signal(SIGINT) && !hasBegun, "\(ended.exit): \(ended.errors)")
    }
}
