import LibC

/// The address of whom a connected descriptor leads to, written as libzmq writes `Peer-Address`: a numeric address, or for a
/// socket file `localhost:UID:GID:PID`.
///
/// - Returns: nil when it is not connected any more.
func peerAddress(of descriptor: Int32) -> String? {
    var storage = sockaddr_storage()
    var count = socklen_t(MemoryLayout<sockaddr_storage>.size)
    var host = [CChar](repeating: 0, count: 1025)
    let isKnown = withUnsafeMutablePointer(to: &storage) { storage in
        storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
            getpeername(descriptor, address, &count) == 0
                && getnameinfo(address, count, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) == 0
        }
    }
    guard isKnown else { return nil }
    let text = String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    #if os(Linux)
        guard storage.ss_family == sa_family_t(AF_UNIX) else { return text }
        // struct ucred, which Swift's Glibc does not show.
        var owner: (pid: Int32, uid: UInt32, gid: UInt32) = (0, 0, 0)
        var size = socklen_t(12)
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &owner, &size) == 0 else { return text }
        return "\(text):\(owner.uid):\(owner.gid):\(owner.pid)"
    #else
        return text
    #endif
}
