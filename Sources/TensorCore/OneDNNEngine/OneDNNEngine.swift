import CKernels

/// The fast engine: oneDNN for products and convolutions, the vector kernels of `CKernels` for the rest.
///
/// fp32 and bfloat16, fp32 accumulation. A call runs on the calling thread alone and gives the same bits for the same shapes.
/// Weights are rearranged for the processor once and kept as long as their buffer lives.
public final class OneDNNEngine: Engine {
    /// The engine; compiled operations are shared by all threads.
    public static let shared = OneDNNEngine()

    public var name: String { EngineKind.oneDNN.rawValue }
    public let kernel: String
    let products = PrimitiveCache<ProductKey>()
    let convolutions = PrimitiveCache<ConvolutionKey>()

    private init() {
        let levels: [UInt32: String] = [
            kernel_baseline.rawValue: "baseline", kernel_x86_64_v3.rawValue: "x86-64-v3",
            kernel_x86_64_v4.rawValue: "x86-64-v4", kernel_avx512_bf16.rawValue: "x86-64-v4 with bf16",
            kernel_amx.rawValue: "x86-64-v4 with AMX",
        ]
        let level = levels[kernel_level_in_use().rawValue] ?? "unknown"
        let products = OneDNN.multipliesBFloat16 ? "bf16 products" : "bf16 multiplied as fp32"
        kernel = "\(OneDNN.version), \(products), kernels \(level)"
    }

    // MARK: Memory

    public func tensor(_ values: [Float], shape: [Int], dtype: DType) -> Tensor {
        precondition(values.count == shape.reduce(1, *), "tensor: \(values.count) values for shape \(shape)")
        let result = make(shape, dtype)
        values.withUnsafeBufferPointer { kernel_from_float(dtype.kernel, $0.baseAddress, $0.count, result.pointer) }
        return result.tensor
    }

    public func tensor(bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType) -> Tensor {
        HostTensors.make(bytes: bytes, shape: shape, dtype: dtype, engine: self)
    }

    public func tensor(
        mapped bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable, shape: [Int], dtype: DType
    ) -> Tensor {
        HostTensors.map(bytes, owner: owner, shape: shape, dtype: dtype, engine: self)
    }

    public func values(of x: Tensor) -> [Float] {
        [Float](unsafeUninitializedCapacity: x.count) { target, initialized in
            kernel_to_float(x.dtype.kernel, HostTensors.pointer(x), x.count, target.baseAddress)
            initialized = x.count
        }
    }

    public func bytes(of x: Tensor) -> [UInt8] { HostTensors.bytes(of: x) }

    public func convert(_ x: Tensor, to dtype: DType) -> Tensor {
        if x.dtype == dtype { return x.detached }
        let result = make(x.shape, dtype)
        switch dtype {
        case .float32:
            kernel_to_float(
                x.dtype.kernel, HostTensors.pointer(x), x.count, result.pointer.assumingMemoryBound(to: Float.self))
        case .bfloat16:
            kernel_from_float(
                dtype.kernel, HostTensors.pointer(x).assumingMemoryBound(to: Float.self), x.count, result.pointer)
        }
        (x.buffer as? HostBuffer)?.releasePages()
        return result.tensor
    }
}

extension DType {
    var kernel: kernel_type {
        switch self {
        case .float32: kernel_float32
        case .bfloat16: kernel_bfloat16
        }
    }
}

/// A tensor that its engine has yet to fill, and where.
struct Unfilled {
    let tensor: Tensor
    let pointer: UnsafeMutableRawPointer
    /// As fp32 elements.
    var floats: UnsafeMutablePointer<Float> { pointer.assumingMemoryBound(to: Float.self) }
}

extension OneDNNEngine {
    /// Uninitialised memory for a result.
    func make(_ shape: [Int], _ dtype: DType) -> Unfilled {
        let buffer = HostBuffer(byteCount: shape.reduce(1, *) * dtype.byteCount)
        return Unfilled(
            tensor: Tensor(engine: self, buffer: buffer, shape: shape, dtype: dtype), pointer: buffer.pointer)
    }

    /// Uninitialised memory of x's shape and dtype.
    func make(like x: Tensor) -> Unfilled { make(x.shape, x.dtype) }

    /// Calls `body` with the elements of x as fp32, converted for the duration of the call where they are not.
    func withFloats<Result>(_ x: Tensor?, _ body: (UnsafePointer<Float>?) -> Result) -> Result {
        guard let x else { return body(nil) }
        let floats = x.dtype == .float32 ? x : convert(x, to: .float32)
        return withExtendedLifetime(floats) {
            body(UnsafePointer(HostTensors.pointer(floats).assumingMemoryBound(to: Float.self)))
        }
    }

    /// Calls `body` with the elements of x in `dtype`, converted for the duration of the call where they are not.
    func withElements<Result>(_ x: Tensor, _ dtype: DType, _ body: (UnsafeMutableRawPointer) -> Result) -> Result {
        let elements = x.dtype == dtype ? x : convert(x, to: dtype)
        return withExtendedLifetime(elements) { body(HostTensors.pointer(elements)) }
    }

    /// Calls `body` with uninitialised fp32 scratch memory.
    func withScratch<Result>(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Result) -> Result {
        let buffer = HostBuffer(byteCount: 4 * count)
        return withExtendedLifetime(buffer) { body(buffer.pointer.assumingMemoryBound(to: Float.self)) }
    }
}

extension EngineKind {
    /// oneDNN's row.
    public static let oneDNN = EngineKind("onednn", "fp32 and bf16, fused, fast", isRehearsed: true) {
        OneDNNEngine.shared
    }
}
