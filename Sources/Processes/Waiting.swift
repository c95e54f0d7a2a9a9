import LibC
internal import Platform

/// Puts the calling thread to sleep; only for threads of our own.
public func sleepBriefly(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
    nanosleep(&time, nil)
}

extension ShutdownSignal {
    /// Sleeps, or less when the signal comes.
    public func sleep(for duration: Duration) {
        let end = ContinuousClock.now + duration
        while !isRequested, ContinuousClock.now < end { sleepBriefly(min(.milliseconds(10), end - .now)) }
    }
}

/// Milliseconds on a clock that only moves forward, from an arbitrary start.
public func monotonicMilliseconds() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
}

/// A blocking computation on a thread of its own.
public final class Background<Value: Sendable>: Sendable {
    private let result = SharedState<Result<Value, any Error>?>(nil)
    private let name: String

    /// Starts `body`.
    ///
    /// - Parameters:
    ///   - name: of the wait for its result.
    ///   - body: computes it, and may block.
    public init(_ name: String, _ body: @escaping @Sendable () throws -> Value) {
        self.name = name
        let result = result
        OSThread.start(name) { [result] in
            let outcome = Result { try body() }
            result.withLock { $0 = outcome }
        }
    }

    /// Its value, as soon as it is there.
    ///
    /// - Throws: what `body` threw.
    public func value() throws -> Value {
        while true {
            if let outcome = result.wait(for: name, limit: .seconds(3600), until: { $0 }) { return try outcome.get() }
        }
    }
}
