import Synchronization

/// Times of requests in logarithmic buckets: fixed size, quantiles within 5 percent.
///
/// Bucket i holds times in [1 us x 1.1^i, 1 us x 1.1^(i+1)); 256 of them reach beyond 10 hours.
public final class LatencyHistogram: Sendable {
    private struct State {
        var counts = [Int](repeating: 0, count: 256)
        var total = 0
    }

    private static let growth = 1.1
    private let state = Mutex(State())

    /// An empty histogram.
    public init() {}

    /// Counts one time.
    public func record(_ time: Duration) {
        let bucket = Self.bucket(of: time.seconds * 1e6)
        state.withLock {
            $0.counts[bucket] += 1
            $0.total += 1
        }
    }

    /// Times counted.
    public var count: Int { state.withLock { $0.total } }

    /// The time within which a share of the requests were answered, or nil before the first.
    ///
    /// - Parameter fraction: in 0...1, for example 0.99.
    public func quantile(_ fraction: Double) -> Duration? {
        state.withLock { state in
            guard state.total > 0 else { return nil }
            let rank = max(1, Int((fraction * Double(state.total)).rounded(.up)))
            var seen = 0
            for (bucket, count) in state.counts.enumerated() {
                seen += count
                if seen >= rank { return .seconds(Self.middle(of: bucket)) }
            }
            return nil
        }
    }

    /// Half of the requests were answered within this time.
    public var p50: Duration? { quantile(0.5) }
    /// 99 of 100 requests were answered within this time.
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
