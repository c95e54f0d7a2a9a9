public import SafeTensors

/// What a receiver accepts at most, checked before anything is allocated or interpreted.
public struct WireLimits: Sendable {
    /// Header, counts and ranks.
    public var tensors: SafeTensorsLimits
    /// Length of the data frame.
    public var dataByteCount: Int

    /// Makes limits.
    public init(tensors: SafeTensorsLimits = .message, dataByteCount: Int = 256 << 20) {
        self.tensors = tensors
        self.dataByteCount = dataByteCount
    }

    /// 1 MiB of header, 256 MiB of data.
    public static let standard = WireLimits()

    /// The longest frame a socket needs to let through.
    public var frameByteCount: Int {
        max(dataByteCount, tensors.headerByteCount + SafeTensorsHeader.lengthByteCount)
    }
}
