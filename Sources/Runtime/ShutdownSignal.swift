internal import Dispatch
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#else
    internal import Darwin
#endif

/// The wish that this process ends in good order; SIGINT, SIGTERM and other parts of the process may express it.
public final class ShutdownSignal: Sendable {
    private struct State {
        var reason: String?
        var signalCount = 0
        var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter = 0
        var handlers: [@Sendable (String) -> Void] = []
    }

    private let state = Mutex(State())
    private let sources = Mutex<[Source]>([])

    /// A signal that nobody has given yet.
    public init() {}

    /// Lets SIGINT and SIGTERM ask for the end of this process.
    ///
    /// - Parameter endsOnSecond: whether a second signal ends the process at once with status 130; a supervisor has
    ///   children to end first and looks at `signalCount` itself.
    public func listen(endsOnSecond: Bool = true) {
        for (number, name) in [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")] {
            signal(number, SIG_IGN)
            let source = Source(number)
            source.dispatch.setEventHandler { [self] in
                let count = state.withLock {
                    $0.signalCount += 1
                    return $0.signalCount
                }
                if count > 1, endsOnSecond { _exit(130) }
                request(name)
            }
            source.dispatch.resume()
            sources.withLock { $0.append(source) }
        }
        // A peer or pipe that went away is an error of the call, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
    }

    /// Whether the process should end.
    public var isRequested: Bool { reason != nil }
    /// Who asked first and why, or nil.
    public var reason: String? { state.withLock { $0.reason } }
    /// Signals received so far.
    public var signalCount: Int { state.withLock { $0.signalCount } }

    /// Asks for the end; the first reason stays.
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

    /// Returns when the end is asked for or the task is cancelled.
    public func wait() async {
        let key = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let resumesNow = state.withLock { state in
                    if state.reason != nil || Task.isCancelled { return true }
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

/// A signal source that is kept alive.
///
/// `@unchecked Sendable`: configured by the thread that makes it, and only held afterwards.
private final class Source: @unchecked Sendable {
    let dispatch: any DispatchSourceSignal

    init(_ number: Int32) { dispatch = DispatchSource.makeSignalSource(signal: number, queue: .global()) }

    deinit { dispatch.cancel() }
}
