import Foundation
import LibC
import Synchronization

/// A TCP proxy on loopback whose connections suffer stated faults; it ends with its owner.
///
/// It knows nothing of what passes: faults are placed by byte counts, so that the same faults meet the same connection
/// whenever a seed is played again.
public final class FaultyProxy: Sendable {
    /// Where it listens.
    public let port: UInt16
    private let core: Core

    private final class Core: Sendable {
        let listener: Int32
        let serverPort: UInt16
        let faults: [WireFault]
        let isStopped = Atomic(false)
        let met = Mutex<[WireFault]>([])

        init(listener: Int32, serverPort: UInt16, faults: [WireFault]) {
            self.listener = listener
            self.serverPort = serverPort
            self.faults = faults
        }

        deinit { close(listener) }
    }

    /// Begins to listen.
    ///
    /// - Parameters:
    ///   - serverPort: on loopback; nobody need listen there yet.
    ///   - faults: one for each connection, in the order in which they are made; further ones pass unharmed.
    public init(to serverPort: UInt16, faults: [WireFault]) throws {
        let (listener, port) = try Loopback.bound()
        guard listen(listener, 64) == 0 else { throw POSIXError(.EADDRINUSE) }
        self.port = port
        core = Core(listener: listener, serverPort: serverPort, faults: faults)
        Thread.detachNewThread { [core] in Self.accept(core) }
    }

    deinit { core.isStopped.store(true, ordering: .relaxed) }

    /// The faults that have happened.
    public var met: [WireFault] { core.met.withLock { $0 } }

    private static func accept(_ core: Core) {
        var count = 0
        while !core.isStopped.load(ordering: .relaxed) {
            guard Loopback.isReadable(core.listener) else { continue }
            let client = LibC.accept(core.listener, nil, nil)
            guard client >= 0 else { continue }
            guard let server = Loopback.connected(to: core.serverPort) else {
                Loopback.abort(client)
                continue
            }
            let fault = core.faults.indices.contains(count) ? core.faults[count] : nil
            count += 1
            for descriptor in [client, server] { Loopback.setSendTimeout(descriptor) }
            let connection = Connection(client: client, server: server)
            for isTowardsServer in [true, false] {
                Thread.detachNewThread {
                    Pump(
                        connection: connection, isTowardsServer: isTowardsServer,
                        fault: fault?.isTowardsServer == isTowardsServer ? fault : nil,
                        report: { fault in core.met.withLock { $0.append(fault) } },
                        isStopped: { core.isStopped.load(ordering: .relaxed) }
                    ).run()
                }
            }
        }
    }
}

/// Two sockets and what becomes of them; both are closed with the last pump.
private final class Connection: Sendable {
    enum Mode: Equatable {
        case passing
        case swallowing(until: ContinuousClock.Instant)
        case ended
    }

    let client: Int32
    let server: Int32
    private let state = Mutex(Mode.passing)

    init(client: Int32, server: Int32) {
        self.client = client
        self.server = server
    }

    deinit {
        close(client)
        close(server)
    }

    /// What to do with bytes now; a half-open time that is over ends with an RST.
    var mode: Mode {
        let mode = state.withLock { $0 }
        guard case .swallowing(let end) = mode, ContinuousClock.now >= end else { return mode }
        finish(withReset: true)
        return .ended
    }

    func swallow(for pause: Duration) { state.withLock { $0 = .swallowing(until: .now + pause) } }

    func finish(withReset: Bool) {
        state.withLock { state in
            guard state != .ended else { return }
            state = .ended
            if withReset { for descriptor in [client, server] { Loopback.setAborting(descriptor) } }
        }
    }
}

/// Carries the bytes of one direction.
private struct Pump {
    let connection: Connection
    let isTowardsServer: Bool
    var fault: WireFault?
    let report: (WireFault) -> Void
    let isStopped: () -> Bool

    func run() {
        let source = isTowardsServer ? connection.client : connection.server
        var (passed, isDone) = (0, false)
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        while connection.mode != .ended {
            if isStopped() { return connection.finish(withReset: true) }
            guard Loopback.isReadable(source) else { continue }
            let count = recv(source, &buffer, buffer.count, 0)
            guard count > 0 else { return connection.finish(withReset: count < 0) }
            guard connection.mode == .passing else { continue }
            var bytes = buffer[..<count]
            if let fault, !isDone, fault.offset < passed + count {
                isDone = true
                report(fault)
                let position = max(0, fault.offset - passed)
                switch fault.kind {
                case .delay: usleep(UInt32(fault.pause / .microseconds(1)))
                case .flip: bytes[position] ^= 1 << UInt8(fault.offset % 8)
                case .reset: return connection.finish(withReset: true)
                case .swallow:
                    connection.swallow(for: fault.pause)
                    continue
                case .truncate:
                    forward(bytes[..<position])
                    return connection.finish(withReset: false)
                }
            }
            passed += count
            forward(bytes)
        }
    }

    /// Sends all of it, unless the connection ends meanwhile.
    private func forward(_ bytes: ArraySlice<UInt8>) {
        let target = isTowardsServer ? connection.server : connection.client
        var rest = bytes
        while !rest.isEmpty, connection.mode == .passing, !isStopped() {
            let sent = rest.withUnsafeBytes { send(target, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if sent > 0 {
                rest = rest.dropFirst(sent)
            } else if errno != EAGAIN && errno != EINTR {
                return connection.finish(withReset: true)
            }
        }
    }
}

/// TCP sockets on 127.0.0.1.
public enum Loopback {
    /// A port that is free, and stays so while its server is dead: none of those that the system gives to connections and to
    /// servers that ask for any (32768 and up).
    public static func freePort() throws -> UInt16 {
        for _ in 0..<100 {
            guard let (descriptor, port) = try? bound(to: .random(in: 20_000..<32_000)) else { continue }
            close(descriptor)
            if given.withLock({ $0.insert(port).inserted }) { return port }
        }
        throw POSIXError(.EADDRINUSE)
    }

    /// Ports that were given before; their servers may be yet to start.
    private static let given = Mutex<Set<UInt16>>([])

    /// A socket bound to a port, 0 for one of the system's choice.
    static func bound(to port: UInt16 = 0) throws -> (descriptor: Int32, port: UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = address(port: port)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
            }
        }
        guard status == 0 else {
            close(descriptor)
            throw POSIXError(.EADDRNOTAVAIL)
        }
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    /// A connection; nil when nobody listens.
    static func connected(to port: UInt16) -> Int32? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = address(port: port)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            close(descriptor)
            return nil
        }
        return descriptor
    }

    /// Whether there is something to read, or an end, within 20 ms.
    static func isReadable(_ descriptor: Int32) -> Bool {
        var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&item, 1, 20) > 0
    }

    /// Makes sends give up after 50 ms, so that a pump sees the end of its connection while a peer does not read.
    static func setSendTimeout(_ descriptor: Int32) {
        var time = timeval(tv_sec: 0, tv_usec: 50_000)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    /// Makes closing send an RST.
    static func setAborting(_ descriptor: Int32) {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    /// Closes with an RST.
    static func abort(_ descriptor: Int32) {
        setAborting(descriptor)
        close(descriptor)
    }

    private static func address(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }
}
