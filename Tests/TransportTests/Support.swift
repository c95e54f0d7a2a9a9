import CZeroMQ
import Foundation
import LibC
import Protocol
import SafeTensors
import Synchronization
import TestSupport
import Testing

@testable import Transport

/// The ways a client can reach a server; every conformance test runs over each.
enum Link: String, CaseIterable, CustomTestStringConvertible {
    case inproc, ipc, longIPC, tcp, curve
    var testDescription: String { rawValue }
}

/// Keys of a server and of one client it allows.
struct Keys {
    let server: CurveKeyPair
    let client: CurveKeyPair
    let allowed: CurveAllowList

    init() throws {
        server = try CurveKeyPair.generate()
        client = try CurveKeyPair.generate()
        allowed = CurveAllowList([client.publicKey: .init(name: "worker-1", role: .rolloutWorker)])
    }
}

/// A folder for socket and key files, removed with the object.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "wire-\(UInt32.random(in: 0 ... .max))").path
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The folder, or for `longIPC` one in it whose path is too long for a socket's address; the server makes it.
    func path(_ link: Link) -> String { link == .longIPC ? path + "/" + String(repeating: "long", count: 40) : path }
}

/// One server and the means to connect clients to it, each side on a loop of its own as in two processes.
final class Bench: Sendable {
    let serverLoop: SocketLoop
    let clientLoop: SocketLoop
    let server: Server
    let link: Link
    private let keys: Keys
    private let folder: TemporaryFolder

    init(
        _ link: Link, options: ServerOptions = ServerOptions(),
        handler: @escaping @Sendable (Request) -> Void = answer
    ) throws {
        self.link = link
        folder = try TemporaryFolder()
        keys = try Keys()
        serverLoop = try SocketLoop()
        clientLoop = try SocketLoop()
        var options = options
        if link == .curve { options.security = .curve(keys.server, allowed: keys.allowed) }
        let endpoint =
            switch link {
            case .inproc: "inproc://bench-\(UInt64.random(in: 0 ... .max))"
            case .ipc, .longIPC: "ipc://\(folder.path(link))/server.ipc"
            case .tcp, .curve: "tcp://127.0.0.1:0"
            }
        server = try Server(Endpoint(endpoint), on: serverLoop, options: options, handler: handler)
    }

    /// - Parameter endpoint: where it connects, if not to the server itself.
    func client(
        through endpoint: Endpoint? = nil, configure: (inout ClientOptions) -> Void = { _ in }
    ) throws -> Client {
        var options = ClientOptions()
        if link == .curve { options.security = .curve(server: keys.server.publicKey, own: keys.client) }
        configure(&options)
        return try Client(endpoint ?? server.endpoint, on: clientLoop, options: options)
    }

    /// Ends the clients' loop first, then the server's.
    func end() async {
        await clientLoop.shutdown()
        await serverLoop.shutdown()
    }
}

/// Health with a counter, scores that sum the images' bytes, and a failure for anything else.
@Sendable func answer(_ request: Request) {
    do {
        switch request.kind {
        case .healthRequest: request.reply(health())
        case .scoreRequest: request.reply(scores(for: try request.decoded()))
        default:
            request.fail(
                Failure(
                    code: FailureCode(rawValue: "unsupported"), message: "no \(request.kind) here",
                    remedy: "ask elsewhere"))
        }
    } catch {
        request.fail(Failure(code: FailureCode(rawValue: "test"), message: "\(error)"))
    }
}

func health(queueDepth: Int = 0) -> Health {
    Health(
        role: .rewardServer, serving: true, reason: "test", runID: nil, version: nil, uptimeSeconds: 1, memoryBytes: 1,
        queueDepth: queueDepth)
}

/// A hash of each member's bytes as its reward, and one component.
func scores(for request: ScoreRequest) -> Scores {
    let size = request.images.elementCount / request.images.shape[0]
    let rewards = (0..<request.images.shape[0]).map { member in
        var hasher = Hasher()
        request.images.bytes[member * size..<(member + 1) * size].withUnsafeBytes { hasher.combine(bytes: $0) }
        return Float(hasher.finalize() & 0xFFFF)
    }
    return Scores(
        discriminatorVersion: DiscriminatorVersion(rawValue: request.group.index),
        rewards: TensorPayload(floats: rewards), components: ["sum": TensorPayload(floats: rewards)])
}

/// A score request whose images are `seed`, `seed + 1`, ... per member.
func scoreRequest(seed: UInt8 = 1, members: Int = 2, side: Int = 4) -> ScoreRequest {
    let size = side * side * 3
    let bytes = SharedBytes(count: members * size) { buffer in
        for member in 0..<members {
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[member * size..<(member + 1) * size])
            part.initializeMemory(as: UInt8.self, repeating: seed &+ UInt8(truncatingIfNeeded: member))
        }
    }
    return ScoreRequest(
        group: GroupID(epoch: 0, index: Int(seed)), prompt: "p",
        images: TensorPayload(dtype: .uint8, shape: [members, side, side, 3], bytes: bytes))
}

/// A peer that sends whatever frames it likes, on the thread of the test.
final class RawPeer {
    private final class Holder {
        let socket: Socket
        init(_ socket: consuming Socket) { self.socket = socket }
    }

    private var holder: Holder?

    init(_ endpoint: Endpoint, type: Int32 = ZMQ_DEALER) throws {
        let context = try Context.acquire()
        let socket = try Socket(context, type: type, lingerMilliseconds: 0)
        try socket.connect(endpoint.description)
        holder = Holder(socket)
    }

    deinit {
        // The socket first: the context waits for it.
        holder = nil
        Context.release()
    }

    func send(_ frames: [SharedBytes]) {
        while holder?.socket.send(frames) == .full { usleep(1000) }
    }

    /// Sends, or does not when the connection takes no more.
    func trySend(_ frames: [SharedBytes]) -> Bool { holder?.socket.send(frames) == .sent }

    /// The next message within the time, or nil.
    func receive(seconds: Double = 60) -> [SharedBytes]? {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            if let message = holder?.socket.receive(maximumFrameCount: 16) { return message.frames }
            guard ContinuousClock.now < end else { return nil }
            usleep(1000)
        }
    }

    func reply(seconds: Double = 60) throws -> ReceivedMessage? {
        try receive(seconds: seconds).map { try ReceivedMessage(frames: Array($0.suffix(3))) }
    }
}

/// A TCP connection to a local port that speaks no ZeroMQ by itself.
func rawConnection(port: Int) -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
    #expect(status == 0)
    return descriptor
}

/// Counts and keeps things from any thread.
final class Log<Item: Sendable>: Sendable {
    private let items = Mutex<[Item]>([])
    func add(_ item: Item) { items.withLock { $0.append(item) } }
    var all: [Item] { items.withLock { $0 } }
    var count: Int { all.count }
    /// Takes everything out.
    func take() -> [Item] {
        items.withLock { items in
            defer { items = [] }
            return items
        }
    }
}

/// Waits until `condition` holds, up to a minute.
func eventually(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<12_000 {
        if condition() { return true }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return condition()
}

/// The error `body` throws, as an `Error` type of choice.
func failure<Failing: Error>(_ type: Failing.Type, _ body: () async throws -> Void) async -> Failing? {
    do {
        try await body()
        return nil
    } catch {
        return error as? Failing
    }
}

extension ServerOptions {
    /// The defaults with changes.
    static func with(_ change: (inout ServerOptions) -> Void) -> ServerOptions {
        var options = ServerOptions()
        change(&options)
        return options
    }
}
