import LibC

/// What a stream of random numbers is for; streams never overlap.
public enum NoisePurpose: UInt32, Sendable, CaseIterable {
    case initialLatents = 1
    case windowNoise = 2
    case window = 3
    case prompts = 4
    case patches = 5
    case discriminatorBatches = 6
    case weights = 7
    case evaluation = 8
    case supervised = 9
    case references = 11
    case regularization = 12
    case augmentation = 13
    case bootstrap = 19
    case tests = 99
}

/// Philox4x32-10 (Salmon et al. 2011): random numbers as a pure function of (run seed, purpose, coordinates).
///
/// No state and no global generator: the same coordinates give the same numbers in any process, on any number of
/// workers, after a crash and on replay. Key: low 32 bits of the seed xor purpose, high 32 bits. Counter: (block, a, b, c).
public struct Philox: Sendable {
    private let key: (UInt32, UInt32)
    private let coordinates: (UInt32, UInt32, UInt32)

    /// The stream at these coordinates, for example (group, member, step).
    public init(seed: UInt64, purpose: NoisePurpose, _ a: Int = 0, _ b: Int = 0, _ c: Int = 0) {
        key = (
            UInt32(truncatingIfNeeded: seed) ^ (purpose.rawValue &* 0x9E37_79B1), UInt32(truncatingIfNeeded: seed >> 32)
        )
        coordinates = (UInt32(truncatingIfNeeded: a), UInt32(truncatingIfNeeded: b), UInt32(truncatingIfNeeded: c))
    }

    /// The ten rounds: four words from a counter and a key.
    public static func block(
        counter: (UInt32, UInt32, UInt32, UInt32), key: (UInt32, UInt32)
    ) -> (UInt32, UInt32, UInt32, UInt32) {
        var (c, k) = (counter, key)
        for _ in 0..<10 {
            let product0 = UInt64(c.0) &* 0xD251_1F53
            let product1 = UInt64(c.2) &* 0xCD9E_8D57
            c = (
                UInt32(truncatingIfNeeded: product1 >> 32) ^ c.1 ^ k.0, UInt32(truncatingIfNeeded: product1),
                UInt32(truncatingIfNeeded: product0 >> 32) ^ c.3 ^ k.1, UInt32(truncatingIfNeeded: product0)
            )
            k = (k.0 &+ 0x9E37_79B9, k.1 &+ 0xBB67_AE85)
        }
        return c
    }

    /// Word `index` of the stream, uniform over 32 bits.
    public func word(_ index: Int) -> UInt32 {
        let four = Philox.block(
            counter: (UInt32(truncatingIfNeeded: index / 4), coordinates.0, coordinates.1, coordinates.2), key: key)
        switch index % 4 {
        case 0: return four.0
        case 1: return four.1
        case 2: return four.2
        default: return four.3
        }
    }

    /// Integer `index` of the stream, uniform in 0..<bound (multiply-shift; bias below bound / 2³²).
    public func integer(_ index: Int, below bound: Int) -> Int {
        precondition(bound > 0, "Philox: bound \(bound)")
        return Int((UInt64(word(index)) &* UInt64(bound)) >> 32)
    }

    /// Number `index` of the stream, uniform in (0, 1).
    public func uniform(_ index: Int) -> Double { (Double(word(index)) + 0.5) / 4_294_967_296 }

    /// Standard normal numbers by Box and Muller, computed in double precision and rounded once.
    public func normals(_ count: Int) -> [Float] {
        [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            var filled = 0
            var index: UInt32 = 0
            while filled < count {
                let w = Philox.block(counter: (index, coordinates.0, coordinates.1, coordinates.2), key: key)
                for (first, second) in [(w.0, w.1), (w.2, w.3)] where filled < count {
                    let radius = (-2 * log((Double(first) + 0.5) / 4_294_967_296)).squareRoot()
                    let angle = 2 * Double.pi * (Double(second) + 0.5) / 4_294_967_296
                    buffer[filled] = Float(radius * cos(angle))
                    filled += 1
                    if filled < count {
                        buffer[filled] = Float(radius * sin(angle))
                        filled += 1
                    }
                }
                index &+= 1
            }
            initialized = count
        }
    }

    /// A random permutation of 0..<count (Fisher-Yates).
    public func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        for (draw, last) in stride(from: count - 1, to: 0, by: -1).enumerated() {
            order.swapAt(last, integer(draw, below: last + 1))
        }
        return order
    }
}
