internal import LibC
internal import Platform
internal import Synchronization

/// The wish that this process ends in good order; SIGINT, SIGTERM and other parts of the process may express it.
public final class ShutdownSignal: Sendable {
    private struct State {
        var reason: String?
        var drainReason: String?
        var signalCount = 0
        var lastSignal: ContinuousClock.Instant?
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter = 0
        var handlers: [@Sendable (String) -> Void] = []

        mutating func count(at now: ContinuousClock.Instant) -> Int {
            if let lastSignal, now - lastSignal < .seconds(1) { return signalCount }
            lastSignal = now
            signalCount += 1
            return signalCount
        }
    }

    private let state = Mutex(State())

    /// A signal that nobody has given yet.
    public init() {}

    /// Lets SIGINT and SIGTERM ask for the end of this process.
    ///
    /// - Parameter endsOnSecond: whether a second signal ends the process at once with status 130; a supervisor has
    ///   children to end first and looks at `signalCount` itself.
    public func listen(endsOnSecond: Bool = true) {
        SignalPipe.read { [self] number in
            let count = state.withLock { $0.count(at: .now) }
            if count > 1, endsOnSecond { _exit(130) }
            request(number == SIGINT ? "SIGINT" : "SIGTERM")
        }
        // A peer or pipe that went away is an error of the call, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
    }

    /// Whether the process should end.
    public var isRequested: Bool { reason != nil }
    /// Who asked first and why, or nil.
    public var reason: String? { state.withLock { $0.reason } }
    /// Why the process should end once it has done what it is at, or nil.
    public var drainReason: String? { state.withLock { $0.drainReason } }
    /// Whether the process should take up nothing new.
    public var isDraining: Bool { drainReason != nil }
    /// Signals received so far; those within a second of one another are one wish: timeout(1) signals its child and then the
    /// child's whole group.
    public var signalCount: Int { state.withLock { $0.signalCount } }

    /// Asks for the end; the first reason stays.
    ///
    /// - Parameters:
    ///   - reason: what the log says.
    ///   - drains: whether what the process is at is done first; whoever only waits is woken all the same.
    public func request(_ reason: String, drains: Bool) {
        guard drains else { return request(reason) }
        let waiting = state.withLock { state in
            if state.drainReason == nil { state.drainReason = reason }
            defer { state.waiting = [:] }
            return Array(state.waiting.values)
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Asks for the end at once; the first reason stays.
    public func request(_ reason: String) {
        let (waiting, handlers) = state.withLock { state in
            guard state.reason == nil else {
                return ([CheckedContinuation<Void, Never>](), [@Sendable (String) -> Void]())
            }
            state.reason = reason
            defer {
                state.waiting = [:]
                state.handlers = []
            }
            return (Array(state.waiting.values), state.handlers)
        }
        for continuation in waiting { continuation.resume() }
        for handler in handlers { handler(reason) }
    }

    /// Runs `handler` once when the end is asked for, at once if it already was.
    public func onRequest(_ handler: @escaping @Sendable (String) -> Void) {
        let reason = state.withLock { state in
            if state.reason == nil { state.handlers.append(handler) }
            return state.reason
        }
        if let reason { handler(reason) }
    }

    /// Returns when the end is asked for, now or after what is being done, or the task is cancelled.
    public func wait() async {
        let key = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let resumesNow = state.withLock { state in
                    if state.reason != nil || state.drainReason != nil || Task.isCancelled { return true }
                    state.waiting[key] = continuation
                    return false
                }
                if resumesNow { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: key) }?.resume()
        }
    }
}

/// The writing end of the pipe that signals go through; a signal handler may do little more than write to it.
private let signalPipe = Atomic<Int32>(-1)

/// Passes SIGINT and SIGTERM from the handler, on whatever thread the kernel picked, to an ordinary thread.
///
/// Dispatch's signal sources need the signal to be ignored and blocked in every thread. Libraries start threads of their own
/// when they are loaded (OpenBLAS does), and the kernel then hands the signal to one of those, where it is lost.
private enum SignalPipe {
    private static let readers = Mutex<[@Sendable (Int32) -> Void]>([])

    /// Calls `body` with the number of every SIGINT or SIGTERM from now on.
    static func read(_ body: @escaping @Sendable (Int32) -> Void) {
        readers.withLock { $0.append(body) }
        guard signalPipe.load(ordering: .acquiring) < 0 else { return }
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { preconditionFailure("no pipe for signals: \(String(cString: strerror(errno)))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        signalPipe.store(ends[1], ordering: .releasing)
        let readEnd = ends[0]
        OSThread.start("signals") {
            var byte: UInt8 = 0
            while true {
                let count = Processes.read(readEnd, &byte)
                if count == 1 { for reader in readers.withLock({ $0 }) { reader(Int32(byte)) } }
                if count == 0 { return }
            }
        }
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                let saved = errno
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(signalPipe.load(ordering: .relaxed), &byte, 1)
                errno = saved
            }
        }
    }
}

/// One byte from a descriptor: 1, 0 at its end, -1 on an error such as an interruption.
private func read(_ descriptor: Int32, _ byte: inout UInt8) -> Int {
    LibC.read(descriptor, &byte, 1)
}
