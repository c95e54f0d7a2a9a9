import Synchronization

/// What a role does with its time; the four shares always sum to the time since its start.
public enum RoleActivity: String, Sendable, CaseIterable {
    /// Computing.
    case busy
    /// Nothing to do, by the learner's decision.
    case idle
    /// Waiting for input: weights, a lease, groups.
    case starved
    /// Waiting for somebody to take a finished result.
    case blocked
}

/// Divides a role's time into busy, idle, starved and blocked.
public final class RoleClock: Sendable {
    /// Time of every activity since the clock's start.
    public struct Shares: Sendable, Equatable {
        /// Time spent computing.
        public var busy = Duration.zero
        /// Time with nothing to do.
        public var idle = Duration.zero
        /// Time waiting for input.
        public var starved = Duration.zero
        /// Time waiting for an output to be taken.
        public var blocked = Duration.zero

        /// The time since the clock's start.
        public var total: Duration { busy + idle + starved + blocked }

        /// The time of one activity.
        public subscript(activity: RoleActivity) -> Duration {
            get {
                switch activity {
                case .busy: busy
                case .idle: idle
                case .starved: starved
                case .blocked: blocked
                }
            }
            set {
                switch activity {
                case .busy: busy = newValue
                case .idle: idle = newValue
                case .starved: starved = newValue
                case .blocked: blocked = newValue
                }
            }
        }
    }

    private struct State {
        var shares = Shares()
        var activity: RoleActivity
        var since: ContinuousClock.Instant
    }

    private let state: Mutex<State>

    /// Starts the clock.
    public init(_ activity: RoleActivity = .idle, now: ContinuousClock.Instant = .now) {
        state = Mutex(State(activity: activity, since: now))
    }

    /// Changes the activity; time until now counts for the one before.
    ///
    /// - Returns: the activity before.
    @discardableResult
    public func enter(_ activity: RoleActivity, now: ContinuousClock.Instant = .now) -> RoleActivity {
        state.withLock { state in
            let before = state.activity
            state.shares[before] += max(.zero, now - state.since)
            state.since = max(now, state.since)
            state.activity = activity
            return before
        }
    }

    /// Runs `body` as one activity, then returns to the one before.
    public func during<Result>(_ activity: RoleActivity, _ body: () throws -> Result) rethrows -> Result {
        let before = enter(activity)
        defer { enter(before) }
        return try body()
    }

    /// The shares until now; they sum to the time since the start.
    public func shares(now: ContinuousClock.Instant = .now) -> Shares {
        state.withLock { state in
            var shares = state.shares
            shares[state.activity] += max(.zero, now - state.since)
            return shares
        }
    }
}

extension Duration {
    /// The duration in seconds.
    public var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) * 1e-18
    }
}
