/// An engine that computes nothing: its tensors have shapes, and take and give back the memory that the fast engine's would,
/// which goes into a trace. For finding out beforehand what a computation needs.
///
/// All elements read as zero. Where the fast engine converts an operand or needs scratch memory, so does this one; layouts of weights
/// and scratch memory of products and convolutions are those that oneDNN names. To be used from one thread.
public final class RehearsalEngine: Engine {
    public let name = "rehearsal"
    public let kernel = "computes nothing"
    public let computes = false
    /// Where the memory is noted.
    public let trace: MemoryTrace
    let productMemory = PrimitiveMemories<ProductKey>()
    let convolutionMemory = PrimitiveMemories<ConvolutionKey>()

    public init(trace: MemoryTrace) { self.trace = trace }

    // MARK: Memory

    public func tensor(_ values: [Float], shape: [Int], dtype: DType) -> Tensor {
        precondition(values.count == shape.reduce(1, *), "tensor: \(values.count) values for shape \(shape)")
        trace.passing(4 * values.count)
        return make(shape, dtype)
    }

    public func tensor(bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType) -> Tensor { make(shape, dtype) }

    public func tensor(
        mapped bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, shape: [Int], dtype: DType
    ) -> Tensor {
        let buffer = RehearsalBuffer(mapping: bytes.count, trace: trace)
        return Tensor(engine: self, buffer: buffer, shape: shape, dtype: dtype)
    }

    public func values(of x: Tensor) -> [Float] {
        trace.passing(4 * x.count)
        read(x)
        return [Float](repeating: 0, count: x.count)
    }

    public func bytes(of x: Tensor) -> [UInt8] {
        trace.passing(x.count * x.dtype.byteCount)
        read(x)
        return [UInt8](repeating: 0, count: x.count * x.dtype.byteCount)
    }

    public func convert(_ x: Tensor, to dtype: DType) -> Tensor {
        if x.dtype == dtype { return x.detached }
        let result = make(x.shape, dtype)
        read(x)
        (x.buffer as? RehearsalBuffer)?.releasePages()
        return result
    }
}

/// A buffer without bytes.
final class RehearsalBuffer: TensorBuffer {
    let byteCount: Int
    let isMapped: Bool
    let kind: MemoryKind
    private let trace: MemoryTrace
    private let block: Int
    /// What the fast engine keeps beside the bytes as long as they live.
    let derived = Derived()

    /// Uninitialised bytes from the pool.
    init(byteCount: Int, trace: MemoryTrace, kind: MemoryKind? = nil) {
        let kind = kind ?? trace.kind
        self.byteCount = byteCount
        self.trace = trace
        self.kind = kind
        isMapped = false
        block = trace.newBlock { .take(block: $0, byteCount: byteCount, kind: kind) }
    }

    /// Bytes of a mapped file, not read yet.
    init(mapping byteCount: Int, trace: MemoryTrace) {
        self.byteCount = byteCount
        self.trace = trace
        kind = .weights
        isMapped = true
        block = trace.newBlock { .unmap(block: $0) }
    }

    /// Notes that some of a mapped file's bytes are read.
    func read(_ count: Int) {
        if isMapped { trace.add(.map(block: block, byteCount: count)) }
    }

    /// As of `HostBuffer`.
    func releasePages() {
        if isMapped { trace.add(.unmap(block: block)) }
    }

    deinit { trace.add(isMapped ? .unmap(block: block) : .give(block: block)) }
}

extension RehearsalEngine {
    /// Memory for a result.
    func make(_ shape: [Int], _ dtype: DType) -> Tensor {
        Tensor(
            engine: self, buffer: RehearsalBuffer(byteCount: shape.reduce(1, *) * dtype.byteCount, trace: trace),
            shape: shape, dtype: dtype)
    }

    /// Memory of x's shape and dtype.
    func make(like x: Tensor) -> Tensor { make(x.shape, x.dtype) }

    /// Notes that all of a tensor is read.
    func read(_ x: Tensor) { (x.buffer as? RehearsalBuffer)?.read(x.count * x.dtype.byteCount) }

    /// A tensor's elements in a dtype: itself, or a copy for as long as the result lives.
    func elements(_ x: Tensor, _ dtype: DType) -> Tensor {
        if x.dtype != dtype { return convert(x, to: dtype) }
        read(x)
        return x
    }

    /// The same in fp32.
    func floats(_ x: Tensor?) -> Tensor? { x.map { elements($0, .float32) } }

    /// Scratch memory for as long as the result lives.
    func scratch(_ byteCount: Int) -> RehearsalBuffer { RehearsalBuffer(byteCount: byteCount, trace: trace) }

    /// Memory that is there until now.
    func used(_ memory: Any?...) { withExtendedLifetime(memory) {} }
}
