/// What a reader accepts at most, checked before anything is allocated.
public struct SafeTensorsLimits: Sendable {
    /// Length of the JSON header.
    public var headerByteCount: Int
    /// Number of tensors.
    public var tensorCount: Int
    /// Number of dimensions of one tensor.
    public var rank: Int
    /// Number of metadata entries.
    public var metadataCount: Int

    /// Makes limits.
    public init(headerByteCount: Int, tensorCount: Int, rank: Int, metadataCount: Int) {
        self.headerByteCount = headerByteCount
        self.tensorCount = tensorCount
        self.rank = rank
        self.metadataCount = metadataCount
    }

    /// For files the user chose: the header cap is the reference implementation's.
    public static let file = SafeTensorsLimits(
        headerByteCount: 100_000_000, tensorCount: 65_536, rank: 16, metadataCount: 65_536)

    /// For messages from the network.
    public static let message = SafeTensorsLimits(
        headerByteCount: 1 << 20, tensorCount: 4_096, rank: 8, metadataCount: 16)
}
