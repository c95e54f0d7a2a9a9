internal import Synchronization

/// What a role does with its time: every second since its start counts for one of these.
public protocol RoleActivity: RawRepresentable<String>, CaseIterable, Hashable, Sendable {
    /// One phrase, for docs/metrics.md.
    var meaning: String { get }
}

/// Divides the time since a role's start among its activities.
public final class RoleClock<Activity: RoleActivity>: Sendable {
    private struct State {
        var times: [Activity: Duration] = [:]
        var activity: Activity
        var since: ContinuousClock.Instant
    }

    private let state: Mutex<State>

    /// Starts the clock.
    public init(_ activity: Activity, now: ContinuousClock.Instant = .now) {
        state = Mutex(State(activity: activity, since: now))
    }

    /// Changes the activity; time until now counts for the one before.
    ///
    /// - Returns: the activity before.
    @discardableResult
    public func enter(_ activity: Activity, now: ContinuousClock.Instant = .now) -> Activity {
        state.withLock { state in
            let before = state.activity
            state.times[before, default: .zero] += max(.zero, now - state.since)
            state.since = max(now, state.since)
            state.activity = activity
            return before
        }
    }

    /// The time of every activity so far; all of them together are the time since the start.
    public func times(now: ContinuousClock.Instant = .now) -> [Activity: Duration] {
        state.withLock { state in
            var times = state.times
            times[state.activity, default: .zero] += max(.zero, now - state.since)
            return times
        }
    }

    /// Seconds of every activity so far, by its name, as they travel.
    public func seconds(now: ContinuousClock.Instant = .now) -> [String: Double] {
        Dictionary(uniqueKeysWithValues: times(now: now).map { ($0.key.rawValue, $0.value.seconds) })
    }
}

extension Duration {
    /// The duration in seconds.
    public var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) * 1e-18
    }
}
