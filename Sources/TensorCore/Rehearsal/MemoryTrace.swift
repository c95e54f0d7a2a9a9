import Synchronization

/// What memory is for.
public enum MemoryKind: String, Sendable, Codable, CaseIterable {
    /// Weights of models: copied, mapped, merged with an adapter, rearranged for the processor.
    case weights
    /// What is trained: parameters, moments, averages, gradients.
    case training
    /// What is kept between computations: features, prompts' embeddings, trajectories.
    case caches
    /// Everything a computation needs while it runs.
    case activations
}

/// The memory that a rehearsed computation takes and gives back, in order.
///
/// A rehearsal is the computation itself on a `RehearsalEngine`, which computes nothing. It runs on one thread; what `Lanes` would do
/// side by side is noted as such.
public final class MemoryTrace: Sendable {
    enum Event: Sendable {
        /// A block from the pool.
        case take(block: Int, byteCount: Int, kind: MemoryKind)
        /// A block goes back to the pool.
        case give(block: Int)
        /// Pages of a mapped file are read, and may be given back.
        case map(block: Int, byteCount: Int)
        case unmap(block: Int)
        /// Memory outside of the pool that is gone after the call.
        case passing(byteCount: Int)
        /// Memory outside of the pool that stays.
        case hold(block: Int, byteCount: Int, kind: MemoryKind)
        case release(block: Int)
        /// Pieces that run side by side, by its number among the regions.
        case region(Int)
    }

    /// Pieces that `laneCount` threads share; `pieces` are ranges of events after the region's own, the last one ends it.
    struct Region: Sendable {
        var laneCount: Int
        var pieces: [Range<Int>]
    }

    struct State: Sendable {
        var events: [Event] = []
        var regions: [Region] = []
        var isInRegion = false
        var kind = MemoryKind.activations
        var blockCount = 0
    }
    private let state = Mutex(State())

    public init() {}

    /// Everything so far.
    var recorded: (events: [Event], regions: [Region]) { state.withLock { ($0.events, $0.regions) } }

    /// What memory that is taken now is for.
    var kind: MemoryKind { state.withLock { $0.kind } }

    /// Does a part of the rehearsal whose memory is of this kind.
    public func noting<Result>(_ kind: MemoryKind, _ body: () throws -> Result) rethrows -> Result {
        let before = state.withLock { state in
            defer { state.kind = kind }
            return state.kind
        }
        defer { state.withLock { $0.kind = before } }
        return try body()
    }

    /// Notes host memory that no tensor has, as long as the result lives.
    ///
    /// - Parameters:
    ///   - byteCount: for example of a message's bytes.
    ///   - kind: what it is needed for.
    public func holding(_ byteCount: Int, _ kind: MemoryKind) -> HeldMemory {
        HeldMemory(trace: self, block: newBlock { .hold(block: $0, byteCount: byteCount, kind: kind) })
    }

    /// Notes host memory that no tensor has and that is gone again.
    public func passing(_ byteCount: Int) { add(.passing(byteCount: byteCount)) }

    func add(_ event: Event) { state.withLock { $0.events.append(event) } }

    /// Adds an event about a new block; its number.
    func newBlock(_ event: (Int) -> Event) -> Int {
        state.withLock { state in
            state.blockCount += 1
            state.events.append(event(state.blockCount))
            return state.blockCount
        }
    }

    /// Runs pieces one after the other and notes that `laneCount` threads would share them.
    func sideBySide<Result, Failure: Error>(
        lanes laneCount: Int, pieces: Int, _ body: (Int) throws(Failure) -> Result
    ) throws(Failure) -> [Result] {
        let number = state.withLock { state -> Int? in
            // Threads of threads are rare and count as one.
            guard !state.isInRegion else { return nil }
            state.isInRegion = true
            state.regions.append(Region(laneCount: laneCount, pieces: []))
            state.events.append(.region(state.regions.count - 1))
            return state.regions.count - 1
        }
        guard let number else { return try (0..<pieces).map(body) }
        defer { state.withLock { $0.isInRegion = false } }
        return try (0..<pieces).map { (piece) throws(Failure) in
            let start = state.withLock { $0.events.count }
            defer { state.withLock { $0.regions[number].pieces.append(start..<$0.events.count) } }
            return try body(piece)
        }
    }
}

extension Engine {
    /// Whether tensors have values.
    public var computes: Bool { true }

    /// Does something whose memory is of this kind; only a rehearsal takes note of it.
    public func noting<Result>(_ kind: MemoryKind, _ body: () throws -> Result) rethrows -> Result {
        guard let rehearsal = self as? RehearsalEngine else { return try body() }
        return try rehearsal.trace.noting(kind, body)
    }

    /// Memory of the host, beside that of tensors, that is gone again; only a rehearsal takes note of it.
    public func passing(_ byteCount: Int) { (self as? RehearsalEngine)?.trace.passing(byteCount) }
}

/// Host memory that a rehearsal notes as taken while this lives.
public final class HeldMemory: Sendable {
    private let trace: MemoryTrace
    private let block: Int

    fileprivate init(trace: MemoryTrace, block: Int) {
        self.trace = trace
        self.block = block
    }

    deinit { trace.add(.release(block: block)) }
}
