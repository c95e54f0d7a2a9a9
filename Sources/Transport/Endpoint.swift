import Platform

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

    /// The longest path that a socket's address can hold, in bytes; longer ones are reached through an open folder.
    static let maximumAddressByteCount = 107
    /// The longest path that the system knows, in bytes.
    static let maximumPathByteCount = 4095

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
            let path: String
            do throws(FileError) {
                path = try HomeFolder.expanded(rest)
            } catch {
                throw invalid(error.message, error.remedy)
            }
            let name = path.utf8.reversed().prefix { $0 != UInt8(ascii: "/") }
            guard path.utf8.count <= Self.maximumPathByteCount, name.count <= 80 else {
                throw invalid(
                    "the path has \(path.utf8.count) bytes and its last part \(name.count), a socket file can have "
                        + "\(Self.maximumPathByteCount) and 80",
                    "choose a shorter path, for example below /tmp or $XDG_RUNTIME_DIR")
            }
            address = .ipc(path: path)
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

    /// What `zmq_bind` wants: a numeric address, `*` for a free port, a path that is short enough.
    ///
    /// - Throws: `invalidEndpoint` for a long path without a folder.
    func bindText() throws(TransportError) -> String {
        guard case .tcp(let host, let port) = address else { return try connectText() }
        let numeric = host == "localhost" ? "127.0.0.1" : host
        return "tcp://\(numeric.contains(":") ? "[\(numeric)]" : numeric):\(port == 0 ? "*" : String(port))"
    }

    /// What `zmq_connect` wants: a path that is short enough. To be asked for anew for every connection.
    ///
    /// - Throws: `invalidEndpoint` for a long path without a folder.
    func connectText() throws(TransportError) -> String {
        guard case .ipc(let path) = address else { return description }
        return "ipc://" + (try SocketPath.short(path))
    }

    /// Whether libzmq must be told to use IPv6.
    var needsIPv6: Bool {
        guard case .tcp(let host, _) = address else { return false }
        return host.contains(":")
    }
}
