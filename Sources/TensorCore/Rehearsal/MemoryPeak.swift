/// Resident memory at its largest, by what it is for; without what the process itself takes.
public struct MemoryPeak: Sendable, Equatable {
    /// Bytes of each kind; their sum is the peak.
    public let byteCounts: [MemoryKind: Int]
    /// Those of them, weights, that are pages of mapped files: processes that map the same file share them.
    public let mappedByteCount: Int
    /// Bytes of all kinds.
    public var byteCount: Int { byteCounts.values.reduce(0, +) }
}

extension MemoryTrace {
    /// What the traced computation reaches with `HostBufferPool`, which gives nothing back, in a process of its own.
    public var peak: MemoryPeak { replayed.peak }

    /// What the pool asks from the system: `HostBufferPool.systemByteCount` after the computation, if it began empty.
    var poolByteCount: Int { replayed.askedByteCount }

    private var replayed: Replay {
        var replay = Replay()
        let (events, regions) = recorded
        replay.run(events, regions)
        return replay
    }
}

/// Plays a trace on a model of the pool: the same classes, the same order of reuse, and of each block the pages that were touched.
private struct Replay {
    private struct Block {
        var touched = 0
    }
    private struct Live {
        var block: Block
        /// Of the class, and of the pages that this use touches.
        var size: Int, byteCount: Int
        var kind: MemoryKind
    }
    private var free: [Int: [Block]] = [:]
    private var live: [Int: Live] = [:]
    private var mapped: [Int: Int] = [:]
    private var held: [Int: (byteCount: Int, kind: MemoryKind)] = [:]
    /// Pages of the pool that were ever touched; they stay.
    private var poolByteCount = 0
    /// Blocks of the pool, touched or not.
    private(set) var askedByteCount = 0
    private var mappedByteCount = 0, largestMapped = 0
    /// Memory outside of the pool: what is held, and what the system's allocator keeps of what was given back.
    private var heldByteCount = 0, keptByteCount = 0
    private var largestSum = 0
    private var largest: [MemoryKind: Int] = [:]
    private var now: [MemoryKind: Int] = [:]

    /// Activations are what the other kinds leave: blocks change hands between all of them.
    var peak: MemoryPeak {
        var byteCounts = largest
        byteCounts[.weights, default: 0] += largestMapped
        byteCounts[.activations] = 0
        byteCounts[.activations] = max(0, largestSum - byteCounts.values.reduce(0, +))
        return MemoryPeak(byteCounts: byteCounts, mappedByteCount: largestMapped)
    }

    private mutating func look(passing: Int = 0) {
        largestSum = max(largestSum, poolByteCount + mappedByteCount + max(keptByteCount, heldByteCount + passing))
    }

    mutating func run(_ events: [MemoryTrace.Event], _ regions: [MemoryTrace.Region]) {
        var position = 0
        while position < events.count {
            if case .region(let number) = events[position] {
                share(regions[number], events)
                position = max(position + 1, regions[number].pieces.last?.upperBound ?? 0)
            } else {
                apply(events[position])
                position += 1
            }
        }
    }

    /// Threads in step: each takes its next block in turn, and the next piece when it is through with one.
    private mutating func share(_ region: MemoryTrace.Region, _ events: [MemoryTrace.Event]) {
        var waiting = region.pieces[...]
        var lanes = [Range<Int>](repeating: 0..<0, count: min(region.laneCount, region.pieces.count))
        var isWorking = true
        while isWorking {
            isWorking = false
            for lane in lanes.indices {
                if lanes[lane].isEmpty, let next = waiting.popFirst() { lanes[lane] = next }
                guard let position = lanes[lane].first else { continue }
                isWorking = true
                apply(events[position])
                lanes[lane] = position + 1..<lanes[lane].upperBound
            }
        }
    }

    private mutating func apply(_ event: MemoryTrace.Event) {
        switch event {
        case .take(let number, let byteCount, let kind):
            let size = HostBufferPool.classSize(byteCount)
            var block = free[size]?.popLast() ?? newBlock(size)
            let touched = Self.touched(byteCount, of: size)
            if touched > block.touched {
                poolByteCount += touched - block.touched
                block.touched = touched
            }
            live[number] = Live(block: block, size: size, byteCount: touched, kind: kind)
            count(touched, kind)
        case .give(let number):
            guard let block = live.removeValue(forKey: number) else { return }
            free[block.size, default: []].append(block.block)
            count(-block.byteCount, block.kind)
        case .map(let number, let byteCount):
            mappedByteCount += byteCount - (mapped.updateValue(byteCount, forKey: number) ?? 0)
            largestMapped = max(largestMapped, mappedByteCount)
        case .unmap(let number): mappedByteCount -= mapped.removeValue(forKey: number) ?? 0
        case .passing(let byteCount):
            if byteCount <= Self.largestKept { keptByteCount = max(keptByteCount, heldByteCount + byteCount) }
            look(passing: byteCount)
        case .hold(let number, let byteCount, let kind):
            held[number] = (byteCount, kind)
            heldByteCount += byteCount
            count(byteCount, kind)
        case .release(let number):
            guard let memory = held.removeValue(forKey: number) else { return }
            heldByteCount -= memory.byteCount
            count(-memory.byteCount, memory.kind)
        case .region: break
        }
        look()
    }

    private mutating func newBlock(_ size: Int) -> Block {
        askedByteCount += size
        return Block()
    }

    private mutating func count(_ byteCount: Int, _ kind: MemoryKind) {
        let sum = now[kind, default: 0] + byteCount
        now[kind] = sum
        largest[kind] = max(largest[kind, default: 0], sum)
    }

    /// The system's allocator gives larger blocks back at once (glibc's `M_MMAP_THRESHOLD` at its largest).
    private static let largestKept = 32 << 20

    /// Bytes of a block's pages that `byteCount` bytes touch: huge pages in the large classes.
    private static func touched(_ byteCount: Int, of size: Int) -> Int {
        let page = size >= 4 << 20 ? 2 << 20 : 4096
        return size < page ? size : min(size, (byteCount + page - 1) / page * page)
    }
}
