import TestSupport

/// What one connection through a `FaultyProxy` suffers.
public struct WireFault: Sendable, CustomStringConvertible {
    /// The ways a network goes wrong.
    public enum Kind: Sendable {
        /// Bytes of this direction wait, and none are lost.
        case delay
        /// Both sides get an RST.
        case reset
        /// A half-open connection: bytes of both directions vanish and nobody is told, until an RST after the pause.
        case swallow
        /// The rest of what was read is dropped, and both sides see an orderly end.
        case truncate
        /// One bit is inverted.
        case flip
    }

    /// What happens.
    public var kind: Kind
    /// Whether it happens to bytes on their way to the server.
    public var isTowardsServer: Bool
    /// Bytes of this direction that pass before it; the first 700 or so are CURVE's handshake.
    public var offset: Int
    /// Length of a delay or of a half-open time.
    public var pause: Duration

    public init(_ kind: Kind, isTowardsServer: Bool, offset: Int, pause: Duration = .zero) {
        self.kind = kind
        self.isTowardsServer = isTowardsServer
        self.offset = offset
        self.pause = pause
    }

    public var description: String {
        "\(kind) \(isTowardsServer ? "to" : "from") the server after \(offset) bytes (\(pause))"
    }

    /// The faults of a link's connections in the order in which they are made; later connections are left alone, so that a
    /// run ends. The same seed and link give the same faults.
    ///
    /// - Parameter link: number of the link among those of a run.
    public static func schedule(seed: UInt64, link: UInt64) -> [WireFault] {
        var generator = SplitMix(state: seed &* 1_000_003 &+ link)
        return (0..<Int.random(in: 1...5, using: &generator)).map { _ in
            let kind = [Kind.delay, .reset, .swallow, .truncate, .flip].randomElement(using: &generator) ?? .reset
            let isEarly = Int.random(in: 0..<4, using: &generator) == 0
            // As many faults between 1 and 2 KiB as between 32 and 64 KiB.
            let late = 1 << Int.random(in: 10...16, using: &generator)
            let offset = Int.random(in: isEarly ? 0...700 : late...2 * late, using: &generator)
            // One half-open connection in eight outlives the client's patience of 15 s.
            let isLong = kind == .swallow && Int.random(in: 0..<8, using: &generator) == 0
            let milliseconds = isLong ? 20_000 : Int.random(in: 10...1500, using: &generator)
            return WireFault(
                kind, isTowardsServer: Bool.random(using: &generator), offset: offset,
                pause: .milliseconds(milliseconds))
        }
    }
}
