import LibC

/// State shared by threads that wait for each other: a lock and a condition.
///
/// Every wait has a deadline and a name; a name that is being waited for can be read at any time by `waits`.
/// Whoever changes the state looks, for those who wait, whether it is what they wait for: most changes are not, and waking a
/// thread to find that out costs more than the look.
/// `@unchecked Sendable`: the state is only touched under the lock.
public final class SharedState<State>: @unchecked Sendable {
    /// One thread's wait.
    public struct Wait: Sendable {
        /// What for.
        public let name: String
        /// Since when, on the monotonic clock.
        public let since: ContinuousClock.Instant
    }

    private var state: State
    /// By number, in order of arrival; `look` says whether what is waited for has come.
    private var waiting: [Int: (wait: Wait, look: (inout State) -> Bool)] = [:]
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

    /// Reads or changes the state, and wakes whoever waited for what it has become.
    public func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(mutex)
        defer {
            var hasFound = false
            for number in waiting.keys.sorted() {
                if let look = waiting[number]?.look, look(&state) { hasFound = true }
            }
            if hasFound { pthread_cond_broadcast(condition) }
            pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Waits until `body` returns a value.
    ///
    /// - Parameters:
    ///   - name: what is waited for, as `status` shows it.
    ///   - limit: longest wait.
    ///   - body: looks at the state under the lock, now and after every change, then on the thread that made it; nil means
    ///     not yet.
    /// - Returns: what `body` returned, or nil when the limit passed first.
    public func wait<Result, Failure: Error>(
        for name: String, limit: Duration, until body: (inout State) throws(Failure) -> Result?
    ) throws(Failure) -> Result? {
        var found: Swift.Result<Result, Failure>?
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let (seconds, attoseconds) = limit.components
        deadline.tv_sec += Int(seconds)
        deadline.tv_nsec += Int(attoseconds / 1_000_000_000)
        if deadline.tv_nsec >= 1_000_000_000 {
            deadline.tv_sec += 1
            deadline.tv_nsec -= 1_000_000_000
        }
        withoutActuallyEscaping(body) { body in
            let look: (inout State) -> Bool = { state in
                guard found == nil else { return false }
                do throws(Failure) {
                    found = try body(&state).map { .success($0) }
                } catch {
                    found = .failure(error)
                }
                return found != nil
            }
            let number = nextWait
            nextWait += 1
            guard !look(&state) else { return }
            waiting[number] = (Wait(name: name, since: .now), look)
            while found == nil, pthread_cond_timedwait(condition, mutex, &deadline) != ETIMEDOUT {}
            waiting[number] = nil
        }
        return try found?.get()
    }

    /// Who waits for what, oldest first.
    public var waits: [Wait] {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return waiting.values.map(\.wait).sorted { $0.since < $1.since }
    }
}
