/// Times in logarithmic buckets: fixed size, quantiles within 5 percent.
///
/// Bucket i holds times in [1 us x 1.1^i, 1 us x 1.1^(i+1)); 256 of them reach beyond 10 hours.
public struct LatencyHistogram: Sendable, Equatable {
    private var counts = [Int](repeating: 0, count: 256)
    /// Times counted.
    public private(set) var count = 0

    private static let growth = 1.1

    /// An empty histogram.
    public init() {}

    /// Counts one time.
    public mutating func record(_ time: Duration) {
        counts[Self.bucket(of: time / .microseconds(1))] += 1
        count += 1
    }

    /// Counts all times of another one.
    public mutating func add(_ other: LatencyHistogram) {
        for bucket in counts.indices { counts[bucket] += other.counts[bucket] }
        count += other.count
    }

    /// The time that a share of all times are within, or nil before the first.
    ///
    /// - Parameter fraction: in 0...1, for example 0.99.
    public func quantile(_ fraction: Double) -> Duration? {
        guard count > 0 else { return nil }
        let rank = max(1, Int((fraction * Double(count)).rounded(.up)))
        var seen = 0
        for (bucket, count) in counts.enumerated() {
            seen += count
            if seen >= rank { return .seconds(Self.middle(of: bucket)) }
        }
        return nil
    }

    /// Half of the times are within this one.
    public var p50: Duration? { quantile(0.5) }
    /// 99 of 100 times are within this one.
    public var p99: Duration? { quantile(0.99) }

    /// The last bucket whose lower edge is not above the time.
    private static func bucket(of microseconds: Double) -> Int {
        var low = 0
        var high = edges.count - 1
        while low < high {
            let middle = (low + high + 1) / 2
            if edges[middle] <= microseconds { low = middle } else { high = middle - 1 }
        }
        return low
    }

    private static let edges: [Double] = {
        var edges = [1.0]
        while edges.count < 256 { edges.append(edges[edges.count - 1] * growth) }
        return edges
    }()

    private static func middle(of bucket: Int) -> Double { edges[bucket] * (1 + growth) / 2 * 1e-6 }
}

/// The last one to two thousand times: a server that was slow last week and is quick now is quick.
public struct RecentLatencies: Sendable, Equatable {
    private static let capacity = 1024
    private var older = LatencyHistogram()
    private var newer = LatencyHistogram()

    /// No time yet.
    init() {}

    mutating func record(_ time: Duration) {
        if newer.count == Self.capacity { (older, newer) = (newer, LatencyHistogram()) }
        newer.record(time)
    }

    private var all: LatencyHistogram {
        var all = older
        all.add(newer)
        return all
    }

    /// Times counted.
    public var count: Int { older.count + newer.count }
    /// Half of the times are within this one; nil before the first.
    public var p50: Duration? { all.p50 }
    /// 99 of 100 times are within this one; nil before the first.
    public var p99: Duration? { all.p99 }
}
