/// Where a server listens: `ipc://PATH`, `tcp://HOST:PORT` or `inproc://NAME`.
public struct Endpoint: Sendable, Hashable, CustomStringConvertible {
    /// The three ways to reach a server.
    public enum Address: Sendable, Hashable {
        /// A socket file on this machine.
        case ipc(path: String)
        /// A host name or address and a port; port 0 lets a server choose a free one.
        case tcp(host: String, port: Int)
        /// A name within this process.
        case inproc(name: String)
    }

    /// The way and its details.
    public let address: Address

    /// The longest path a socket file can have, in bytes.
    public static let maximumPathByteCount = 107

    /// Reads an endpoint.
    ///
    /// - Throws: `invalidEndpoint`, saying which form was expected.
    public init(_ text: String) throws(TransportError) {
        func invalid(_ reason: String, _ remedy: String? = nil) -> TransportError {
            TransportError(.invalidEndpoint, "endpoint \(text.debugDescription): \(reason)", remedy: remedy)
        }
        guard let scheme = ["ipc://", "tcp://", "inproc://"].first(where: text.hasPrefix) else {
            throw invalid("unknown kind", "write ipc://PATH, tcp://HOST:PORT or inproc://NAME")
        }
        let rest = String(text.dropFirst(scheme.count))
        guard !rest.isEmpty, !rest.utf8.contains(0) else { throw invalid("nothing follows \(scheme)") }
        switch scheme {
        case "ipc://":
            guard rest.utf8.count <= Self.maximumPathByteCount else {
                throw invalid(
                    "the path has \(rest.utf8.count) bytes, a socket file can have \(Self.maximumPathByteCount)",
                    "choose a shorter path, for example below /tmp or $XDG_RUNTIME_DIR")
            }
            address = .ipc(path: rest)
        case "inproc://": address = .inproc(name: rest)
        default:
            guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]),
                (0...65_535).contains(port)
            else { throw invalid("expected tcp://HOST:PORT with a port from 0 to 65535") }
            var host = String(rest[..<colon])
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = String(host.dropFirst().dropLast())
            } else if host.contains(":") {
                throw invalid("an IPv6 address is written in brackets", "write tcp://[ADDRESS]:PORT")
            }
            guard !host.isEmpty, !host.contains(where: { $0.isWhitespace || "/;@[]".contains($0) }) else {
                throw invalid("the host is missing or malformed")
            }
            address = .tcp(host: host, port: port)
        }
    }

    /// The text, as `init` reads it.
    public var description: String {
        switch address {
        case .ipc(let path): "ipc://\(path)"
        case .inproc(let name): "inproc://\(name)"
        case .tcp(let host, let port): host.contains(":") ? "tcp://[\(host)]:\(port)" : "tcp://\(host):\(port)"
        }
    }

    /// Whether other machines can reach a server that listens here.
    public var isReachableFromOutside: Bool {
        guard case .tcp(let host, _) = address else { return false }
        let octets = host.split(separator: ".", omittingEmptySubsequences: false)
        let isLoopback4 = octets.count == 4 && octets[0] == "127" && octets.allSatisfy { UInt8($0) != nil }
        return !(isLoopback4 || host == "localhost" || host == "::1")
    }

    /// What `zmq_bind` wants: a numeric address, and `*` for a free port.
    var bindText: String {
        guard case .tcp(let host, let port) = address else { return description }
        let numeric = host == "localhost" ? "127.0.0.1" : host
        return "tcp://\(numeric.contains(":") ? "[\(numeric)]" : numeric):\(port == 0 ? "*" : String(port))"
    }

    /// Whether libzmq must be told to use IPv6.
    var needsIPv6: Bool {
        guard case .tcp(let host, _) = address else { return false }
        return host.contains(":")
    }
}
