import CZeroMQ
import LibC
import Synchronization

/// Descriptors that are waited for together, each under its owner's number: epoll on Linux, where a wait costs what has happened
/// and not what could happen, poll elsewhere.
final class WaitSet: Sendable {
    #if os(Linux)
        private let descriptor: Int32

        /// - Throws: `system`.
        init() throws(TransportError) {
            descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
            guard descriptor >= 0 else {
                throw TransportError(.system, "no descriptor for the socket loop: \(String(cString: strerror(errno)))")
            }
        }

        deinit { close(descriptor) }

        /// Adds an open descriptor.
        func add(_ member: Int32, owner: Int) {
            var event = epoll_event()
            event.events = EPOLLIN.rawValue
            event.data.u64 = UInt64(owner)
            let status = epoll_ctl(descriptor, EPOLL_CTL_ADD, member, &event)
            precondition(status == 0, "WaitSet: descriptor \(member) is refused: \(String(cString: strerror(errno)))")
        }

        /// Takes a descriptor out; one that is closed by now has gone by itself.
        func remove(_ member: Int32) {
            var event = epoll_event()
            _ = epoll_ctl(descriptor, EPOLL_CTL_DEL, member, &event)
        }

        /// Waits until something can be read; -1 waits for ever.
        ///
        /// - Returns: the owners; none when the time is over or the wait was interrupted. The rest of many is told next time.
        func wait(milliseconds: Int32) -> [Int] {
            withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 256) { events in
                let count = epoll_wait(descriptor, events.baseAddress, Int32(events.count), milliseconds)
                return events.prefix(max(0, Int(count))).map { Int($0.data.u64) }
            }
        }
    #else
        private let owners = Mutex<[Int32: Int]>([:])

        /// - Throws: nothing here.
        init() throws(TransportError) {}

        /// Adds an open descriptor.
        func add(_ member: Int32, owner: Int) { owners.withLock { $0[member] = owner } }

        /// Takes a descriptor out.
        func remove(_ member: Int32) { owners.withLock { $0[member] = nil } }

        /// Waits until something can be read; -1 waits for ever.
        ///
        /// - Returns: the owners; none when the time is over or the wait was interrupted.
        func wait(milliseconds: Int32) -> [Int] {
            let owners = owners.withLock { $0 }
            var items = owners.keys.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&items, nfds_t(items.count), milliseconds) > 0 else { return [] }
            return items.filter { $0.revents != 0 }.compactMap { owners[$0.fd] }
        }
    #endif
}
