import CZeroMQ

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#else
    import Darwin
#endif

/// A thread of the operating system, for code that blocks: never one of the cooperative pool's.
struct OSThread: @unchecked Sendable {
    // Sendable: a pthread_t is a name; `join` is called once, by whoever ends the thread's work.
    private let handle: pthread_t

    private final class Body {
        let name: String
        let run: @Sendable () -> Void
        init(name: String, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - name: at most 15 bytes, shown by `top -H` and debuggers.
    ///   - run: what the thread does; the thread ends when it returns.
    /// - Throws: `system` when the machine has no thread left.
    init(name: String, run: @escaping @Sendable () -> Void) throws(TransportError) {
        let body = Unmanaged.passRetained(Body(name: name, run: run)).toOpaque()
        #if canImport(Darwin)
            var thread: pthread_t?
            let status = pthread_create(&thread, nil, { Self.enter($0) }, body)
        #else
            var thread = pthread_t()
            let status = pthread_create(&thread, nil, { $0.flatMap(OSThread.enter) }, body)
        #endif
        guard status == 0 else {
            Unmanaged<Body>.fromOpaque(body).release()
            throw TransportError(.system, "no thread for \(name): \(String(cString: strerror(status)))")
        }
        #if canImport(Darwin)
            handle = thread!  // pthread_create succeeded
        #else
            handle = thread
        #endif
    }

    /// Lets the thread clean up after itself; instead of `join`.
    func detach() { pthread_detach(handle) }

    /// Waits until the thread has ended. To be called once.
    func join() { pthread_join(handle, nil) }

    private static func enter(_ argument: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
        let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
        #if os(Linux)
            advgrpo_name_thread(body.name)
        #endif
        body.run()
        return nil
    }
}
