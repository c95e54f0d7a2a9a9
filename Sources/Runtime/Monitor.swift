#if canImport(Glibc)
    import Glibc
#endif

/// State shared by threads that wait for each other: a lock and a condition.
///
/// Every wait has a deadline and a name; a name that is being waited for can be read at any time by `waits`.
/// `@unchecked Sendable`: the state is only touched under the lock.
public final class Monitor<State>: @unchecked Sendable {
    /// One thread's wait.
    public struct Wait: Sendable {
        /// What for.
        public let name: String
        /// Since when, on the monotonic clock.
        public let since: ContinuousClock.Instant
    }

    private var state: State
    private var waiting: [Int: Wait] = [:]
    private var nextWait = 0
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// Takes over the state.
    public init(_ state: sending State) {
        self.state = state
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Reads or changes the state and wakes everybody who waits.
    public func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Waits until `body` returns a value.
    ///
    /// - Parameters:
    ///   - name: what is waited for, as `status` shows it.
    ///   - limit: longest wait.
    ///   - body: looks at the state under the lock, again after every change; nil means not yet.
    /// - Returns: what `body` returned, or nil when the limit passed first.
    public func wait<Result>(for name: String, limit: Duration, until body: (inout State) throws -> Result?) rethrows
        -> Result?
    {
        pthread_mutex_lock(mutex)
        let key = nextWait
        nextWait += 1
        waiting[key] = Wait(name: name, since: .now)
        defer {
            waiting[key] = nil
            pthread_mutex_unlock(mutex)
        }
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let (seconds, attoseconds) = limit.components
        deadline.tv_sec += Int(seconds)
        deadline.tv_nsec += Int(attoseconds / 1_000_000_000)
        if deadline.tv_nsec >= 1_000_000_000 {
            deadline.tv_sec += 1
            deadline.tv_nsec -= 1_000_000_000
        }
        while true {
            if let result = try body(&state) { return result }
            if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT { return try body(&state) }
        }
    }

    /// Who waits for what, oldest first.
    public var waits: [Wait] {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return waiting.values.sorted { $0.since < $1.since }
    }
}
