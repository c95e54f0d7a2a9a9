internal import DequeModule

/// Which misdeeds are reported: a peer's first, and then one a minute; of all peers at most 256 a minute. The others are counted.
struct ReportLimit {
    private static let window = Duration.seconds(60)
    private static let maximumCount = 256
    /// The reports of the last minute, oldest first, and whom they named.
    private var recent: Deque<(peer: String, time: ContinuousClock.Instant)> = []
    private var named: Set<String> = []
    private var unreportedCount = 0

    /// A misdeed of a peer.
    ///
    /// - Returns: nil when it is only counted, else how many were only counted since the last report.
    mutating func note(_ peer: String, at now: ContinuousClock.Instant) -> Int? {
        while let oldest = recent.first, now - oldest.time >= Self.window {
            recent.removeFirst()
            named.remove(oldest.peer)
        }
        guard recent.count < Self.maximumCount, named.insert(peer).inserted else {
            unreportedCount += 1
            return nil
        }
        recent.append((peer, now))
        defer { unreportedCount = 0 }
        return unreportedCount
    }
}
