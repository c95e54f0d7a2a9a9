import LibC
import Synchronization

/// Memory of one tensor, owned by an engine. Never written after the tensor that holds it was handed out.
public protocol TensorBuffer: AnyObject, Sendable {
    /// Size in bytes.
    var byteCount: Int { get }
}

/// Host memory, aligned to 64 bytes, recycled through a pool: a step that repeats the shapes of the one before asks the
/// system for nothing. Or bytes of a mapped file, aligned to their elements.
///
/// `@unchecked Sendable`: an engine writes the bytes before the tensor leaves it and nobody writes them afterwards; those of a mapped
/// file are never written. `releasePages` drops a copy that the next reader finds in the file again. What is derived is locked.
public final class HostBuffer: TensorBuffer, @unchecked Sendable {
    /// First byte.
    public let pointer: UnsafeMutableRawPointer
    public let byteCount: Int
    private let owner: (any AnyObject & Sendable)?
    /// What an engine derives from these bytes and wants to keep as long as they live, packed weights for example.
    let derived = Mutex<[DerivedKey: any AnyObject & Sendable]>([:])

    /// Uninitialised bytes from the pool.
    public init(byteCount: Int) {
        self.byteCount = byteCount
        pointer = HostBufferPool.take(byteCount)
        owner = nil
    }

    /// Bytes of a file that is mapped read-only as long as `owner` lives. They are in memory only while they are read.
    ///
    /// - Precondition: the pages are a file's: `releasePages` gives them back, and they must be found there again.
    public init(mapping bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) {
        precondition(!bytes.isEmpty, "a mapped buffer without bytes")
        pointer = UnsafeMutableRawPointer(mutating: bytes.baseAddress!)  // not empty, so it has an address
        byteCount = bytes.count
        self.owner = owner
    }

    /// Whether the bytes are a mapped file's.
    var isMapped: Bool { owner != nil }

    /// After reading all of a mapped file's bytes, takes their pages out of this process; who reads them again finds them in the
    /// file. Whole pages only: the first and the last may belong to neighbours as well. Nothing happens to other memory.
    func releasePages() {
        guard isMapped else { return }
        let page = max(1, sysconf(Int32(_SC_PAGESIZE)))
        let begin = (Int(bitPattern: pointer) + page - 1) / page * page
        let end = (Int(bitPattern: pointer) + byteCount) / page * page
        guard end > begin, let start = UnsafeMutableRawPointer(bitPattern: begin) else { return }
        #if os(Linux)
            madvise(start, end - begin, MADV_DONTNEED)
        #endif
    }

    deinit {
        if owner == nil { HostBufferPool.give(pointer, byteCount) }
    }
}

/// Names a derived object of a buffer: who made it, and for which view of the bytes.
struct DerivedKey: Hashable, Sendable {
    var maker: Int
    var offset: Int
    var shape: [Int]
}

/// Free blocks of host memory by size class; classes are 1/4 of a power of two apart, so at most a quarter is unused.
public enum HostBufferPool {
    private struct State {
        var free: [Int: [UInt]] = [:]
        var systemAllocationCount = 0
        var systemByteCount = 0
    }
    private static let state = Mutex(State())

    /// How often memory was asked from the system since the process started. A steady-state step adds nothing.
    public static var systemAllocationCount: Int { state.withLock { $0.systemAllocationCount } }
    /// Bytes ever asked from the system and not given back.
    public static var systemByteCount: Int { state.withLock { $0.systemByteCount } }

    /// Returns all free blocks to the system.
    public static func trim() {
        state.withLock { state in
            for (size, blocks) in state.free {
                for block in blocks { free(UnsafeMutableRawPointer(bitPattern: block)) }
                state.systemByteCount -= size * blocks.count
            }
            state.free = [:]
        }
    }

    static func classSize(_ byteCount: Int) -> Int {
        if byteCount <= 256 { return 256 }
        let step = 1 << (Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount - 2)
        return (byteCount + step - 1) / step * step
    }

    static func take(_ byteCount: Int) -> UnsafeMutableRawPointer {
        let size = classSize(byteCount)
        return state.withLock { state in
            if let block = state.free[size]?.popLast(), let pointer = UnsafeMutableRawPointer(bitPattern: block) {
                return pointer
            }
            state.systemAllocationCount += 1
            state.systemByteCount += size
            var pointer: UnsafeMutableRawPointer?
            let alignment = size >= 4 << 20 ? 2 << 20 : 64
            guard posix_memalign(&pointer, alignment, size) == 0, let pointer else {
                fatalError("out of memory: \(size) bytes for a tensor")
            }
            #if os(Linux)
                if size >= 4 << 20 { madvise(pointer, size, MADV_HUGEPAGE) }
            #endif
            return pointer
        }
    }

    static func give(_ pointer: UnsafeMutableRawPointer, _ byteCount: Int) {
        state.withLock { $0.free[classSize(byteCount), default: []].append(UInt(bitPattern: pointer)) }
    }
}
