internal import LibC
internal import Synchronization

/// The machine has no thread left.
package struct ThreadError: Error, Sendable, CustomStringConvertible {
    /// Names the thread and the system's reason.
    package let description: String
}

/// A thread of the operating system, for code that blocks or computes: never one of the cooperative pool's.
///
/// Its stack of 16 MiB is deep enough for a model's graph. A thread that nobody has joined when its object goes gives its
/// stack back by itself when it ends.
package final class OSThread: @unchecked Sendable {
    // `@unchecked Sendable`: a pthread_t is a name, written once; `isJoined` changes atomically.
    private let handle: pthread_t
    private let isJoined = Atomic(false)

    private final class Body {
        let name: String?
        let run: @Sendable () -> Void
        init(name: String?, run: @escaping @Sendable () -> Void) {
            self.name = name
            self.run = run
        }
    }

    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - name: shown by `top -H` and debuggers, cut at 15 bytes; nil for a thread too short-lived to be looked at.
    ///   - run: what the thread does; it ends when this returns.
    package init(name: String?, _ run: @escaping @Sendable () -> Void) throws(ThreadError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, 16 << 20)
        let body = Unmanaged.passRetained(Body(name: name, run: run)).toOpaque()
        #if canImport(Darwin)
            var thread: pthread_t?
            let status = pthread_create(&thread, &attributes, { Self.enter($0) }, body)
        #else
            var thread = pthread_t()
            let status = pthread_create(&thread, &attributes, { $0.flatMap(OSThread.enter) }, body)
        #endif
        guard status == 0 else {
            Unmanaged<Body>.fromOpaque(body).release()
            throw ThreadError(
                description: "no thread \(name.map { "for \($0)" } ?? "left"): \(String(cString: strerror(status)))")
        }
        #if canImport(Darwin)
            handle = thread!  // pthread_create succeeded
        #else
            handle = thread
        #endif
    }

    /// Starts a thread that the program cannot do without: its end if there is none.
    @discardableResult
    package static func start(_ name: String?, _ run: @escaping @Sendable () -> Void) -> OSThread {
        do throws(ThreadError) {
            return try OSThread(name: name, run)
        } catch {
            preconditionFailure(error.description)
        }
    }

    /// Waits until the thread has ended. To be called once.
    package func join() {
        pthread_join(handle, nil)
        isJoined.store(true, ordering: .relaxed)
    }

    deinit {
        if !isJoined.load(ordering: .relaxed) { pthread_detach(handle) }
    }

    private static func enter(_ argument: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
        let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
        if let name = body.name { nameThread(name) }
        body.run()
        return nil
    }

    /// The kernel's own way, because prctl and pthread_setname_np are out of Swift's reach here.
    private static func nameThread(_ name: String) {
        #if os(Linux)
            let descriptor = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
            guard descriptor >= 0 else { return }
            _ = write(descriptor, name, name.utf8.count)
            close(descriptor)
        #endif
    }
}
