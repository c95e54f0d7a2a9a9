import CZeroMQ
import LibC

/// Ends a wait of the loop from any thread: an eventfd on Linux, a pipe elsewhere.
final class Waker: Sendable {
    /// The descriptor to wait for.
    let readDescriptor: Int32
    private let writeDescriptor: Int32

    init() throws(TransportError) {
        #if os(Linux)
            readDescriptor = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
            writeDescriptor = readDescriptor
        #else
            var pair: [Int32] = [-1, -1]
            let status = pipe(&pair)
            for descriptor in pair where status == 0 {
                _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
                _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
            }
            (readDescriptor, writeDescriptor) = (pair[0], pair[1])
        #endif
        guard readDescriptor >= 0 else {
            throw TransportError(.system, "no descriptor for the socket loop: \(String(cString: strerror(errno)))")
        }
    }

    deinit {
        close(readDescriptor)
        if writeDescriptor != readDescriptor { close(writeDescriptor) }
    }

    /// Ends the current or the next wait. A full counter or pipe means that it is about to end anyway.
    func wake() {
        var one: UInt64 = 1
        _ = write(writeDescriptor, &one, 8)
    }

    /// Forgets all calls of `wake` so far.
    func drain() {
        var buffer: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        while read(readDescriptor, &buffer, 32) == 32 {}
    }
}
