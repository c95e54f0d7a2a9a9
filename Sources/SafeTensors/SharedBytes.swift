import LibC

/// Immutable bytes with shared ownership: tensors travel from a file, a message or a computation to a socket or another
/// file without being copied.
///
/// Whoever owns the memory (an allocation of our own, a mapped file, a ZeroMQ message, a tensor's storage) is kept alive
/// by every value and slice that refers to it.
public struct SharedBytes: @unchecked Sendable {
    // Sendable although it holds a pointer: the memory is never written after `init` returns (the promise of
    // `init(unsafe:owner:)`), and `owner` keeps it valid. Check: TransportTests with
    // --sanitize=thread report nothing here.
    private let start: UnsafeRawPointer?
    private let owner: (any AnyObject & Sendable)?

    /// Number of bytes.
    public let count: Int

    /// No bytes.
    public init() {
        start = nil
        owner = nil
        count = 0
    }

    /// Bytes of this many, written once by `initialize` before anybody can read them.
    public init<Failure: Error>(
        count: Int, initializing initialize: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        let allocation = Allocation(count: count)
        try initialize(allocation.buffer)
        self.init(unsafe: UnsafeRawBufferPointer(allocation.buffer), owner: allocation)
    }

    /// A copy of the elements' memory.
    public init<Element: BitwiseCopyable>(copying elements: [Element]) {
        self = elements.withUnsafeBytes { SharedBytes(copying: $0) }
    }

    /// A copy of `bytes`.
    public init(copying bytes: UnsafeRawBufferPointer) {
        self.init(count: bytes.count) { $0.copyMemory(from: bytes) }
    }

    /// Memory that belongs to `owner`, without a copy.
    ///
    /// - Precondition: `bytes` stays valid and unwritten as long as `owner` lives.
    public init(unsafe bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) {
        start = bytes.baseAddress
        count = bytes.count
        self.owner = owner
    }

    /// The same memory, a part of it.
    public subscript(range: Range<Int>) -> SharedBytes {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "SharedBytes: \(range) of \(count) bytes")
        return SharedBytes(start: start.map { $0 + range.lowerBound }, count: range.count, owner: owner)
    }

    /// Calls `body` with the bytes; the pointer is valid only inside, unless the value itself is kept (see `retained`).
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(owner) {} }
        return try body(UnsafeRawBufferPointer(start: start, count: count))
    }

    /// The bytes and the object that keeps them valid, for C interfaces that hold on to memory: retain the object for as
    /// long as the pointer is used.
    public var retained: (bytes: UnsafeRawBufferPointer, owner: (any AnyObject & Sendable)?) {
        (UnsafeRawBufferPointer(start: start, count: count), owner)
    }

    /// A copy as an array of bytes.
    public var array: [UInt8] { withUnsafeBytes { Array($0) } }

    /// A copy as an array of elements; the memory need not be aligned.
    ///
    /// - Precondition: `count` is a multiple of the element's size.
    public func array<Element: BitwiseCopyable>(of type: Element.Type) -> [Element] {
        let size = MemoryLayout<Element>.stride
        precondition(count % size == 0, "SharedBytes: \(count) bytes are no multiple of \(size)")
        return withUnsafeBytes { bytes in
            [Element](unsafeUninitializedCapacity: count / size) { elements, initializedCount in
                UnsafeMutableRawBufferPointer(elements).copyMemory(from: bytes)
                initializedCount = count / size
            }
        }
    }

    /// The pieces as one run of bytes; those that lie one behind the other in the same owner's memory (a single one, too) are
    /// not copied.
    public static func joined(_ pieces: [SharedBytes]) -> SharedBytes {
        let filled = pieces.filter { $0.count > 0 }
        if filled.count < 2 { return filled.first ?? SharedBytes() }
        if let run = run(of: filled) { return run }
        return SharedBytes(count: filled.reduce(0) { $0 + $1.count }) { destination in
            var offset = 0
            for piece in filled {
                piece.withUnsafeBytes {
                    UnsafeMutableRawBufferPointer(rebasing: destination[offset...]).copyMemory(from: $0)
                }
                offset += piece.count
            }
        }
    }

    /// Non-empty pieces as the one run of memory that they are; nil when they are not.
    private static func run(of pieces: [SharedBytes]) -> SharedBytes? {
        guard let start = pieces[0].start, let owner = pieces[0].owner else { return nil }
        var count = 0
        for piece in pieces {
            guard piece.start == start + count, piece.owner === owner else { return nil }
            count += piece.count
        }
        return SharedBytes(start: start, count: count, owner: owner)
    }

    private init(start: UnsafeRawPointer?, count: Int, owner: (any AnyObject & Sendable)?) {
        self.start = start
        self.count = count
        self.owner = owner
    }
}

extension SharedBytes: Equatable {
    /// Compares contents, not identity.
    public static func == (left: SharedBytes, right: SharedBytes) -> Bool {
        guard left.count == right.count, let first = left.start, let second = right.start else {
            return left.count == right.count
        }
        defer { withExtendedLifetime((left, right)) {} }
        return memcmp(first, second, left.count) == 0
    }
}

/// Memory of our own, aligned to 64 bytes for vector loads.
private final class Allocation: @unchecked Sendable {
    // Sendable: the buffer is written only before the first SharedBytes of it exists.
    let buffer: UnsafeMutableRawBufferPointer

    init(count: Int) {
        buffer = .allocate(byteCount: count, alignment: 64)
    }

    deinit { buffer.deallocate() }
}
