/// Decides whether a process that ended is started again.
///
/// A process that a signal ended (killed, crashed, out of memory) is; one that returned a status said in its last line
/// what is wrong, and starting it again would say the same. Waits double from half a second to ten; a process that ran
/// for a minute is taken to be well again. A death by what a peer asked for does not count: the same request is refused from
/// then on (`RequestJournal`).
struct RestartPolicy: Sendable {
    /// What is done.
    enum Decision: Equatable {
        case restart(after: Duration)
        /// It returned 0: it has done its work.
        case done
        /// It failed for good.
        case giveUp
    }

    /// Restarts in a row that are tried.
    var limit = 5
    /// Time after which a process is taken to be well.
    var recovery: Duration = .seconds(60)
    private(set) var failuresInARow = 0

    init(limit: Int = 5) { self.limit = limit }

    /// Takes note of an end.
    ///
    /// - Parameter isByRequest: whether a peer's request ended the process.
    mutating func decide(_ exit: ChildExit, uptime: Duration, isByRequest: Bool = false) -> Decision {
        switch exit {
        case .status(0): return .done
        case .status: return .giveUp
        case .signal where isByRequest: return .restart(after: .milliseconds(500))
        case .signal:
            failuresInARow = uptime >= recovery ? 1 : failuresInARow + 1
            if failuresInARow > limit { return .giveUp }
            return .restart(after: min(.seconds(10), .milliseconds(500) * (1 << min(10, failuresInARow - 1))))
        }
    }
}
