import Dispatch
import Platform
import Synchronization

/// The thread that makes, uses and closes every socket of a process.
///
/// Consumes: requests of `Client`s, replies to `Request`s, messages from sockets. Waits for any of them in a `WaitSet`.
/// Freed by `shutdown`. Code that runs on it (server handlers, completions) must return at once.
///
/// Its queue is bounded by what feeds it: a client keeps a limited number of requests, a server a limited number of
/// unanswered ones, and each adds at most two entries; the authenticator asks one question at a time.
public final class SocketLoop: Sendable {
    /// The way to its thread.
    let queue: LoopQueue

    /// Starts the thread.
    ///
    /// - Throws: `system`.
    public init() throws(TransportError) {
        let queue = LoopQueue(waker: try Waker())
        let waitSet = try WaitSet()
        let context = try Context.acquire()
        do throws(ThreadError) {
            _ = try OSThread(name: "zmq-loop") {
                LoopThread(context: context, queue: queue, waitSet: waitSet).run()
                Context.release()
                queue.finish()
            }
        } catch {
            Context.release()
            throw TransportError(error)
        }
        self.queue = queue
    }

    deinit { queue.stop() }

    /// Fails all requests in progress with `closed`, closes all sockets (queued replies are sent for up to three seconds) and
    /// ends the thread; returns when it has ended. May be called repeatedly.
    public func shutdown() async {
        await withCheckedContinuation { continuation in
            queue.stop()
            queue.whenFinished { continuation.resume() }
        }
    }

    /// `shutdown` for threads that may block.
    ///
    /// - Precondition: not called on the loop's own thread, which would wait for itself.
    public func shutdownBlocking() {
        let semaphore = DispatchSemaphore(value: 0)
        queue.stop()
        queue.whenFinished { semaphore.signal() }
        semaphore.wait()
    }

    /// Runs `work` on the loop's thread, soon.
    ///
    /// - Returns: false when the loop is ending; `work` is not run then.
    @discardableResult
    func submit(_ work: @escaping LoopQueue.Work) -> Bool { queue.submit(work) }

    /// Runs `work` on the loop's thread and waits for its result; for opening sockets, which takes no time.
    ///
    /// - Throws: what `work` throws, or `closed`.
    func perform<Value: Sendable>(
        _ work: @escaping @Sendable (LoopThread) throws(TransportError) -> Value
    ) throws(TransportError) -> Value {
        let outcome = Outcome<Result<Value, TransportError>>()
        let isAccepted = queue.submit { thread in
            do throws(TransportError) {
                outcome.set(.success(try work(thread)))
            } catch {
                outcome.set(.failure(error))
            }
        }
        guard isAccepted else { throw TransportError(.closed, "the socket loop has ended") }
        return try outcome.wait().get()
    }
}

/// A value that one thread sets and another waits for.
final class Outcome<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let semaphore = DispatchSemaphore(value: 0)

    func set(_ newValue: Value) {
        value.withLock { $0 = newValue }
        semaphore.signal()
    }

    /// Blocks the thread until the value is set. To be called once.
    func wait() -> Value {
        semaphore.wait()
        guard let value = value.withLock({ $0 }) else { preconditionFailure("Outcome: signalled without a value") }
        return value
    }
}

/// What other threads want from the loop's thread.
final class LoopQueue: Sendable {
    typealias Work = @Sendable (LoopThread) -> Void

    private struct State {
        var work: [Work] = []
        var isStopping = false
        var isFinished = false
        var finishActions: [@Sendable () -> Void] = []
    }

    let waker: Waker
    private let state = Mutex(State())

    init(waker: Waker) { self.waker = waker }

    func submit(_ work: @escaping Work) -> Bool {
        let (isAccepted, isFirst) = state.withLock { state in
            if !state.isStopping { state.work.append(work) }
            return (!state.isStopping, state.work.count == 1)
        }
        // The thread takes all there is after every wake, so whoever finds work waiting has been announced.
        if isAccepted && isFirst { waker.wake() }
        return isAccepted
    }

    func stop() {
        state.withLock { $0.isStopping = true }
        waker.wake()
    }

    /// What has been submitted since the last call, and whether the loop shall end after doing it.
    func take() -> (work: [Work], isStopping: Bool) {
        state.withLock { state in
            defer { state.work.removeAll(keepingCapacity: true) }
            return (state.work, state.isStopping)
        }
    }

    /// Tells everybody that the thread has done its last work.
    func finish() {
        let actions = state.withLock { state in
            state.isFinished = true
            defer { state.finishActions = [] }
            return state.finishActions
        }
        for action in actions { action() }
    }

    /// Calls `action` once the thread has done its last work, at once if it has.
    func whenFinished(_ action: @escaping @Sendable () -> Void) {
        let isFinished = state.withLock { state in
            if !state.isFinished { state.finishActions.append(action) }
            return state.isFinished
        }
        if isFinished { action() }
    }
}
